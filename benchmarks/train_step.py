"""Seconds and peak memory of one training step, beside torchvision's on the same inputs.

    python benchmarks/train_step.py [--cases=default,r50] [--repeats=5] [--torch_python=PYTHON]

Cases:
    default: the quickstart's model and batch (configs/shapes.py).
    r50: torchvision's maskrcnn_resnet50_fpn, 80 classes, one image of 800 x 1333 on a canvas of
        800 x 1344, 10 objects, float32; the stem and the first stage frozen, as torchvision does.

Each measurement is a process of its own. Peak memory is the process's largest resident size
while the measured steps run; it was reset after the first step, so compilation does not count
(Linux; elsewhere it does, and the table says so). torchvision runs where it can be imported: in
this interpreter, or in the one that --torch_python names.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

HEIGHT, WIDTH, OBJECTS, CLASSES = 800, 1333, 10, 80
CASES = ("default", "r50")


def photograph(height: int = HEIGHT, width: int = WIDTH, objects: int = OBJECTS):
    """The same image and objects for both libraries: seeded noise, boxes of all sizes, full masks."""
    import numpy as np

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    sides = np.geomspace(0.03, 0.75, objects) * min(height, width)
    corner = rng.uniform(0, 1, (objects, 2)) * (np.array([width, height]) - sides[:, None])
    boxes = np.concatenate([corner, corner + sides[:, None]], 1).astype(np.float32)
    masks = np.zeros((objects, height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return image, {"boxes": boxes, "labels": rng.integers(0, CLASSES, objects), "masks": masks}


class PeakMemory:
    """Largest resident size of this process since `reset`, in MiB."""

    def reset(self):
        try:
            pathlib.Path("/proc/self/clear_refs").write_text("5")
            self.exact = True
        except OSError:
            self.exact = False

    def read(self) -> float:
        if self.exact:
            for line in pathlib.Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) / 1024
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(step, repeats: int) -> dict:
    """First call, then the median of the next ones, and the peak memory of those."""
    memory = PeakMemory()
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    memory.reset()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {
        "first_call_s": first,
        "step_s": statistics.median(seconds),
        "step_s_min": min(seconds),
        "step_s_max": max(seconds),
        "peak_mib": memory.read(),
        "peak_includes_compilation": not memory.exact,
    }


def measure_jax(case: str, repeats: int) -> dict:
    import dataclasses
    import runpy

    import jax

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.models.mask_rcnn import init_model
    from jaxmaskrcnn.training import optimizer as optimizers
    from jaxmaskrcnn.training.run_config import to_model_config
    from jaxmaskrcnn.training.step import init_state, jit_train_step

    if case == "default":
        import numpy as np

        path = pathlib.Path(__file__).resolve().parents[1] / "configs" / "shapes.py"
        run = runpy.run_path(str(path))["get_config"]()
        config = to_model_config(run.model, tuple(jmr.Category(i, str(i)) for i in range(3)))
        side, count, options = run.data.shapes.size, run.data.batch_size, run.optimizer
        rng = np.random.default_rng(0)
        images = list(rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8))
        box = np.array([[8, 8, side // 2, side // 2]], np.float32)
        mask = np.zeros((1, side, side), bool)
        mask[0, 8 : side // 2, 8 : side // 2] = True
        targets = [{"boxes": box, "labels": np.array([0]), "masks": mask}] * count
    else:
        config = jmr.model_config("torchvision/maskrcnn_resnet50_fpn", num_classes=CLASSES)
        image, target = photograph()
        images, targets, options = [image], [target], jmr.config.OptimizerConfig(reference_batch_size=0)
    model = init_model(dataclasses.replace(config, norm_epsilon=1e-5))
    batch = jmr.make_batch(model, images, targets)
    schedule = optimizers.learning_rate(options, len(images), 1000)
    graphdef, optimizer, state = init_state(
        model,
        jmr.trainable(model),
        lambda params: optimizers.make_optimizer(options, schedule, params, config),
    )
    del model
    train_step = jit_train_step(graphdef, optimizer, schedule)
    batch, key = jax.device_put(batch), jax.random.key(0)

    def step():
        nonlocal state
        state, metrics = train_step(state, batch, key)
        jax.block_until_ready((state, metrics))

    return {"canvas": list(batch.images.shape), "version": f"jax {jax.__version__}"} | measure(step, repeats)


def measure_torchvision(case: str, repeats: int) -> dict:
    import torch
    import torchvision
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    if case != "r50":
        raise SystemExit("torchvision has no model like the default config's.")
    torch.manual_seed(0)
    # Frozen batch norm and three trainable layers are what the pretrained backbone comes with.
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    model = MaskRCNN(backbone, num_classes=CLASSES + 1).train()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=1e-5, momentum=0.9, weight_decay=1e-4)
    image, target = photograph()
    images = [torch.from_numpy(image).permute(2, 0, 1).float() / 255]
    targets = [
        {
            "boxes": torch.from_numpy(target["boxes"]),
            "labels": torch.from_numpy(target["labels"]) + 1,
            "masks": torch.from_numpy(target["masks"]).to(torch.uint8),
        }
    ]

    def step():
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()

    return {"canvas": [1, HEIGHT, 1344, 3], "version": f"torchvision {torchvision.__version__}"} | measure(
        step, repeats
    )


def run_child(python: str, library: str, case: str, repeats: int) -> dict | None:
    command = [python, __file__, f"--measure={library}", f"--cases={case}", f"--repeats={repeats}"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{library}, {case}: not measured ({last})", file=sys.stderr)
        return None
    return json.loads(result.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--output", help="write the figures to this json file as well")
    parser.add_argument("--measure", choices=("jax", "torchvision"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        function = {"jax": measure_jax, "torchvision": measure_torchvision}[args.measure]
        print(json.dumps(function(args.cases, args.repeats)))
        return
    rows = []
    for case in args.cases.split(","):
        rows.append(("jaxmaskrcnn", case, run_child(sys.executable, "jax", case, args.repeats)))
        if case == "r50":
            rows.append(
                ("torchvision", case, run_child(args.torch_python, "torchvision", case, args.repeats))
            )
    print(f"{platform.processor() or platform.machine()}, {platform.system()}, one process at a time\n")
    print("| case | library | batch | first step s | step s (min to max) | peak memory MiB |")
    print("|---|---|---|---|---|---|")
    for library, case, r in rows:
        if r is None:
            print(f"| {case} | {library} | not measured | | | |")
            continue
        canvas = " x ".join(map(str, r["canvas"][:3]))
        note = " (with compilation)" if r["peak_includes_compilation"] else ""
        spread = f"{r['step_s']:.2f} ({r['step_s_min']:.2f} to {r['step_s_max']:.2f})"
        print(
            f"| {case} | {library} ({r['version']}) | {canvas} | {r['first_call_s']:.1f} "
            f"| {spread} | {r['peak_mib']:.0f}{note} |"
        )
    if args.output:
        pathlib.Path(args.output).write_text(
            json.dumps([{"library": lib, "case": c, **(r or {})} for lib, c, r in rows], indent=1)
        )


if __name__ == "__main__":
    main()
