"""How time and memory grow with regions, objects, classes, pixels and images.

    python benchmarks/growth.py [--cases=regions,objects,...] [--width=0.25] [--repeats=5]

Every point is a process of its own that trains, or detects with, Mask R-CNN on seeded noise. Its backbone is
R18-FPN and the channels of all layers are --width of the usual ones, so that what does not depend on them
shows. The table has the seconds of a step on all processors together (median, smallest to largest; other
work on the machine changes them little), what XLA plans beside parameters and batch, and the exponent
between neighbouring points: 1 is linear growth, 0 none, and constant costs make it smaller.

Cases:
    regions: detection with 125 to 1000 proposals.
    sampled: training with 128 to 1024 regions.
    objects: training with 1 to 300 ground-truth objects.
    classes, classes-training: 80 to 1203 classes.
    pixels, pixels-training: square images of 384 to 1088 pixels a side; the exponent is by pixels.
    images, images-training: batches of 1 to 4.
"""

import argparse
import json
import math
import statistics
import sys
from typing import NamedTuple

from measuring import CLASSES, hardware, in_turns, measure, photograph, spread, table, write_figures


class Case(NamedTuple):
    """What grows.

    Attributes:
        of: Name of the quantity: a setting of the model, or "objects", "side" or "images".
        points: Its values.
        training: Whether a training step is measured, or detection.
    """

    of: str
    points: tuple[int, ...]
    training: bool = False


CASES = {
    "regions": Case("rpn.post_nms_test", (125, 250, 500, 1000)),
    "sampled": Case("regions.batch_size", (128, 256, 512, 1024), True),
    "objects": Case("objects", (1, 10, 100, 300), True),
    "classes": Case("num_classes", (80, 320, 1203)),
    "classes-training": Case("num_classes", (80, 320, 1203), True),
    "pixels": Case("side", (384, 544, 768, 1088)),
    "pixels-training": Case("side", (384, 544, 768, 1088), True),
    "images": Case("images", (1, 2, 4)),
    "images-training": Case("images", (1, 2, 4), True),
}


def exponents(sizes, values) -> list[float]:
    """log(value ratio) / log(size ratio) of neighbouring points."""
    pairs = list(zip(sizes, values, strict=True))
    return [math.log(b / a) / math.log(n / m) for (m, a), (n, b) in zip(pairs, pairs[1:], strict=False)]


def narrow(width: float, **fields):
    """torchvision's Mask R-CNN with so large a share of its channels."""
    import jaxmaskrcnn as jmr

    config = jmr.model_config("torchvision/maskrcnn_resnet50_fpn", num_classes=CLASSES)
    channels = {
        name: max(8, int(config.get(name) * width))
        for name in ("backbone.width", "neck.channels", "box.fc_dim", "mask.dim")
    }
    return config.replace(
        {
            "backbone.depth": 18,
            "backbone.norm_epsilon": 1e-5,
            "detections.score_threshold": 0.0,
            **channels,
            **fields,
        }
    )


def measure_point(case: Case, value: int, side: int, width: float, repeats: int) -> dict:
    import jax

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.config import OptimizerConfig
    from jaxmaskrcnn.models.new_models import init_model
    from jaxmaskrcnn.training import optimizer as optimizers
    from jaxmaskrcnn.training.step import init_state, jit_train_step

    given = {"objects": 10, "side": side, "images": 1}
    fields = {} if case.of in given else {case.of: value}
    given |= {case.of: value} if case.of in given else {}
    side = given["side"]
    config = narrow(width, **fields, **{"input.test_min_size": side, "input.test_max_size": side})
    image, target = photograph(side, side, given["objects"])
    model, count = init_model(config), given["images"]
    batch = jax.device_put(jmr.make_batch(model, [image] * count, [target] * count))
    if case.training:
        schedule = optimizers.learning_rate(OptimizerConfig(reference_batch_size=0), count, 1000)
        graphdef, optimizer, state = init_state(
            model,
            jmr.trainable(model),
            lambda params: optimizers.make_optimizer(
                OptimizerConfig(reference_batch_size=0), schedule, params, config
            ),
        )
        key = jax.random.key(0)
        compiled = jit_train_step(graphdef, optimizer, schedule).lower(state, batch, key).compile()

        def step():
            nonlocal state
            state, metrics = compiled(state, batch, key)
            jax.block_until_ready((state, metrics))

    else:
        batch = batch._replace(targets=None)
        compiled = jax.jit(lambda model, batch: model.detect(batch)).lower(model, batch).compile()

        def step():
            jax.block_until_ready(compiled(model, batch))

    memory = compiled.memory_analysis()
    planned = None if memory is None else memory.temp_size_in_bytes
    return {"value": value, "planned": planned} | measure(step, repeats)


def rows_of(name: str, points: list[dict]) -> list[list]:
    """The table's rows of one case, one for each point."""
    case = CASES[name]
    sizes = [p["value"] ** (2 if case.of == "side" else 1) for p in points]
    seconds = [statistics.median(p["processor_seconds"]) for p in points]
    by_time = ["", *(f"{x:.2f}" for x in exponents(sizes, seconds))]
    by_memory = [""] * len(points)
    if all(p["planned"] for p in points):
        by_memory[1:] = [f"{x:.2f}" for x in exponents(sizes, [p["planned"] for p in points])]
    return [
        [
            name,
            p["value"],
            spread(p["processor_seconds"]),
            e,
            "" if p["planned"] is None else p["planned"] >> 20,
            m,
        ]
        for p, e, m in zip(points, by_time, by_memory, strict=True)
    ]


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--points", type=int, default=9, help="as many of each case at most")
    parser.add_argument("--side", type=int, default=512, help="of the images, where they do not grow")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", help="write all figures to this json file as well")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    names = args.cases.split(",")
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        parser.error(f"--cases has {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    if args.measure is not None:
        point = measure_point(CASES[args.cases], args.measure, args.side, args.width, args.repeats)
        print(json.dumps(point))
        return
    options = [f"--side={args.side}", f"--width={args.width}", f"--repeats={args.repeats}"]
    rows, found = [], {}
    for name in names:
        commands = {
            str(value): [sys.executable, __file__, f"--cases={name}", f"--measure={value}", *options]
            for value in CASES[name].points[: args.points]
        }
        points = [rounds[0] for rounds in in_turns(commands, 1).values() if rounds[0]]
        found[name] = points
        rows += rows_of(name, points)
        print(f"{name}: {len(points)} of {len(commands)} points measured", file=sys.stderr)
    print(f"{hardware()}; {args.side} pixels, {args.width:g} of the channels, medians of {args.repeats}\n")
    print(table(["case", "value", "processor s", "exponent", "planned MiB", "exponent"], rows))
    write_figures(args.output, {"side": args.side, "width": args.width, "cases": found})


if __name__ == "__main__":
    main()
