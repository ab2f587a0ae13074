"""Memory of one training step by option, as XLA plans it and, where asked for, as it is.

    python benchmarks/memory.py [--cases=base,remat] [--run=base,remat] [--output=memory.json]

Every case is Mask R-CNN R50-FPN with torchvision's conventions, 80 classes, one image of 800 x 1333 on a
canvas of 800 x 1344 with 10 objects, float32, the stem and the first stage frozen, SGD with momentum,
but for what its name says. Its step is compiled and not run, so the table costs compile time alone. Cases
named by --run also take three steps, and their peak is the largest resident size of the process during
the last two (Linux). Each case is a process of its own.

Columns, in MiB:
    state and batch: what the step is given: parameters, momentum, the batch.
    objects: of these, the ground truth of the batch.
    kept: what the forward pass hands to the gradient beside them, before a compiler shortens it; the same
        on every kind of device.
    planned: what XLA allots beside them for the whole step on this device, with the new state in the place
        of the old one. XLA's CPU compiler computes most of bfloat16 in float32.
    resident: peak of the process under --run, with Python, the libraries and the compiled program.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from measuring import CLASSES, measure, photograph


class Case(NamedTuple):
    """What a row differs in.

    Attributes:
        says: Its name in the table.
        model: Fields of ModelConfig.
        images: Of the batch.
        objects: Ground-truth slots of an image, all of them taken.
        device_batch: Images computed at a time, 0 for all.
    """

    says: str
    model: dict = {}
    images: int = 1
    objects: int = 10
    device_batch: int = 0


_FRUGAL = {"compute.dtype": "bfloat16", "compute.remat": True, "regions.batch_size": 128}

CASES = {
    "base": Case("1 image, 10 objects"),
    "bfloat16": Case("`model.compute.dtype=bfloat16`", {"compute.dtype": "bfloat16"}),
    "remat": Case("`model.compute.remat=True`", {"compute.remat": True}),
    "rois": Case("`model.regions.batch_size=128`", {"regions.batch_size": 128}),
    "frugal": Case("all three of these", _FRUGAL),
    "unfrozen": Case("`model.backbone.freeze_at=0`", {"backbone.freeze_at": 0}),
    "polygons": Case("`model.mask.targets=polygon`", {"mask.targets": "polygon"}),
    "objects": Case("100 objects", objects=100),
    "objects_polygons": Case(
        "100 objects, `model.mask.targets=polygon`", {"mask.targets": "polygon"}, objects=100
    ),
    "batch": Case("2 images", images=2),
    "batch_apart": Case("2 images, `train.device_batch=1`", images=2, device_batch=1),
    "batch_frugal": Case("2 images, bfloat16, remat, 128 regions", _FRUGAL, images=2),
}
VERTICES = 255  # of a polygon; the most of an object in a hundred images of COCO are 221


def outline(box) -> list[float]:
    """The border of a box as one polygon of ``VERTICES`` points."""
    import numpy as np

    x1, y1, x2, y2 = map(float, box)
    corners = [0.0, 1.0, 2.0, 3.0, 4.0]
    at = np.linspace(0, 4, VERTICES, endpoint=False)
    x, y = np.interp(at, corners, [x1, x2, x2, x1, x1]), np.interp(at, corners, [y1, y1, y2, y2, y1])
    return np.stack([x, y], 1).ravel().tolist()


def kept_bytes(graphdef, state, batch) -> int:
    """Sizes of the arrays that the forward pass makes and its gradient needs.

    Parameters and the batch are needed too, but are there anyway.
    """
    import jax
    from flax import nnx
    from jax.extend.core import Var

    from jaxmaskrcnn.losses import reduce_terms

    def forward(params, rest, batch, key):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return sum(reduce_terms(model.loss_terms(batch, key)).values())

        return jax.vjp(loss, params)[1]

    jaxpr = jax.make_jaxpr(forward)(state["params"], state["rest"], batch, jax.random.key(0)).jaxpr
    made = {v for v in jaxpr.outvars if isinstance(v, Var)} - {*jaxpr.invars, *jaxpr.constvars}
    return sum(v.aval.size * v.aval.dtype.itemsize for v in made)


def measure_case(case: Case, preset: str, size: tuple[int, int], run: bool) -> dict:
    """The row of a case, sizes in bytes.

    Args:
        case: What differs.
        preset: One of ``jaxmaskrcnn.list_models()``.
        size: ``(height, width)`` of the image in pixels.
        run: Whether to take steps and measure the process as well.
    """
    import jax

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.config import OptimizerConfig
    from jaxmaskrcnn.models.new_models import init_model
    from jaxmaskrcnn.parallel.layout import Layout
    from jaxmaskrcnn.training import optimizer as optimizers
    from jaxmaskrcnn.training.compiled_step import make_train_step
    from jaxmaskrcnn.training.dry_run import compile_step
    from jaxmaskrcnn.training.step import init_state
    from jaxmaskrcnn.utils.compilation_cache import release_after_compiling

    config = jmr.model_config(
        preset, num_classes=CLASSES, **{"input.test_min_size": min(size), "input.test_max_size": max(size)}
    )
    config = config.replace({"backbone.norm_epsilon": 1e-5, **case.model})
    image, target = photograph(*size, case.objects)
    if config.mask.targets == "polygon":
        target = {**target, "polygons": [[outline(box)] for box in target["boxes"]]}
        del target["masks"]
    batch = jmr.make_batch(config, [image] * case.images, [target] * case.images)
    options = OptimizerConfig(reference_batch_size=0)
    schedule = optimizers.learning_rate(options, case.images, 1000)
    model = init_model(config)
    graphdef, optimizer, state = init_state(
        model,
        jmr.trainable(model),
        lambda params: optimizers.make_optimizer(options, schedule, params, config),
    )
    del model
    layout = Layout("jit", jax.devices()[:1])
    train_step = make_train_step(
        graphdef, optimizer, schedule, layout, batch_size=case.images, device_batch=case.device_batch
    )
    first = jax.tree.map(lambda x: x[: case.device_batch or None], batch)
    kept = kept_bytes(graphdef, state, first)
    compiled = compile_step(train_step, state, batch)
    row = {
        "device": jax.devices()[0].device_kind,
        "version": f"jax {jax.__version__}",
        "canvas": list(batch.images.shape),
        "slots": case.objects,
        "compile_s": compiled.seconds,
        "state": compiled.state,
        "objects": sum(x.nbytes for x in jax.tree.leaves(batch.targets)),
        "kept": kept,
        "planned": compiled.temporary,
        "resident": None,
        "step_s": None,
    }
    if run:
        batch, key = jax.device_put(batch), jax.random.key(0)
        train_step = release_after_compiling(compiled.executable)

        def step():
            nonlocal state
            state, metrics = train_step(state, batch, key)
            jax.block_until_ready((state, metrics))

        measured = measure(step, repeats=2)
        row |= {"resident": int(measured["peak_mib"] * 2**20), "step_s": measured["step_s"]}
    return row


def in_a_process(name: str, arguments: list[str], run: bool) -> dict | None:
    """A case measured by this script in a new process; None, with a line on stderr, where that failed."""
    flags = os.environ.get("XLA_FLAGS", "")
    if not run:
        # Memory is planned before machine code is made, and slow code is made in a fraction of the time.
        flags += " --xla_backend_optimization_level=0"
    result = subprocess.run(
        [sys.executable, __file__, f"--measure={name}", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags},
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{name}: not measured ({last})", file=sys.stderr)
        return None
    return json.loads(result.stdout.strip().splitlines()[-1])


def table(rows: dict[str, dict | None]) -> list[str]:
    """The figures as lines of Markdown.

    Args:
        rows: Of ``measure_case`` by name of the case.
    """
    told = {name: row for name, row in rows.items() if row}
    resident = any(row["resident"] for row in told.values())
    columns = ["state", "objects", "kept", "planned", *["resident"] * resident]
    heads = ["", *columns]
    heads[1] = "state and batch"
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, row in told.items():
        sizes = [row[column] for column in columns]
        cells = [
            "" if n is None else f"{n / 2**20:.2f}" if n < 10 * 2**20 else f"{n / 2**20:.0f}" for n in sizes
        ]
        lines.append("| " + " | ".join([CASES[name].says, *cells]) + " |")
    return lines


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="default: all")
    parser.add_argument("--run", default="", help="cases that also take steps; default: none")
    parser.add_argument("--preset", default="torchvision/maskrcnn_resnet50_fpn")
    parser.add_argument("--size", default="800,1333", help="height and width of the image in pixels")
    parser.add_argument("--output", help="write the figures, in bytes, to this json file as well")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    size, run = tuple(map(int, args.size.split(","))), args.run.split(",") if args.run else []
    if args.measure:
        row = measure_case(CASES[args.measure], args.preset, size, args.measure in run)
        print(json.dumps(row))
        return
    names = args.cases.split(",")
    for name in (*names, *run):
        if name not in CASES or name not in names:
            parser.error(
                f"there is no case {name!r}; choose from {', '.join(CASES if name in names else names)}"
            )
    rows = {}
    for name in names:
        rows[name] = in_a_process(
            name, [f"--preset={args.preset}", f"--size={args.size}", f"--run={args.run}"], name in run
        )
        if args.output:
            Path(args.output).write_text(json.dumps(rows, indent=1))
    first = next(filter(None, rows.values()), None)
    if first is None:
        sys.exit(1)
    canvas = " x ".join(map(str, first["canvas"][1:3]))
    print(f"{first['device']} ({platform.machine()}), {first['version']}, {canvas}, MiB\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
