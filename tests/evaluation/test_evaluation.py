"""COCO metrics against pycocotools itself, and the annotations it stumbles over."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.data.rle import decode_mask
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth, coco_metrics
from jaxmaskrcnn.evaluation.evaluate import match_categories
from jaxmaskrcnn.evaluation.tables import format_metrics
from jaxmaskrcnn.structures import Category

HEIGHT, WIDTH = 120, 160


def make_annotations(seed=0, images=4):
    """Polygons, compressed and uncompressed RLE, a crowd, ids with holes, an empty image."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(images - 1):
        for k in range(4):
            side = (10, 33, 60, 25)[k]  # 33: medium as a box, small as a mask
            x, y = rng.integers(0, WIDTH - side), rng.integers(0, HEIGHT - side)
            mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
            mask[y : y + side, x : x + side] = 1
            mask[y : y + side // 2, x : x + side // 3] = 0
            rle = rle_codec.encode(mask)
            forms = {
                0: [[x, y, x + side, y, x + side, y + side, x, y + side + 0.5]],
                1: {"size": rle["size"], "counts": rle["counts"].decode()},
                2: {"size": rle["size"], "counts": run_lengths(mask)},
                3: {"size": rle["size"], "counts": run_lengths(mask)},
            }
            box = [x, y, side, side]
            annotations.append(
                {
                    "id": 100 * image + 7 * k,  # begins with 0, which COCOeval takes for unmatched
                    "image_id": 11 + 5 * image,
                    "category_id": (3, 90, 90, 3)[k],
                    "bbox": [float(v) for v in box],
                    "area": float(side * side),
                    "iscrowd": int(k == 3),
                    "segmentation": forms[k],
                }
            )
    return json.loads(
        json.dumps(
            {
                "images": [
                    {"id": 11 + 5 * i, "height": HEIGHT, "width": WIDTH, "file_name": f"{i}.png"}
                    for i in range(images)
                ],
                "annotations": annotations,
                "categories": [{"id": i, "name": n} for i, n in ((90, "eel"), (3, "cat"), (17, "dog"))],
            },
            default=int,
        )
    )


def run_lengths(mask):
    flat = np.concatenate([[0], mask.ravel(order="F"), [0]])
    edges = np.flatnonzero(np.diff(flat))
    bounds = np.concatenate([[0], edges, [mask.size]])
    counts = np.diff(bounds).tolist()
    return counts[:-1] if counts[-1] == 0 else counts


def truth_as_detections(content):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(content)
        coco.createIndex()
    results = []
    for ann in content["annotations"]:
        if not ann["iscrowd"]:
            rle = coco.annToRLE(ann)
            counts = rle["counts"]
            results.append(
                {
                    "image_id": ann["image_id"],
                    "category_id": ann["category_id"],
                    "bbox": ann["bbox"],
                    "score": 0.9,
                    "segmentation": {
                        "size": rle["size"],
                        "counts": counts if isinstance(counts, str) else counts.decode(),
                    },
                }
            )
    return results


def noisy_detections(content, seed=0):
    """Shifted boxes and masks, some missing, some false, random scores."""
    rng = np.random.default_rng(seed)
    truth = truth_as_detections(content)
    # False, and small by its mask only: it counts among the small ones or not at all.
    results = [{**truth[1], "category_id": 3, "score": 0.99}]
    for d in truth * 2:
        dx, dy = rng.integers(-4, 5, 2)
        mask = np.roll(decode_mask(d["segmentation"]["counts"].encode(), HEIGHT, WIDTH).T, (dy, dx), (0, 1))
        rle = rle_codec.encode(np.asfortranarray(mask, np.uint8))
        x, y, w, h = d["bbox"]
        results.append(
            {
                **d,
                "category_id": int(rng.choice([3, 17, 90, d["category_id"], d["category_id"]])),
                "bbox": [x + int(dx), y + int(dy), w, h + 2],
                "score": float(rng.random()),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    return results


def reference(annotation_file, detections_file, iou_type):
    """pycocotools as its own manual uses it; for masks without the boxes, as everyone does."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        truth = COCO(str(annotation_file))
        if iou_type == "segm":
            entries = json.loads(detections_file.read_text())
            results = truth.loadRes([{k: v for k, v in e.items() if k != "bbox"} for e in entries])
        else:
            results = truth.loadRes(str(detections_file))
        evaluation = COCOeval(truth, results, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation, printed.getvalue()


@pytest.mark.parametrize("seed", [0, 1])
def test_ground_truth_fed_back_scores_one(seed):
    content = make_annotations(seed)
    metrics = coco_metrics(content, truth_as_detections(content))
    assert metrics["box_AP"] == metrics["mask_AP"] == 1.0
    assert metrics["box_AR100"] == metrics["mask_AR100"] == 1.0
    assert metrics["per_class"] == {
        "cat": {"box_AP": 1.0, "mask_AP": 1.0},
        "dog": {"box_AP": None, "mask_AP": None},  # no ground truth
        "eel": {"box_AP": 1.0, "mask_AP": 1.0},
    }


def test_same_numbers_as_pycocotools_on_the_written_file(tmp_path):
    content = make_annotations()
    for ann in content["annotations"]:
        ann["id"] += 1  # pycocotools alone cannot score an annotation with the id 0
    content["info"] = {}  # nor load results without this
    detections = noisy_detections(content)
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (tmp_path / "detections.json").write_text(json.dumps(detections))
    metrics = coco_metrics(tmp_path / "instances.json", detections)
    assert 0.1 < metrics["mask_AP"] < 0.9 and 0.1 < metrics["box_AP"] < 0.9
    names = "AP AP50 AP75 AP_small AP_medium AP_large AR1 AR10 AR100 AR_small AR_medium AR_large".split()
    table = format_metrics(metrics)
    for iou_type, prefix in (("bbox", "box"), ("segm", "mask")):
        evaluation, printed = reference(tmp_path / "instances.json", tmp_path / "detections.json", iou_type)
        ours = [metrics[f"{prefix}_{name}"] for name in names]
        np.testing.assert_allclose([-1 if v is None else v for v in ours], evaluation.stats, atol=1e-12)
        lines = [line for line in printed.splitlines() if " @[ " in line]
        assert len(lines) == 12 and all(line in table for line in lines)
        precision = evaluation.eval["precision"][..., 0, 0, -1]
        assert metrics["per_class"]["cat"][f"{prefix}_AP"] == pytest.approx(precision.mean(), abs=1e-12)


def test_detections_are_left_as_they_were():
    content = make_annotations()
    detections = truth_as_detections(content)
    before = copy.deepcopy((content, detections))
    coco_metrics(content, detections)
    assert (content, detections) == before


def test_no_detections_score_zero(capsys):
    content = make_annotations()
    metrics = coco_metrics(content, [])
    assert metrics["box_AP"] == metrics["mask_AP"] == metrics["mask_AR100"] == 0.0
    assert metrics["per_class"]["eel"] == {"box_AP": 0.0, "mask_AP": 0.0}
    assert capsys.readouterr().out == ""


def test_no_ground_truth_is_none_and_valid_json():
    content = {**make_annotations(), "annotations": []}
    metrics = coco_metrics(content, [])
    assert metrics["box_AP"] is None and metrics["per_class"]["cat"]["mask_AP"] is None
    json.dumps(metrics, allow_nan=False)
    assert "= -1.000" in format_metrics(metrics)


def test_missing_fields_are_made_up_for():
    content = make_annotations()
    expected = coco_metrics(content, noisy_detections(content))
    for ann in content["annotations"]:
        del ann["area"]
        if not ann["iscrowd"]:
            del ann["iscrowd"]
    metrics = coco_metrics(content, noisy_detections(make_annotations()))
    assert metrics["box_AP"] == expected["box_AP"] and metrics["mask_AP"] == expected["mask_AP"]


def test_unreadable_annotations_are_left_out_and_reported(caplog):
    content = make_annotations()
    detections = truth_as_detections(content)
    content["annotations"] += [
        {"id": 901, "image_id": 11, "category_id": 3, "segmentation": [[1, 2]]},
        {
            "id": 902,
            "image_id": 11,
            "category_id": 3,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": "\x7f!"},
        },
        {"id": 903, "image_id": 999, "category_id": 3, "bbox": [0, 0, 5, 5]},
    ]
    assert coco_metrics(content, detections)["mask_AP"] == 1.0
    assert "901, 902, 903" in caplog.text


@pytest.mark.parametrize("size", [[HEIGHT - 1, WIDTH], [WIDTH, HEIGHT]])
@pytest.mark.parametrize("form", [1, 2])  # compressed and uncompressed
def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path, caplog, size, form):
    content = make_annotations()
    detections = truth_as_detections(content)
    wrong = content["annotations"][form]
    wrong["segmentation"]["size"] = size
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        coco_metrics(path, detections)
    for said in (str(path), f"annotation {wrong['id']} of image 11 ", str(size), str([HEIGHT, WIDTH])):
        assert said in str(error.value)

    skipping = GroundTruth(content, on_error="skip")
    count = sum(not entry["iscrowd"] for entry in content["annotations"]) - 1
    for kind in ("segm", "bbox"):
        assert len([entry for entry in skipping.objects(kind) if not entry["iscrowd"]]) == count
    assert f"ids {wrong['id']})" in caplog.text
    # What was found of the object that is left out is neither right nor wrong.
    assert coco_metrics(skipping, detections)["box_AP"] == 1.0
    detections.pop(form)
    assert coco_metrics(skipping, detections)["box_AP"] == 1.0


def test_a_detected_mask_of_another_size_is_refused():
    content = make_annotations()
    detections = truth_as_detections(content)
    detections[2]["segmentation"]["size"] = [WIDTH, HEIGHT]
    with pytest.raises(UserError, match=r"Detection 2 .* image 11, .*\[160, 120\].*\[120, 160\]"):
        coco_metrics(content, detections)
    assert coco_metrics(content, detections, ("bbox",))["box_AP"] == 1.0


def test_an_object_whose_mask_cannot_be_read_is_not_scored_as_training_does_not_learn_it(caplog):
    content = make_annotations()
    detections = truth_as_detections(content)
    content["annotations"][1]["segmentation"]["counts"] = "\x7f!"
    content["annotations"][2]["segmentation"]["counts"].append(7)  # more pixels than the image has
    del content["annotations"][5]["segmentation"]  # nothing wrong with that
    ids = ", ".join(str(content["annotations"][i]["id"]) for i in (1, 2))
    assert coco_metrics(content, detections[:1] + detections[3:])["box_AP"] == 1.0
    assert f"ids {ids})" in caplog.text


def test_images_need_no_names_and_no_sizes_to_be_scored():
    content = make_annotations()
    detections = truth_as_detections(content)
    content["images"] = [{"id": image["id"]} for image in content["images"]]
    truth = GroundTruth(content)
    assert not truth.has_masks and coco_metrics(truth, detections, ("bbox",))["box_AP"] == 1.0


def test_categories_of_one_name_are_told_apart_by_id():
    content = make_annotations()
    content["categories"] = [{"id": i, "name": "thing"} for i in (3, 17)] + [{"id": 90, "name": "eel"}]
    assert list(coco_metrics(content, [])["per_class"]) == ["3", "17", "eel"]


def test_unknown_image_is_named():
    content = make_annotations()
    detection = {"image_id": 404, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1.0}
    with pytest.raises(UserError, match="404"):
        coco_metrics(content, [detection], ("bbox",))


@pytest.mark.parametrize("content, said", [("{", "not valid json"), ("[]", "list"), ("{}", "'images'")])
def test_wrong_annotation_files_are_named(tmp_path, content, said):
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said) as error:
        coco_metrics(path, [])
    assert str(path) in str(error.value)


CAT, DOG, EEL = Category(3, "cat"), Category(17, "dog"), Category(90, "eel")


def test_categories_that_the_model_names_are_taken(caplog):
    config = ModelConfig(num_classes=2, categories=(EEL, CAT))
    assert match_categories(config, (CAT, EEL)) == (EEL, CAT)
    assert not caplog.records
    assert match_categories(config, (CAT, DOG, EEL)) == (EEL, CAT)
    assert "17 (dog)" in caplog.text
    with pytest.raises(UserError, match=r"1 of the model's 2 categories: 90 \(eel\), and have 3 \(cat\), 17"):
        match_categories(config, (CAT, DOG))
    unused = ModelConfig(num_classes=2, categories=(CAT, Category(12, "N/A")))
    assert match_categories(unused, (CAT,)) == unused.categories


def test_a_model_without_names_takes_the_annotations_or_numbers_them_as_torchvision():
    assert match_categories(ModelConfig(num_classes=3), (CAT, DOG, EEL)) == (CAT, DOG, EEL)
    matched = match_categories(ModelConfig(num_classes=90), (CAT, DOG, EEL))
    assert [c.id for c in matched] == list(range(1, 91)) and matched[16] == DOG
    with pytest.raises(UserError, match="80 classes.*3 categories"):
        match_categories(ModelConfig(num_classes=80, background="last"), (CAT, DOG, EEL))
    with pytest.raises(UserError, match="50 classes.*3 categories"):  # 90 is beyond its labels
        match_categories(ModelConfig(num_classes=50), (CAT, DOG, EEL))
