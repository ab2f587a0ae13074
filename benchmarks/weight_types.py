"""Weights in float32, bfloat16 activations and weights in 8 bits: AP, speed, size and loading of one model.

    python benchmarks/weight_types.py --checkpoint=MODEL --annotations=JSON --images=FOLDER
        [--model=NAME] [--rounds=3] [--images_timed=5] [--json=FILE]

Each type evaluates the whole set by COCO's metrics, and is then a `serving_function` of one image on the
smallest square canvas that holds all of the set's images at the model's test size: milliseconds of a call
(median over the rounds of the types in turns, smallest to largest), size of the saved folder's weights, and
seconds in which another process loads the folder and predicts once, its imports counted apart.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import hardware, spread, table, write_figures

TYPES = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"dtype": "float32", "weights": "int8"},
}
LOAD = """
import sys, time
began = time.perf_counter()
import jaxmaskrcnn as jmr, numpy as np
imported = time.perf_counter()
detect = jmr.load_serving(sys.argv[1])
loaded = time.perf_counter()
found = detect(*(np.full(x.shape, 64, x.dtype) for x in detect.inputs.values()))
np.asarray(found["boxes"])
print(imported - began, loaded - imported, time.perf_counter() - loaded)
"""


def as_type(model, name: str):
    """The model whose evaluation is that of the type: kernels go through 8 bits, or activations change."""
    import jax
    from flax import nnx

    from jaxmaskrcnn.inference.quantise import Quantised, quantise_all
    from jaxmaskrcnn.models.new_models import with_dtype

    if name == "bfloat16":
        return with_dtype(model, name)
    if name == "int8":
        graphdef, state = nnx.split(model)
        leaves, tree = jax.tree.flatten(state)
        kernels = [x.kernel() if isinstance(x, Quantised) else x for x in quantise_all(leaves)]
        return nnx.merge(graphdef, jax.tree.unflatten(tree, kernels))
    return model


def on_canvas(image, size, side: int):
    """Arguments of a serving function: the image resized to ``size`` in the corner of a square canvas."""
    import numpy as np
    from PIL import Image

    canvas = np.zeros((1, side, side, 3), np.uint8)
    height, width = map(int, size)
    canvas[0, :height, :width] = Image.fromarray(image).resize((width, height))
    return canvas, np.int32([[height, width]])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--model", help="preset of a checkpoint that is a file")
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images_timed", type=int, default=5)
    parser.add_argument("--json")
    arguments = parser.parse_args()

    import jax
    import numpy as np

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.config import DataConfig
    from jaxmaskrcnn.data.records.prepare import prepare
    from jaxmaskrcnn.data.transforms import round_up
    from jaxmaskrcnn.evaluation.evaluate import evaluate
    from jaxmaskrcnn.utils import compilation_cache

    compilation_cache.enable()
    model = jmr.load_model(arguments.checkpoint, arguments.model)
    figures = {name: {"ms": []} for name in TYPES}
    with tempfile.TemporaryDirectory() as temporary:
        source = prepare(arguments.annotations, arguments.images, temporary, masks=False)
        for name in TYPES:
            metrics, _ = evaluate(as_type(model, name), source, DataConfig(eval_batch_size=1))
            figures[name] |= {key: metrics[key] for key in ("box_AP", "mask_AP")}
            print(f"{name}: box AP {metrics['box_AP']:.4f}, mask AP {metrics['mask_AP']:.4f}", flush=True)
        images = [
            source[i].pixels(model.config.input.pixels)
            for i in range(min(arguments.images_timed, len(source)))
        ]
        sizes = [np.asarray(jmr.make_batch(model, [image]).image_sizes[0]) for image in images]
        side = round_up(int(np.max(sizes)), model.config.input.pad_divisor)
        inputs = [on_canvas(image, size, side) for image, size in zip(images, sizes, strict=True)]
        for name, options in TYPES.items():
            detect = jmr.serving_function(model, (side, side), **options)
            figures[name]["function"] = detect
            detect.save(Path(temporary, name))
            figures[name]["MB"] = Path(temporary, name, "weights.npz").stat().st_size / 1e6
            loaded = subprocess.run(
                [sys.executable, "-c", LOAD, str(Path(temporary, name))], capture_output=True, text=True
            )
            if loaded.returncode:
                sys.exit(loaded.stderr)
            figures[name]["load"] = [float(x) for x in loaded.stdout.split()]
            detect.compile()
        for _ in range(arguments.rounds):
            for figure in figures.values():
                for given in inputs:
                    began = time.perf_counter()
                    jax.block_until_ready(figure["function"](*given))
                    figure["ms"].append(1000 * (time.perf_counter() - began))
    for figure in figures.values():
        del figure["function"]
    print(f"{hardware()}; {len(source)} images, canvas {side} x {side}, one image a call\n")
    rows = [
        [
            name,
            f"{100 * f['box_AP']:.2f}",
            f"{100 * f['mask_AP']:.2f}",
            spread(f["ms"], 1, 0),
            f"{f['MB']:.1f}",
            *(f"{seconds:.2f}" for seconds in f["load"]),
        ]
        for name, f in figures.items()
    ]
    print(
        table(
            ["weights", "box AP", "mask AP", "ms an image", "MB", "import s", "load s", "first call s"], rows
        )
    )
    write_figures(arguments.json, figures)


if __name__ == "__main__":
    main()
