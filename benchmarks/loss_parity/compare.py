"""This library's training losses and gradients beside those that record.py wrote, as a Markdown table.

    python benchmarks/loss_parity/compare.py DIRECTORY --model=NAME

DIRECTORY is what record.py wrote, and NAME a preset of the same library. Photographs and annotations take
the way of training: the data set builder, the Grain pipeline, and a canvas that all images share. Crowd
regions are in the batch and are dropped by the losses (`rpn.crowd` and `regions.crowd` are "drop").

A gradient's norm and cosine are those of one parameter's whole array; the table has the worst of all
parameters. Ends with an error where a loss is off by more than 1e-4, a norm by 0.1 %, or a cosine
is below 0.9999.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

LIMITS = {"loss": 1e-4, "norm": 1e-3, "cosine": 1e-4}


def worst_gradients(gradient, reference, table) -> dict:
    """The largest relative error of a norm, and of 1 - cosine, each with its parameter.

    Args:
        gradient: By this library's paths.
        reference: By the other library's names.
        table: Of that library's names.
    """
    norms, cosines, zeros = {}, {}, 0
    for name in reference:
        path, transform = table.translate(name)
        ours = gradient.pop(path).astype(np.float64).ravel()
        theirs = transform.to_model(reference[name]).astype(np.float64).ravel()
        lengths = np.linalg.norm(ours), np.linalg.norm(theirs)
        if not any(lengths):
            zeros += 1
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            norms[path] = abs(lengths[0] / lengths[1] - 1)
            cosines[path] = 1 - ours @ theirs / lengths[0] / lengths[1]
    assert not gradient, f"{min(gradient)} has no partner"
    return {
        "norm": max((error, path) for path, error in norms.items()),
        "cosine": max((error, path) for path, error in cosines.items()),
        "compared": len(norms),
        "zeros": zeros,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    import jax
    from flax import nnx

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.config import DataConfig
    from jaxmaskrcnn.convert.libraries import LIBRARIES
    from jaxmaskrcnn.data import prepare
    from jaxmaskrcnn.data.pipeline import eval_batches
    from jaxmaskrcnn.losses import LOSS_NAMES
    from jaxmaskrcnn.utils import compilation_cache

    compilation_cache.enable()
    directory = arguments.directory
    reference = json.loads((directory / "reference.json").read_text())
    config = jmr.model_config(
        arguments.model, **reference["config"], **{"rpn.crowd": "drop", "regions.crowd": "drop"}
    )
    model = jmr.load_model(directory / "weights.pth", config)
    table = LIBRARIES[reference["library"]].table(config)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(params, rest, batch):
        def total(params):
            # A copy: trained batch norm keeps statistics, which it may not change under the gradient's trace.
            losses = nnx.merge(graphdef, params, rest, copy=True).losses(batch, None)
            return sum(losses.values()), losses

        return jax.grad(total, has_aux=True)(params)

    columns = ["image", "input", "objects", "crowds", *LOSS_NAMES, "norm", "1 - cosine"]
    rows, failures, remarks = [], [], []
    with tempfile.TemporaryDirectory() as cache, jax.default_matmul_precision("highest"):
        source = prepare(directory / "instances.json", reference["images"], cache)
        for batch in eval_batches(
            source, config, DataConfig(eval_batch_size=1, max_canvases=1), targets=True
        ):
            index = int(batch.index[0])
            identity = str(source.image_ids[index])
            gradient, losses = run(params, rest, batch)
            flat = {".".join(map(str, path)): np.asarray(v[...]) for path, v in nnx.to_flat_state(gradient)}
            with np.load(directory / f"{identity}.npz") as gradients:
                worst = worst_gradients(flat, dict(gradients), table)
            theirs = reference["losses"][identity]
            errors = [abs(float(losses[name]) - theirs[name]) for name in LOSS_NAMES]
            errors = [
                error / abs(theirs[name]) if theirs[name] else error
                for name, error in zip(LOSS_NAMES, errors, strict=True)
            ]
            found = {"loss": max(errors), "norm": worst["norm"][0], "cosine": worst["cosine"][0]}
            failures += [f"{identity}: {k} {v:.1e}" for k, v in found.items() if not v <= LIMITS[k]]
            values = (
                "0 = 0" if not theirs[name] and not error else f"{error:.1e}"
                for name, error in zip(LOSS_NAMES, errors, strict=True)
            )
            height, width = batch.image_sizes[0]
            counts = source.object_counts[index], source.crowd_counts[index]
            gradients = (f"{worst[k][0]:.1e}" for k in ("norm", "cosine"))
            rows.append([identity, f"{height} x {width}", *map(str, counts), *values, *gradients])
            remarks.append(
                f"{identity}: {worst['compared']} parameters and {worst['zeros']} without a gradient on "
                f"both sides; worst norm {worst['norm'][1]}, worst cosine {worst['cosine'][1]}"
            )
            print(remarks[-1], file=sys.stderr, flush=True)
    for row in [columns, ["---"] * len(columns), *rows]:
        print("|", " | ".join(row), "|")
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
