"""Seconds and peak memory of the whole model, trained and applied, beside torchvision's on the same inputs.

    python benchmarks/models.py [--cases=train,inference] [--batches=1] [--size=800,1333]
        [--torch_python=PYTHON] [--rounds=3]

Cases:
    quickstart: a training step of the quickstart's model and batch (configs/shapes.py); ours alone.
    train: a training step of torchvision's maskrcnn_resnet50_fpn, 80 classes, 10 objects an image, the
        stem and the first stage frozen, as torchvision does.
    inference: the same model from uint8 images to boxes and 100 pasted masks an image at their size; no
        score threshold, so that every image has its 100.

Ours and torchvision's run in turns, --rounds times, each time in a process of its own with --repeats
measurements. The table has the median over all (smallest to largest) and the median of the rounds' ratios.
The first call is given for the first round, which compiles, and for the later ones, which find the compiled
program in the persistent cache. Peak memory is the process's largest resident size while the measured steps
run; it was reset after the first one, so compilation does not count (Linux; elsewhere it does). GFLOP/s are
the operations of the program as XLA counts them with plain convolutions, divided by the seconds, and their
share of the rate at which the same device multiplies two matrices of 4096 x 4096. torchvision runs where it
can be imported: in this interpreter, or in the one that --torch_python names.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import CLASSES, HEIGHT, WIDTH, hardware, in_turns, measure, photograph, product_rate

CASES = ("quickstart", "train", "inference")


def ours(case: str, batch_size: int, size: tuple[int, int], dtype: str, repeats: int) -> dict:
    """Times and memory; with no repeats the operations of a step and the device's rate instead."""
    import jax

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn import compilation_cache
    from jaxmaskrcnn.inference.postprocess import postprocess_batch
    from jaxmaskrcnn.models.mask_rcnn import init_model

    compilation_cache.enable()
    if case == "quickstart":
        config, options, images, targets = _quickstart()
    else:
        config = jmr.model_config(
            "torchvision/maskrcnn_resnet50_fpn", num_classes=CLASSES, norm_epsilon=1e-5, dtype=dtype,
            test_min_size=min(size), test_max_size=max(size), score_threshold=0.0,
        )  # fmt: skip
        options = jmr.config.OptimizerConfig(reference_batch_size=0, decay_steps=())
        image, target = photograph(*size)
        images, targets = [image] * batch_size, [target] * batch_size
    if case == "inference":
        model = init_model(config)
        batch = jmr.make_batch(model, images)
        detect = jax.jit(lambda model, batch: model.detect(batch))
        traced = detect.trace(model, batch) if not repeats else None
        detect = compilation_cache.release_after_compiling(detect)

        def step():
            detections = detect(model, jax.device_put(batch))
            postprocess_batch(detections, batch.image_sizes, [size] * batch_size, config, masks="bool")

    else:
        batch = jmr.make_batch(config, images, targets)
        traced, step = _training(config, options, batch, trace=not repeats)
    if not repeats:
        counted = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
        return {"operations": counted["flops"], "rate": product_rate(dtype)}
    return {"canvas": list(batch.images.shape), "version": f"jax {jax.__version__}"} | measure(step, repeats)


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


def _training(config, options, batch, trace: bool):
    import jax

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.compilation_cache import release_after_compiling
    from jaxmaskrcnn.models.mask_rcnn import init_model
    from jaxmaskrcnn.training import optimizer as optimizers
    from jaxmaskrcnn.training.step import init_state, jit_train_step

    schedule = optimizers.learning_rate(options, len(batch.images), 1000)
    model = init_model(config)
    graphdef, optimizer, state = init_state(
        model,
        jmr.trainable(model),
        lambda params: optimizers.make_optimizer(options, schedule, params, config),
    )
    train_step = jit_train_step(graphdef, optimizer, schedule)
    batch, key = jax.device_put(batch), jax.random.key(0)

    def step():
        nonlocal state
        state, metrics = train_step(state, batch, key)
        jax.block_until_ready((state, metrics))

    traced = train_step.trace(state, batch, key) if trace else None
    train_step = release_after_compiling(train_step)
    return traced, step


def torchvisions(case: str, batch_size: int, size: tuple[int, int], dtype: str, repeats: int) -> dict:
    import torch
    import torchvision
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    # Frozen batch norm and three trainable layers are what the pretrained backbone comes with.
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    model = MaskRCNN(
        backbone, num_classes=CLASSES + 1, min_size=min(size), max_size=max(size), box_score_thresh=0.0
    )
    image, target = photograph(*size)
    images = [torch.from_numpy(image).permute(2, 0, 1).float() / 255] * batch_size
    low = dtype == "bfloat16"
    if case == "inference":
        model.eval()

        def step():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=low):
                for result in model(images):
                    result["masks"] > 0.5  # noqa: B015  (what a user does next, and ours has done)

    else:
        model.train()
        params = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(params, lr=1e-5, momentum=0.9, weight_decay=1e-4)
        targets = [
            {
                "boxes": torch.from_numpy(target["boxes"]),
                "labels": torch.from_numpy(target["labels"]) + 1,
                "masks": torch.from_numpy(target["masks"]).to(torch.uint8),
            }
        ] * batch_size

        def step():
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                loss = sum(model(images, targets).values())
            loss.backward()
            optimizer.step()

    canvas = [batch_size, *(-(-side // 32) * 32 for side in size), 3]
    return {"canvas": canvas, "version": f"torchvision {torchvision.__version__}"} | measure(step, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default="train,inference")
    parser.add_argument("--batches", default="1", help="images in a batch, separated by commas")
    parser.add_argument("--size", default=f"{HEIGHT},{WIDTH}", help="height and width of the images")
    parser.add_argument("--dtypes", default="float32", help="float32, bfloat16 or both, separated by a comma")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--output", help="write the figures to this json file as well")
    parser.add_argument("--measure", choices=("jaxmaskrcnn", "torchvision"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = tuple(int(x) for x in args.size.split(","))
    unknown = sorted(set(args.cases.split(",")) - set(CASES))
    if unknown:
        parser.error(f"--cases has {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    if args.measure:
        function = {"jaxmaskrcnn": ours, "torchvision": torchvisions}[args.measure]
        print(json.dumps(function(args.cases, int(args.batches), size, args.dtypes, args.repeats)))
        return
    print(f"{hardware()}; {args.rounds} rounds of {args.repeats}\n")
    print(
        "| case | batch | type | library | first s (cached) | s (smallest to largest) | peak MiB "
        "| GFLOP/s (share) | times faster |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
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
    pythons = {"jaxmaskrcnn": sys.executable, "torchvision": args.torch_python}
    if case == "quickstart":
        del pythons["torchvision"]
    commands = {name: [python, __file__, f"--measure={name}", *options] for name, python in pythons.items()}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache  # an empty one, so that the first round compiles
        results = in_turns(commands, args.rounds)
        (counted,) = in_turns({"operations": [*commands["jaxmaskrcnn"], "--repeats=0"]}, 1)["operations"]
    rows = []
    for name, rounds in results.items():
        measured = [r for r in rounds if r]
        if not measured:
            print(f"| {case} | {batch} | {dtype} | {name} | not measured | | | | |")
            continue
        seconds = sorted(s for r in measured for s in r["seconds"])
        ratios = [
            theirs["step_s"] / mine["step_s"]
            for mine, theirs in zip(results["jaxmaskrcnn"], results.get("torchvision", ()), strict=False)
            if mine and theirs
        ]
        peak = max(r["peak_mib"] for r in measured)
        note = " (with compilation)" if measured[0]["peak_includes_compilation"] else ""
        ratio = f"{statistics.median(ratios):.2f}" if ratios and name == "jaxmaskrcnn" else ""
        first = f"{measured[0]['first_call_s']:.1f}"
        if name == "jaxmaskrcnn" and len(measured) > 1:
            first += f" ({statistics.median(r['first_call_s'] for r in measured[1:]):.1f})"
        rate = ""
        if counted:
            per_second = counted["operations"] / statistics.median(seconds)
            rate = f"{per_second / 1e9:.0f} ({per_second / counted['rate']:.0%})"
        print(
            f"| {case} | {' x '.join(map(str, measured[0]['canvas'][:3]))} | {dtype} "
            f"| {name} ({measured[0]['version']}) | {first} "
            f"| {statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f}) "
            f"| {peak:.0f}{note} | {rate} | {ratio} |",
            flush=True,
        )
        row = {"case": case, "library": name, "dtype": dtype, "ratios": ratios, "rounds": measured}
        rows.append(row | (counted or {}))
    return rows


if __name__ == "__main__":
    main()
