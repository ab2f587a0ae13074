"""Seconds and peak memory of the whole model, trained and applied, beside torchvision's on the same inputs.

    python benchmarks/models.py [--cases=train,inference] [--batches=1] [--size=800,1333]
        [--dtypes=float32] [--torch_python=PYTHON] [--torch_variants=plain] [--rounds=3]

Cases:
    quickstart: a training step of the quickstart's model and batch (configs/shapes.py); ours alone.
    train: a training step of torchvision's maskrcnn_resnet50_fpn, 80 classes, 10 objects an image, the
        stem and the first stage frozen, as torchvision does.
    detect: the same model from uint8 images on the device to boxes and 100 masks of 28 x 28 an image; of
        torchvision's model its last step, which pastes the masks, is left out.
    inference: the same model from uint8 images to boxes and 100 pasted masks an image at their size; no
        score threshold, so that every image has its 100.
    predictor: the same from arrays through Predictor, with reading, resizing and pasting in threads.

Ours and torchvision's run in turns, --rounds times, each time in a process of its own with --repeats
measurements. The table has the median over all (smallest to largest) and the median of the rounds' ratios.
The first call is given for the first round, which compiles, and for the later ones, which find the compiled
program in the persistent cache. Peak memory is the process's largest resident size while the measured steps
run; it was reset after the first one, so compilation does not count (Linux; elsewhere it does). GFLOP/s are
the operations of the program as XLA counts them with plain convolutions, divided by the seconds, and their
share of the rate at which the same device multiplies two matrices of 4096 x 4096. torchvision runs where it
can be imported: in this interpreter, or in the one that --torch_python names.

On a GPU a measurement is of ten steps handed over one after the other, memory is the device's, and
torchvision runs there too, its bfloat16 by autocast. --torch_variants are plain, channels_last and compiled
(channels_last with backbone and RPN head through torch.compile), separated by commas, or none.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import (
    CLASSES,
    HEIGHT,
    WIDTH,
    hardware,
    in_turns,
    measure,
    on_device,
    photograph,
    product_rate,
)

CASES = ("quickstart", "train", "detect", "inference", "predictor")
VARIANTS = ("plain", "channels_last", "compiled", "none")


def ours(case: str, batch_size: int, size: tuple[int, int], dtype: str, repeats: int) -> dict:
    """Times and memory; with no repeats the operations of a step and the device's rate instead."""
    import jax

    canvas, step, trace = program(case, batch_size, size, dtype, abstract=not repeats)
    if not repeats:
        return _operations(trace(), dtype)
    return {"canvas": canvas, "version": f"jax {jax.__version__}"} | measure(step, repeats, **on_device())


def program(case: str, batch_size: int, size: tuple[int, int], dtype: str, abstract: bool = False):
    """What is measured of ours.

    Returns:
        Shape of the batch's images, a function that takes a step, and one that traces it. Of an abstract
        program there are only shapes, and no step can be taken.
    """
    import jax

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.inference.postprocess import postprocess_batch
    from jaxmaskrcnn.models.new_models import init_model
    from jaxmaskrcnn.utils import compilation_cache
    from jaxmaskrcnn.utils.compiler_options import compiler_options

    compilation_cache.enable()
    if case == "quickstart":
        config, options, images, targets = _quickstart()
    else:
        config = jmr.model_config(
            "torchvision/maskrcnn_resnet50_fpn",
            num_classes=CLASSES,
            **{
                "backbone.norm_epsilon": 1e-5,
                "compute.dtype": dtype,
                "input.test_min_size": min(size),
                "input.test_max_size": max(size),
                "detections.score_threshold": 0.0,
            },
        )
        options = jmr.config.OptimizerConfig(reference_batch_size=0, decay_steps=())
        image, target = photograph(*size)
        images, targets = [image] * batch_size, [target] * batch_size
    if case == "predictor" and not abstract:
        predictor = jmr.Predictor(init_model(config), max_batch=batch_size)
        return [batch_size, *size, 3], lambda: predictor(images), None
    if case in ("detect", "inference", "predictor"):
        model = _abstract_model(config) if abstract else init_model(config)
        batch = jmr.make_batch(config, images)
        canvas = list(batch.images.shape)
        if case == "detect":
            batch = jax.device_put(batch)
        compiled = jax.jit(lambda model, batch: model.detect(batch), compiler_options=compiler_options())
        detect = compilation_cache.release_after_compiling(compiled)

        def step():
            detections = detect(model, jax.device_put(batch))
            if case == "detect":
                return detections
            postprocess_batch(detections, batch.image_sizes, [size] * batch_size, config, masks="bool")

        return canvas, step, lambda: compiled.trace(model, batch)

    batch = jax.device_put(jmr.make_batch(config, images, targets))
    compiled, state = _training(config, options, len(images), abstract)
    key, train_step = jax.random.key(0), compilation_cache.release_after_compiling(compiled)

    def step():
        nonlocal state
        state, metrics = train_step(state, batch, key)
        return state, metrics

    return list(batch.images.shape), step, lambda: compiled.trace(state, batch, key)


def _operations(traced, dtype: str) -> dict:
    counted = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
    return {"operations": counted["flops"], "rate": product_rate(dtype)}


def _quickstart():
    import runpy

    import numpy as np

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.training.run_config import to_model_config

    path = Path(__file__).resolve().parents[1] / "configs" / "shapes.py"
    run = runpy.run_path(str(path))["get_config"]()
    config = to_model_config(run.model, tuple(jmr.Category(i, str(i)) for i in range(3)))
    side, count = run.data.shapes.size, run.data.batch_size
    images = list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))
    mask = np.zeros((1, side, side), bool)
    mask[0, 8 : side // 2, 8 : side // 2] = True
    box = np.array([[8, 8, side // 2, side // 2]], np.float32)
    return config, run.optimizer, images, [{"boxes": box, "labels": np.array([0]), "masks": mask}] * count


def _abstract_model(config):
    import jax
    from flax import nnx

    import jaxmaskrcnn as jmr

    return jax.eval_shape(lambda: jmr.MaskRCNN(config, rngs=nnx.Rngs(0)))


def _training(config, options, count: int, abstract: bool):
    """A compiled training step and its first state; of an abstract state there are only shapes."""
    import jax

    from jaxmaskrcnn.models.new_models import init_model

    if not abstract:
        return training_of(init_model(config), options, count)
    train_step = None

    def build(model):
        nonlocal train_step
        train_step, state = training_of(model, options, count)
        return state

    state = jax.eval_shape(build, _abstract_model(config))
    return train_step, state


def training_of(model, options, count: int):
    """A compiled training step of a model, and its first state."""
    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.training import optimizer as optimizers
    from jaxmaskrcnn.training.step import init_state, jit_train_step

    schedule = optimizers.learning_rate(options, count, 1000)
    graphdef, optimizer, state = init_state(
        model,
        jmr.trainable(model),
        lambda params: optimizers.make_optimizer(options, schedule, params, model.config),
    )
    return jit_train_step(graphdef, optimizer, schedule), state


def torchvisions(
    case: str, batch_size: int, size: tuple[int, int], dtype: str, repeats: int, variant: str
) -> dict:
    import torch
    import torchvision
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Frozen batch norm and three trainable layers are what the pretrained backbone comes with.
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    model = MaskRCNN(
        backbone, num_classes=CLASSES + 1, min_size=min(size), max_size=max(size), box_score_thresh=0.0
    ).to(device)
    if variant != "plain":
        model = model.to(memory_format=torch.channels_last)
    if variant == "compiled":
        model.backbone, model.rpn.head = torch.compile(model.backbone), torch.compile(model.rpn.head)
    image, target = photograph(*size)
    image = torch.from_numpy(image).permute(2, 0, 1).float().to(device) / 255
    images = [image] * batch_size
    autocast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
    if case in ("detect", "inference", "predictor"):
        model.eval()
        if case == "detect":
            model.transform.postprocess = lambda result, *sizes: result

        def step():
            with torch.inference_mode(), autocast:
                for result in model(images):
                    if case != "detect":
                        result["masks"] > 0.5  # noqa: B015  (what a user does next, and ours has done)

    else:
        model.train()
        params = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(params, lr=1e-5, momentum=0.9, weight_decay=1e-4)
        target = {
            "boxes": torch.from_numpy(target["boxes"]).to(device),
            "labels": torch.from_numpy(target["labels"]).to(device) + 1,
            "masks": torch.from_numpy(target["masks"]).to(torch.uint8).to(device),
        }
        targets = [target] * batch_size

        def step():
            optimizer.zero_grad()
            with autocast:
                loss = sum(model(images, targets).values())
            loss.backward()
            optimizer.step()

    told = {}
    if device == "cuda":
        told = {
            "wait": lambda _: torch.cuda.synchronize(),
            "steps": 10,
            "device_peak": lambda: torch.cuda.max_memory_allocated() / 2**20,
        }
    canvas = [batch_size, *(-(-side // 32) * 32 for side in size), 3]
    version = f"torchvision {torchvision.__version__}" + ("" if variant == "plain" else f", {variant}")
    return {"canvas": canvas, "version": version} | measure(step, repeats, **told)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default="train,inference")
    parser.add_argument("--batches", default="1", help="images in a batch, separated by commas")
    parser.add_argument("--size", default=f"{HEIGHT},{WIDTH}", help="height and width of the images")
    parser.add_argument("--dtypes", default="float32", help="float32, bfloat16 or both, separated by a comma")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--torch_variants", default="plain", help=", ".join(VARIANTS))
    parser.add_argument("--operations", type=int, default=1, help="0: no column of GFLOP/s, in less time")
    parser.add_argument("--output", help="write the figures to this json file as well")
    parser.add_argument("--measure", choices=("jaxmaskrcnn", "torchvision"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = tuple(int(x) for x in args.size.split(","))
    unknown = sorted(set(args.cases.split(",")) - set(CASES))
    if unknown:
        parser.error(f"--cases has {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    if args.measure:
        given = (args.cases, int(args.batches), size, args.dtypes, args.repeats)
        figures = ours(*given) if args.measure == "jaxmaskrcnn" else torchvisions(*given, args.torch_variants)
        print(json.dumps(figures))
        return
    print(f"{hardware()}; {args.rounds} rounds of {args.repeats}\n")
    print(
        "| case | batch | type | library | first s (cached) | s (smallest to largest) | images/s | peak MiB "
        "| GFLOP/s (share) | ours is faster by |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    everything = []
    for case in args.cases.split(","):
        for batch in args.batches.split(",") if case != "quickstart" else ["1"]:
            for dtype in args.dtypes.split(",") if case != "quickstart" else ["float32"]:
                everything += _compare(case, batch, dtype, args)
    if args.output:
        Path(args.output).write_text(json.dumps({"hardware": hardware(), "rows": everything}, indent=1))


def _compare(case: str, batch: str, dtype: str, args) -> list[dict]:
    """Measures one row of each library and prints it."""
    options = [
        f"--cases={case}", f"--batches={batch}", f"--dtypes={dtype}", f"--size={args.size}",
        f"--repeats={args.repeats}",
    ]  # fmt: skip
    commands = {"jaxmaskrcnn": [sys.executable, __file__, "--measure=jaxmaskrcnn", *options]}
    for variant in args.torch_variants.split(",") if case != "quickstart" else ():
        if variant == "none":
            continue
        command = [args.torch_python, __file__, "--measure=torchvision", *options]
        commands[f"torchvision {variant}"] = [*command, f"--torch_variants={variant}"]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache  # an empty one, so that the first round compiles
        results = in_turns(commands, args.rounds)
        count = [*commands["jaxmaskrcnn"], "--repeats=0"]
        counted = in_turns({"operations": count}, 1)["operations"][0] if args.operations else None
    rows = []
    for name, rounds in results.items():
        measured = [r for r in rounds if r]
        if not measured:
            print(f"| {case} | {batch} | {dtype} | {name} | not measured | | | | |")
            continue
        seconds = sorted(s for r in measured for s in r["seconds"])
        ratios = [
            theirs["step_s"] / mine["step_s"]
            for mine, theirs in zip(results["jaxmaskrcnn"], rounds, strict=True)
            if mine and theirs and name != "jaxmaskrcnn"
        ]
        peak = max(r["peak_mib"] for r in measured)
        note = " (with compilation)" if measured[0]["peak_includes_compilation"] else ""
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        first = f"{measured[0]['first_call_s']:.1f}"
        if name == "jaxmaskrcnn" and len(measured) > 1:
            first += f" ({statistics.median(r['first_call_s'] for r in measured[1:]):.1f})"
        rate, median = "", statistics.median(seconds)
        if counted:
            per_second = counted["operations"] / median
            rate = f"{per_second / 1e9:.0f} ({per_second / counted['rate']:.0%})"
        canvas = measured[0]["canvas"]
        print(
            f"| {case} | {' x '.join(map(str, canvas[:3]))} | {dtype} "
            f"| {name.split()[0]} ({measured[0]['version']}) | {first} "
            f"| {median:.3g} ({seconds[0]:.3g} to {seconds[-1]:.3g}) | {canvas[0] / median:.3g} "
            f"| {peak:.0f}{note} | {rate} | {ratio} |",
            flush=True,
        )
        row = {"case": case, "library": name, "dtype": dtype, "ratios": ratios, "rounds": measured}
        rows.append(row | (counted or {}))
    return rows


if __name__ == "__main__":
    main()
