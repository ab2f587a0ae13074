"""Trains once for every combination of some settings, and lists the results, the best first.

    python examples/sweep.py --config=shapes --workdir=runs/sweep \\
        --vary optimizer.learning_rate=0.02,0.05 --vary train.seed=0,1 -- --config.train.steps=200

Every combination has a workdir of its own, named after its values. What follows ``--`` goes to every run. The
same command, given again, continues where it was stopped, and trains nothing twice. On a cluster each run is
one ``jaxmaskrcnn train`` of the list that ``--list`` prints.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

from jaxmaskrcnn.cli.main import main as jaxmaskrcnn


def combinations(varied: list[str]) -> list[dict[str, str]]:
    """All combinations of ``setting=value,value``; a value with commas has another separator, ``|``."""
    choices = []
    for text in varied:
        setting, equals, values = text.partition("=")
        if not equals or not values:
            raise SystemExit(f"sweep.py: --vary {text} has no values; write --vary SETTING=VALUE,VALUE.")
        separator = "|" if "|" in values else ","
        choices.append([(setting, value) for value in values.split(separator)])
    return [dict(chosen) for chosen in itertools.product(*choices)]


def command(config: str, workdir: Path, chosen: dict[str, str], rest: list[str]) -> tuple[Path, list[str]]:
    """The workdir of a combination and the arguments of its run."""
    name = "_".join(f"{setting.rpartition('.')[2]}={value}" for setting, value in chosen.items())
    own = workdir / name.replace("/", "-")
    settings = [f"--config.{setting}={value}" for setting, value in chosen.items()]
    return own, ["train", f"--config={config}", f"--workdir={own}", *settings, *rest]


def main(argv: list[str] | None = None) -> int:
    """Runs the sweep; see the module's docstring."""
    argv = list(sys.argv[1:] if argv is None else argv)
    own, rest = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", default="shapes", help="a recipe or a Python file with get_config()")
    parser.add_argument("--workdir", default="runs/sweep", type=Path, help="folder of the runs' workdirs")
    parser.add_argument("--vary", action="append", required=True, metavar="SETTING=VALUE,VALUE")
    parser.add_argument("--metric", default="mask_AP", help="of metrics.json; default: %(default)s")
    parser.add_argument("--list", action="store_true", help="print the commands and train nothing")
    arguments = parser.parse_args(own)
    results = []
    for chosen in combinations(arguments.vary):
        workdir, words = command(arguments.config, arguments.workdir, chosen, rest)
        if arguments.list:
            print("jaxmaskrcnn", *words)
            continue
        if code := jaxmaskrcnn(words):
            return code
        metrics = json.loads((workdir / "metrics.json").read_text(encoding="utf-8"))
        results.append((metrics.get(arguments.metric), workdir))
    for value, workdir in sorted(results, key=lambda result: result[0] or 0.0, reverse=True):
        print(f"{arguments.metric} {value or 0:.3f}  {workdir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
