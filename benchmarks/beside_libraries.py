"""Seconds of models on other backbones and necks than a ResNet's FPN beside their library, on a CPU.

    python benchmarks/beside_libraries.py --library_python=PYTHON --configs=FOLDER
        [--models=swin,convnext,vitdet,mvit,regnet,resnest,res2net,hrnet,gcnet,pafpn,groie]
        [--rounds=2] [--repeats=3]

PYTHON is the interpreter of an environment with MMDetection, mmpretrain and Detectron2 as tests/goldens needs
them, and FOLDER/swin, FOLDER/convnext and so on are the folders with the libraries' config files of the
models. Weights are drawn as for whole_model/run_reference.py and loaded by the preset's name; those of the
last layers are scaled by what they give for the photograph, so that there are as many proposals and
detections as with trained weights. (Otherwise boxes may become empty, the library computes no head at all,
and this one computes all its places.)

A repeat is a prediction of an image at the model's own size, with no score threshold, so that there are 100
detections with masks: 800 x 1088 pixels, and for ViTDet the square canvas of 1024. Both libraries run in
turns, each time in a process of its own; see `measuring.py`.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import hardware, in_turns, measure, on_device, photograph, spread, table

SIZE = (800, 1088)
MODELS = {
    "swin": "mmdet/mask-rcnn_swin-t-p4-w7_fpn_1x_coco",
    "convnext": "mmdet/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco",
    "vitdet": "detectron2/ViTDet/mask_rcnn_vitdet_b_100ep",
    "mvit": "detectron2/MViTv2/mask_rcnn_mvitv2_t_3x",
    "regnet": "mmdet/mask-rcnn_regnetx-4GF_fpn_1x_coco",
    "resnest": "mmdet/mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco",
    "res2net": "mmdet/mask-rcnn_res2net-101_fpn_2x_coco",
    "hrnet": "mmdet/mask-rcnn_hrnetv2p-w18-1x_coco",
    "gcnet": "mmdet/mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco",
    "pafpn": "mmdet/faster-rcnn_r50_pafpn_1x_coco",
    "groie": "mmdet/mask-rcnn_r50_fpn_groie_1x_coco",
}
# Scores and deltas in MMDetection and Detectron2. Deltas of detections are divided by ten when they are used.
LAST_LAYERS = {
    r"(rpn_cls|objectness_logits)$": 1.0,
    r"(rpn_reg|anchor_deltas)$": 0.2,
    r"(fc_cls|cls_score)$": 1.0,
    r"(fc_reg|bbox_pred)$": 1.0,
}


def ours(name: str, weights: str, repeats: int) -> dict:
    """Times and memory of this library."""
    import jax

    import jaxmaskrcnn as jmr
    from jaxmaskrcnn.inference.postprocess import postprocess_batch
    from jaxmaskrcnn.utils import compilation_cache

    compilation_cache.enable()
    config = jmr.model_config(MODELS[name], **{"detections.score_threshold": 0.0})
    model = jmr.load_model(weights, model=config)
    batch = jmr.make_batch(model.config, [photograph(*SIZE)[0]])
    detect = compilation_cache.release_after_compiling(jax.jit(lambda model, batch: model.detect(batch)))

    def step():
        found = detect(model, jax.device_put(batch))
        return postprocess_batch(found, batch.image_sizes, [SIZE], model.config, masks="bool")

    return {**measure(step, repeats, **on_device()), "detections": len(step()[0]["scores"])}


def theirs(name: str, weights: str, repeats: int, configs: Path) -> dict:
    """Times and memory of the library; without repeats its weights are written instead."""
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here / "whole_model"), str(here.parent / "tests" / "goldens")]
    import torch
    from run_reference import seed

    image = photograph(*SIZE)[0]
    if name in ("vitdet", "mvit"):
        from detectron2.config import LazyConfig, instantiate

        config = LazyConfig.load(str(configs / name / f"{MODELS[name].rpartition('/')[2]}.py"))
        config.model.roi_heads.box_predictor.test_score_thresh = 0.0
        model = instantiate(config.model).eval()
        (resize,) = instantiate(config.dataloader.test.mapper.augmentations)
        pixels = torch.as_tensor(
            resize.get_transform(image).apply_image(image).transpose(2, 0, 1).copy()
        ).float()
        given = [{"image": pixels, "height": SIZE[0], "width": SIZE[1]}]

        def step():
            with torch.inference_mode():
                return len(model(given)[0]["instances"])
    else:
        import record_mmdet_model  # noqa: F401  (makes mmcv.ops importable)

        if name == "convnext":
            import mmpretrain_convnext  # noqa: F401  (registers the backbone)
        from mmdet.apis import inference_detector, init_detector
        from mmengine.config import Config
        from mmengine.model import revert_sync_batchnorm

        file = configs / name / f"{MODELS[name].rpartition('/')[2]}.py"
        config = Config.fromfile(file, import_custom_modules=False)
        config.model.test_cfg.rcnn.score_thr = 0.0
        # Synchronised batch norm is for GPUs alone; it has the same values as batch norm here.
        model = revert_sync_batchnorm(init_detector(config, None, device="cpu"))

        def step():
            return len(inference_detector(model, image[..., ::-1].copy()).pred_instances)

    key = "model" if name in ("vitdet", "mvit") else "state_dict"
    if not repeats:
        seed(model, 1.0, 1.0)
        scale_last_layers(model, step)
        torch.save({key: model.state_dict(), "meta": {}}, weights)
        return {}
    model.load_state_dict(torch.load(weights, weights_only=False)[key])
    return {**measure(step, repeats), "detections": step()}


def scale_last_layers(model, step) -> None:
    """Scale the layers of `LAST_LAYERS`, so that their results for an image have these standard deviations.

    Args:
        model: Of torch; changed in place.
        step: Predicts the image.
    """

    def scale_at_first_call(layer, deviation: float):
        def scale(layer, given, found):
            hook.remove()
            factor = deviation / float(found.std())
            layer.weight.data *= factor
            layer.bias.data *= factor
            return found * factor

        hook = layer.register_forward_hook(scale)

    for name, layer in model.named_modules():
        for pattern, deviation in LAST_LAYERS.items():
            if re.search(pattern, name):
                scale_at_first_call(layer, deviation)
    step()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--library_python", default=sys.executable)
    parser.add_argument("--configs", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := sorted(set(args.models.split(",")) - set(MODELS)):
        parser.error(f"--models has {', '.join(unknown)}; choose from {', '.join(MODELS)}.")
    if args.measure == "ours":
        print(json.dumps(ours(args.models, args.weights, args.repeats)))
        return
    if args.measure == "theirs":
        print(json.dumps(theirs(args.models, args.weights, args.repeats, args.configs)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/xla")
        for name in args.models.split(","):
            common = [
                __file__,
                f"--models={name}",
                f"--weights={folder}/{name}.pth",
                f"--configs={args.configs}",
            ]
            library = [args.library_python, *common, "--measure=theirs"]
            in_turns({name: [*library, "--repeats=0"]}, 1)
            repeats = f"--repeats={args.repeats}"
            commands = {
                "ours": [sys.executable, *common, "--measure=ours", repeats],
                "theirs": [*library, repeats],
            }
            found = in_turns(commands, args.rounds)
            if None in (*found["ours"], *found["theirs"]):
                continue
            seconds = {who: [s for r in found[who] for s in r["seconds"]] for who in found}
            ratio = statistics.median(seconds["theirs"]) / statistics.median(seconds["ours"])
            peaks = [f"{max(r['peak_mib'] for r in found[who]):.0f}" for who in found]
            first = f"{found['ours'][0]['first_call_s']:.0f}"
            counts = [f"{found[who][0]['detections']}" for who in found]
            rows.append([name, first, *map(spread, seconds.values()), f"{ratio:.2f}", *peaks, *counts])
            print(f"{rows[-1]}", file=sys.stderr, flush=True)
    print(f"{hardware()}; {args.rounds} rounds of {args.repeats}\n")
    head = ["model", "first s", "ours, s", "library, s", "faster by", "MiB", "library, MiB"]
    head += ["detections", "library"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
