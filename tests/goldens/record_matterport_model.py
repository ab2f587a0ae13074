"""Record a whole detector of matterport's, stage by stage, with weights made from their names.

Usage: python tests/goldens/record_matterport_model.py    (in the environment of matterport_original.py)

The model is the original's own: ResNet-50, which it cannot make narrower, with a narrow pyramid and box
head. Recorded is what its layers put out, from its resizing of an image to its masks; images and weights are
made by `seeded_weights.py`. "alone" has every stage, the other cases what goes in and what comes out.
``layout`` is the order of layers and arrays in the file that the original saves.
"""

import json
import tempfile
import zlib
from pathlib import Path

import h5py
import matterport_original as original
import numpy as np
from seeded_weights import sampled, seeded_matterport_weight, seeded_scene

FIELDS = {
    "NUM_CLASSES": 4, "BACKBONE": "resnet50", "IMAGE_MIN_DIM": 96, "IMAGE_MAX_DIM": 128,
    "TOP_DOWN_PYRAMID_SIZE": 16, "FPN_CLASSIF_FC_LAYERS_SIZE": 32, "PRE_NMS_LIMIT": 300,
    "POST_NMS_ROIS_INFERENCE": 60, "DETECTION_MAX_INSTANCES": 12, "DETECTION_MIN_CONFIDENCE": 0.5,
}  # fmt: skip
# Height and width: reduced to the limit of its long side; enlarged; neither; enlarged, and thin.
CASES = {"alone": (90, 150), "small": (60, 50), "same": (110, 100), "thin": (30, 120)}
REGIONS, MASKS = 20, 4  # whose pooled features are kept
LEVELS = tuple(f"fpn_p{i}" for i in range(2, 7))
STAGES = ("res2c_out", "res3d_out", "res4f_out", "res5c_out")
# Sizes for the resizing alone, with the original's usual 800 and 1024.
SIZES = ((480, 640), (426, 640), (640, 427), (1200, 900), (1023, 1025), (333, 1024), (1024, 800), (7, 9))


def put_sample(golden, name, values, count=400):
    golden[f"{name}/values"] = sampled(name, values, count).astype(np.float32)
    golden[f"{name}/shape"] = np.array(values.shape)
    print(f"  {name} {values.shape} rms {values.std():.2g} largest {np.abs(values).max():.2g}")


def record(golden, case, model):
    image = seeded_scene(*CASES[case], [])["image"]
    names = (
        *STAGES, *LEVELS, "rpn_class", "rpn_bbox", "ROI", "roi_align_classifier", "mrcnn_class_logits",
        "mrcnn_class", "mrcnn_bbox", "mrcnn_detection", "roi_align_mask", "mrcnn_mask",
    )  # fmt: skip
    out = original.outputs(model, [image], names)
    golden[f"{case}/window"] = out["windows"][0]
    put_sample(golden, f"{case}/input", out["molded"])
    limits = FIELDS["IMAGE_MIN_DIM"], FIELDS["IMAGE_MAX_DIM"]
    resized, *_ = original.utils.resize_image(image, *limits, 0, "square")
    golden[f"{case}/input/crc"] = np.int64(zlib.crc32(resized.tobytes()))
    detections = out["mrcnn_detection"][0]
    print(case, "proposals", (out["ROI"][0].any(1)).sum(), "detections", detections[:, 4:].round(2).tolist())
    if case == "alone":
        for name in (*STAGES, *LEVELS):
            put_sample(golden, name, out[name])
        rpn = model.keras_model.get_layer("rpn_model")
        logits = np.concatenate([rpn(out[name])[0] for name in LEVELS], axis=1)
        golden |= {name: out[name][0].astype(np.float32) for name in LEVELS}
        golden["rpn_logits"] = logits[0]
        golden["rpn_probabilities"], golden["rpn_deltas"] = out["rpn_class"][0, :, 1], out["rpn_bbox"][0]
        golden["anchors"] = out["anchors"]
        golden["proposals"] = out["ROI"][0]
        golden["pooled"] = out["roi_align_classifier"][0, :REGIONS]
        put_sample(golden, "pooled", out["roi_align_classifier"][0], 2000)
        golden["logits"], golden["probabilities"] = out["mrcnn_class_logits"][0], out["mrcnn_class"][0]
        golden["box_deltas"] = out["mrcnn_bbox"][0]
        golden["mask_pooled"] = out["roi_align_mask"][0, :MASKS]
        put_sample(golden, "mask_pooled", out["roi_align_mask"][0], 2000)
        put_sample(golden, "mask_probabilities", out["mrcnn_mask"][0, :MASKS], 2000)
        own = out["mrcnn_mask"][0, np.arange(len(detections)), :, :, detections[:, 4].astype(int)]
        golden["own_masks"] = own
    golden[f"{case}/detections"] = detections
    (result,) = model.detect([image])
    golden[f"{case}/boxes"], golden[f"{case}/labels"] = result["rois"], result["class_ids"]
    golden[f"{case}/scores"] = result["scores"]
    golden[f"{case}/masks"] = np.packbits(result["masks"].transpose(2, 0, 1))


def record_resizing(golden):
    for height, width in SIZES:
        image = seeded_scene(height, width, [])["image"]
        resized, window, *_ = original.utils.resize_image(image, 800, 1024, 0, "square")
        key = f"resize/{height}x{width}"
        golden[f"{key}/window"], golden[f"{key}/crc"] = (
            np.array(window),
            np.int64(zlib.crc32(resized.tobytes())),
        )
        put_sample(golden, key, resized, 200)


def record_functions(golden):
    """crop_and_resize of regions within and beyond a map, and masks that are pasted, one all covered."""
    rng = np.random.RandomState(7)
    boxes = rng.uniform(-0.3, 1.3, (40, 4)).astype(np.float32)
    boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + np.abs(boxes[:, 2:])], 1)  # in the order y, x
    features = rng.standard_normal((1, 12, 20, 3)).astype(np.float32)
    golden["crop/boxes"], golden["crop/features"] = boxes, features[0]
    for bins in (1, 7, 14):
        pooled = original.tf.image.crop_and_resize(features, boxes, np.zeros(40, np.int32), (bins, bins))
        golden[f"crop/{bins}"] = pooled.numpy()
    masks = rng.uniform(0, 1, (6, 28, 28)).astype(np.float32)
    masks[0], masks[1] = 0.9, np.float32(0.5) + masks[1] / 2
    places = np.array(
        [[3, 5, 40, 60], [0, 0, 7, 90], [10, 10, 11, 12], [20, 40, 80, 70], [0, 0, 90, 100], [5, 5, 33, 33]]
    )
    pasted = [original.utils.unmold_mask(m, p, (90, 100, 3)) for m, p in zip(masks, places, strict=True)]
    golden["paste/masks"], golden["paste/boxes"] = masks, places
    golden["paste/pasted"] = np.packbits(np.stack(pasted))


def layout(path):
    """Layers in order, each with the names of its arrays, of those that have some."""
    with h5py.File(path) as file:
        groups = {
            name: file[name].attrs["weight_names"].tolist() for name in file.attrs["layer_names"].tolist()
        }
    return {name: [as_text(n) for n in names] for name, names in groups.items() if len(names)}


def as_text(name):
    return name.decode() if isinstance(name, bytes) else name


def main():
    golden = {"versions": original.VERSIONS, "fields": json.dumps(FIELDS), "cases": json.dumps(CASES)}
    with tempfile.TemporaryDirectory() as folder:
        model, names = original.make_model(original.make_config(**FIELDS), seeded_matterport_weight, folder)
        golden["names"] = json.dumps(names)
        for case in CASES:
            record(golden, case, model)
        model.keras_model.save_weights(f"{folder}/saved.h5")
        golden["layout"] = json.dumps(layout(f"{folder}/saved.h5"))
    record_resizing(golden)
    record_functions(golden)
    path = Path(__file__).parent / "matterport_model.npz"
    np.savez_compressed(path, **golden)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
