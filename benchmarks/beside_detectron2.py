"""Seconds of Detectron2's models, applied and trained, beside Detectron2 itself with the same weights.

    python benchmarks/beside_detectron2.py --detectron2_python=PYTHON [--models=c4,dc5,cascade,keypoint,dconv]
        [--cases=inference,train] [--rounds=2] [--repeats=3]

PYTHON is the interpreter of an environment with Detectron2 for the CPU, and with torchvision, whose
`deform_conv2d` takes the place of Detectron2's own where that is not compiled. The weights are drawn as for
whole_model/run_reference.py, so that the regions are many and far apart, and saved by Detectron2; this
library loads the file by the preset's name. Detectron2 computes as many regions as there are proposals, which
the table states, and this library always as many as there can be.

Cases:
    inference: from a uint8 image of 800 x 1088 pixels to 100 boxes with pasted masks or keypoints; no score
        threshold, so that there are 100.
    train: losses of the same image with 10 objects, their gradients, and a step of SGD.

Both run in turns, each time in a process of its own; see `measuring.py`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import hardware, in_turns, measure, on_device, photograph, spread, table

SIZE = (800, 1088)
MODELS = {
    "fpn": ("COCO-InstanceSegmentation", "mask_rcnn_R_50_FPN_3x"),
    "c4": ("COCO-InstanceSegmentation", "mask_rcnn_R_50_C4_3x"),
    "dc5": ("COCO-InstanceSegmentation", "mask_rcnn_R_50_DC5_3x"),
    "cascade": ("Misc", "cascade_mask_rcnn_R_50_FPN_3x"),
    "keypoint": ("COCO-Keypoints", "keypoint_rcnn_R_50_FPN_3x"),
    "dconv": ("Misc", "mask_rcnn_R_50_FPN_3x_dconv_c3-c5"),
}
CASES = ("inference", "train")


def keypoints_of(boxes):
    """Seventeen visible points inside of each box, float32 [G, 17, 3]."""
    import numpy as np

    places = np.random.default_rng(1).uniform(0.05, 0.95, (len(boxes), 17, 2))
    points = boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])
    return np.concatenate([points, np.full((len(boxes), 17, 1), 2.0)], 2).astype(np.float32)


def ours(name: str, case: str, weights: str, repeats: int) -> dict:
    """Times and memory of this library."""
    import jax
    import models

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.inference.postprocess import postprocess_batch
    from jaxmaskrcnn.utils import compilation_cache

    compilation_cache.enable()
    changes = {"input.test_min_size": 800, "input.test_max_size": 1333, "detections.score_threshold": 0.0}
    model = jmr.load_model(weights, model=jmr.model_config(f"detectron2/{MODELS[name][1]}", **changes))
    image, target = photograph(*SIZE)
    if case == "inference":
        batch = jmr.make_batch(model.config, [image])
        detect = compilation_cache.release_after_compiling(jax.jit(lambda model, batch: model.detect(batch)))

        def step():
            found = detect(model, jax.device_put(batch))
            postprocess_batch(found, batch.image_sizes, [SIZE], model.config, masks="bool")

        return measure(step, repeats, **on_device())
    if name == "keypoint":
        boxes = target["boxes"]
        target = {"boxes": boxes, "labels": 0 * target["labels"], "keypoints": keypoints_of(boxes)}
    options = jmr.config.OptimizerConfig(reference_batch_size=0, learning_rate=1e-5, decay_steps=())
    compiled, state = models.training_of(model, options, 1)
    batch, key = jax.device_put(jmr.make_batch(model.config, [image], [target])), jax.random.key(0)
    train_step = compilation_cache.release_after_compiling(compiled)

    def train():
        nonlocal state
        state, metrics = train_step(state, batch, key)
        return state, metrics

    return measure(train, repeats, **on_device())


def theirs(name: str, case: str, weights: str, repeats: int) -> dict:
    """Times and memory of Detectron2; without repeats its weights are written instead."""
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here / "whole_model"), str(here.parent / "tests" / "goldens")]
    import detectron2_deform_conv  # noqa: F401  (before Detectron2: it stands in for what is not compiled)
    import torch
    from detectron2 import model_zoo
    from detectron2.modeling import build_model
    from detectron2.structures import BitMasks, Boxes, Instances, Keypoints

    torch.manual_seed(0)
    cfg = model_zoo.get_config("/".join(MODELS[name]) + ".yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = "cpu", "", 0.0
    cfg.INPUT.MASK_FORMAT = "bitmask"
    model = build_model(cfg)
    if not repeats:
        from run_reference import seed

        scale = 60.0 if cfg.MODEL.PIXEL_STD[0] == 1 else 1.0
        torch.save({"model": seed(model, scale, 1.0)}, weights)
        return {}
    model.load_state_dict(torch.load(weights)["model"])
    image, target = photograph(*SIZE)
    given = {"image": torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1).float()}
    given |= {"height": SIZE[0], "width": SIZE[1]}
    if case == "inference":
        model.eval()

        counts = []
        model.proposal_generator.register_forward_hook(lambda *call: counts.append(len(call[2][0][0])))

        def step():
            with torch.inference_mode():
                model([given])

        return measure(step, repeats) | {"proposals": counts[-1]}
    model.train()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=1e-5, momentum=0.9, weight_decay=1e-4)
    objects = Instances(SIZE)
    objects.gt_boxes = Boxes(torch.from_numpy(target["boxes"]))
    objects.gt_classes = torch.from_numpy(target["labels"]) * (name != "keypoint")
    if name == "keypoint":
        objects.gt_keypoints = Keypoints(keypoints_of(target["boxes"]))
    else:
        objects.gt_masks = BitMasks(torch.from_numpy(target["masks"]))

    def train():
        from detectron2.utils.events import EventStorage

        optimizer.zero_grad()
        with EventStorage():
            sum(model([{**given, "instances": objects}]).values()).backward()
        optimizer.step()

    return measure(train, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="c4,dc5,cascade,keypoint,dconv", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--detectron2_python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=("jaxmaskrcnn", "detectron2"), help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for option, known in (("models", MODELS), ("cases", CASES)):
        if unknown := sorted(set(getattr(args, option).split(",")) - set(known)):
            parser.error(f"--{option} has {', '.join(unknown)}; choose from {', '.join(known)}.")
    if args.measure:
        run = ours if args.measure == "jaxmaskrcnn" else theirs
        print(json.dumps(run(args.models, args.cases, args.weights, args.repeats)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/xla")
        for name in args.models.split(","):
            common = [f"--models={name}", f"--weights={folder}/{name}.pth"]
            detectron2 = [args.detectron2_python, __file__, "--measure=detectron2", *common]
            in_turns({name: [*detectron2, "--cases=inference", "--repeats=0"]}, 1)
            for case in args.cases.split(","):
                options = [f"--cases={case}", f"--repeats={args.repeats}"]
                found = in_turns(
                    {
                        "ours": [sys.executable, __file__, "--measure=jaxmaskrcnn", *common, *options],
                        "theirs": [*detectron2, *options],
                    },
                    args.rounds,
                )
                if None in (*found["ours"], *found["theirs"]):
                    continue
                seconds = {who: [s for r in found[who] for s in r["seconds"]] for who in found}
                ratio = statistics.median(seconds["theirs"]) / statistics.median(seconds["ours"])
                peaks = [f"{max(r['peak_mib'] for r in found[who]):.0f}" for who in found]
                first = f"{found['ours'][0]['first_call_s']:.0f}"
                count = found["theirs"][0].get("proposals", "")
                rows.append(
                    [name, case, count, first, *map(spread, seconds.values()), f"{ratio:.2f}", *peaks]
                )
                print(f"{rows[-1]}", file=sys.stderr, flush=True)
    print(f"{hardware()}; {args.rounds} rounds of {args.repeats}\n")
    head = [
        "model",
        "case",
        "proposals",
        "first s",
        "ours, s",
        "Detectron2, s",
        "faster by",
        "MiB",
        "Detectron2, MiB",
    ]
    print(table(head, rows))


if __name__ == "__main__":
    main()
