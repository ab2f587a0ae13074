"""Seconds of the operators, forward and with gradient, beside torchvision's on the same inputs.

    python benchmarks/operators.py [--torch_python=PYTHON] [--cases=...] [--size=800,1344] [--rounds=3]

Ours and torchvision's run in turns, --rounds times, each time in a process of its own with --repeats
measurements of every case. The table has the median over all of them (smallest to largest) and the
median of the rounds' ratios. torchvision runs in this interpreter or in the one that --torch_python
names; without it the column stays empty.

Cases, on the features of one image of --size, R50-FPN with 256 channels, float32:
    box512, box1000: RoIAlign 7x7 of so many regions from P2 to P5, two samples a bin and side.
    mask128: the same, 14x14.
    ...-gradient: forward and the gradient of the features.
    proposals: best 2000 of each level, decoded, clipped, NMS at 0.7, best 1000.
    matching: 268569 anchors against 10 objects, and 256 of them sampled.
    mask_targets: 28x28 targets of 128 regions from 10 full-size masks.
    paste: 100 masks of 28x28 into the image, thresholded.

On a GPU torchvision runs there too; our masks are pasted by the host everywhere.
"""

import argparse
import json
import statistics
import sys
import time

from measuring import CLASSES, hardware, in_turns, photograph

ROI_CASES = {"box512": (512, 7), "box1000": (1000, 7), "mask128": (128, 14)}
CASES = (
    *(name + suffix for name in ROI_CASES for suffix in ("", "-gradient")),
    "proposals",
    "matching",
    "mask_targets",
    "paste",
)
STRIDES = (4, 8, 16, 32, 64)


def inputs(height: int, width: int) -> dict:
    """Seeded arrays for all cases; features in [h, w, C]."""
    import numpy as np

    rng = np.random.default_rng(1)
    sizes = [(-(-height // s), -(-width // s)) for s in STRIDES]

    def boxes(count, largest=0.75):
        sides = np.exp(rng.uniform(np.log(8), np.log(largest * height), (count, 2)))
        corner = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
        return np.concatenate([corner, corner + sides], 1).astype(np.float32)

    anchors = sum(3 * h * w for h, w in sizes)
    return {
        "features": [rng.normal(size=(h, w, 256)).astype(np.float32) for h, w in sizes],
        "regions": {name: boxes(count) for name, (count, _) in ROI_CASES.items()},
        "objectness": rng.normal(size=anchors).astype(np.float32),
        "deltas": (0.3 * rng.normal(size=(anchors, 4))).astype(np.float32),
        "mask_index": rng.integers(0, 10, 128),
        "paste_boxes": boxes(100),
        "paste_masks": rng.uniform(0, 1, (100, 28, 28)).astype(np.float32),
        "sizes": sizes,
    }


def ours(height: int, width: int) -> dict:
    """Case name to a function that runs it once."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn import losses
    from jaxmaskrcnn.inference.postprocess import postprocess
    from jaxmaskrcnn.models.anchor_grids import image_anchors
    from jaxmaskrcnn.models.proposals import select_proposals
    from jaxmaskrcnn.ops.masks import mask_targets, pack_masks
    from jaxmaskrcnn.ops.roi_align import assign_levels, multilevel_roi_align
    from jaxmaskrcnn.ops.sampling import index_priority, sample
    from jaxmaskrcnn.structures import Detections, Targets

    arrays = inputs(height, width)
    config = jmr.model_config("torchvision/maskrcnn_resnet50_fpn", num_classes=CLASSES)
    features = tuple(jnp.asarray(x) for x in arrays["features"][:4])

    def pool(features, boxes, size):
        levels = assign_levels(boxes, rule=config.box.pool.level_rule) - 2
        return multilevel_roi_align(
            features, boxes, levels, size,
            spatial_scales=jnp.array([1 / s for s in STRIDES[:4]]), sampling_ratio=2, aligned=False,
        )  # fmt: skip

    def run(function, *args):
        compiled = jax.jit(function)
        return lambda: jax.block_until_ready(compiled(*args))

    steps = {}
    for name, (_, size) in ROI_CASES.items():
        boxes = jnp.asarray(arrays["regions"][name])
        steps[name] = run(lambda f, b, size=size: pool(f, b, size), features, boxes)
        steps[name + "-gradient"] = run(
            jax.value_and_grad(lambda f, b, size=size: (pool(f, b, size) ** 2).sum()), features, boxes
        )

    extent = jnp.array([height, width])
    anchors = jax.device_put(image_anchors(tuple(arrays["sizes"]), STRIDES, extent, config.rpn.anchors))
    steps["proposals"] = run(
        lambda o, d, a: select_proposals(o, d, a, tuple(arrays["sizes"]), extent, config.rpn, True),
        jnp.asarray(arrays["objectness"]), jnp.asarray(arrays["deltas"]), anchors,
    )  # fmt: skip

    _, target = photograph(height, width)
    packed = pack_masks(target["masks"])
    count = len(target["boxes"])
    targets = Targets(
        jnp.asarray(target["boxes"]), jnp.asarray(target["labels"]), None,
        jnp.zeros(count, bool), jnp.ones(count, bool),
    )  # fmt: skip

    def match_and_sample(anchors, targets):
        _, label = losses.match_boxes(
            anchors.boxes, anchors.valid, targets, config.rpn,
            foreground_iou=0.7, background_iou=0.3, low_quality=config.rpn.low_quality,
        )  # fmt: skip
        return sample(label, index_priority(label.shape[0]), 256, 0.5)

    steps["matching"] = run(match_and_sample, anchors, targets)
    steps["mask_targets"] = run(
        lambda packed, index, boxes: mask_targets(packed, width, index, boxes, 28, rule="soft"),
        jnp.asarray(packed), jnp.asarray(arrays["mask_index"]), jnp.asarray(arrays["regions"]["mask128"]),
    )  # fmt: skip
    detections = Detections(
        boxes=arrays["paste_boxes"], scores=np.ones(100, np.float32), labels=np.zeros(100, int),
        valid=np.ones(100, bool), masks=arrays["paste_masks"],
    )  # fmt: skip
    steps["paste"] = lambda: postprocess(detections, (height, width), (height, width), config, masks="bool")
    return steps


def torchvisions(height: int, width: int) -> dict:
    """The same by torchvision's own functions."""
    import torch
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
    from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
    from torchvision.ops import MultiScaleRoIAlign

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def tensor(array):
        return torch.from_numpy(array).to(device)

    arrays = inputs(height, width)
    features = [tensor(x).permute(2, 0, 1)[None].contiguous() for x in arrays["features"]]
    named = {str(i): x for i, x in enumerate(features[:4])}

    def pool(boxes, size, gradient):
        pooler = MultiScaleRoIAlign(list(named), size, 2)

        def step():
            if not gradient:
                with torch.no_grad():
                    return pooler(named, [boxes], [(height, width)])
            leaves = {k: x.detach().requires_grad_() for k, x in named.items()}
            (pooler(leaves, [boxes], [(height, width)]) ** 2).sum().backward()

        return step

    steps = {}
    for name, (_, size) in ROI_CASES.items():
        boxes = tensor(arrays["regions"][name])
        steps[name] = pool(boxes, size, False)
        steps[name + "-gradient"] = pool(boxes, size, True)

    generator = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    both = {"training": 2000, "testing": 1000}
    rpn = RegionProposalNetwork(
        generator, RPNHead(256, 3).to(device), 0.7, 0.3, 256, 0.5, both,
        {"training": 1000, "testing": 1000}, 0.7,
    ).train()  # fmt: skip
    image = ImageList(torch.zeros(1, 3, height, width, device=device), [(height, width)])
    anchors = generator(image, features)
    objectness = tensor(arrays["objectness"])[:, None]
    deltas = tensor(arrays["deltas"])
    counts = [3 * h * w for h, w in arrays["sizes"]]

    def proposals():
        with torch.no_grad():
            decoded = rpn.box_coder.decode(deltas, anchors).view(1, -1, 4)
            return rpn.filter_proposals(decoded, objectness, [(height, width)], counts)

    steps["proposals"] = proposals
    _, target = photograph(height, width)
    targets = [{"boxes": tensor(target["boxes"]), "labels": tensor(target["labels"])}]

    def match_and_sample():
        labels, _ = rpn.assign_targets_to_anchors(anchors, targets)
        return rpn.fg_bg_sampler(labels)

    steps["matching"] = match_and_sample
    masks = tensor(target["masks"]).to(torch.uint8)
    regions = tensor(arrays["regions"]["mask128"])
    index = tensor(arrays["mask_index"])
    steps["mask_targets"] = lambda: project_masks_on_boxes(masks, regions, index, 28)
    probabilities = tensor(arrays["paste_masks"])[:, None]
    boxes = tensor(arrays["paste_boxes"])
    steps["paste"] = lambda: paste_masks_in_image(probabilities, boxes, (height, width)) > 0.5
    if device == "cpu":
        return steps

    def waiting(step):
        return lambda: (step(), torch.cuda.synchronize())

    return {name: waiting(step) for name, step in steps.items()}


def measure_cases(library: str, cases, size, repeats: int) -> dict[str, list[float]]:
    steps = {"jaxmaskrcnn": ours, "torchvision": torchvisions}[library](*size)
    seconds = {}
    for case in cases:
        steps[case]()
        seconds[case] = []
        for _ in range(repeats):
            start = time.perf_counter()
            steps[case]()
            seconds[case].append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--size", default="800,1344", help="height and width in pixels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--output", help="write all seconds to this json file")
    parser.add_argument("--measure", choices=("jaxmaskrcnn", "torchvision"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    cases = args.cases.split(",")
    size = tuple(int(x) for x in args.size.split(","))
    unknown = sorted(set(cases) - set(CASES))
    if unknown:
        parser.error(f"--cases has {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    if args.measure:
        print(json.dumps(measure_cases(args.measure, cases, size, args.repeats)))
        return
    options = [f"--cases={args.cases}", f"--size={args.size}", f"--repeats={args.repeats}"]
    results = in_turns(
        {
            "jaxmaskrcnn": [sys.executable, __file__, "--measure=jaxmaskrcnn", *options],
            "torchvision": [args.torch_python, __file__, "--measure=torchvision", *options],
        },
        args.rounds,
    )
    print(f"{hardware()}; {args.rounds} rounds of {args.repeats}, {size[0]} x {size[1]}\n")
    print("| case | jaxmaskrcnn ms | torchvision ms | times faster |")
    print("|---|---|---|---|")
    for case in cases:
        columns = []
        for rounds in results.values():
            seconds = sorted(1e3 * s for r in rounds if r for s in r[case])
            columns.append(
                f"{statistics.median(seconds):.1f} ({seconds[0]:.1f} to {seconds[-1]:.1f})" if seconds else ""
            )
        ratios = [
            statistics.median(theirs[case]) / statistics.median(mine[case])
            for mine, theirs in zip(*results.values(), strict=True)
            if mine and theirs
        ]
        columns.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        print(f"| {case} | {' | '.join(columns)} |")
    if args.output:
        with open(args.output, "w") as file:
            json.dump({"size": size, "hardware": hardware(), "seconds": results}, file, indent=1)


if __name__ == "__main__":
    main()
