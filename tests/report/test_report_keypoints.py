"""Keypoints in the report: errors by keypoint, AP, and what is said where they are not measured."""

import contextlib
import json
import re

import numpy as np
import pytest
from data_helpers import annotation, content
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.evaluation.coco import GroundTruth, coco_metrics
from jaxmaskrcnn.report.keypoints import KINDS, error_kinds, similarity
from jaxmaskrcnn.report.results import compute

POINTS = ["head", "left hand", "right hand"]
CATEGORIES = [
    {"id": 1, "name": "person", "keypoints": POINTS, "skeleton": [[1, 2], [1, 3]]},
    {"id": 2, "name": "ball"},
]
SIZE, AREA, SIGMA = 60, 900, 0.05
# A distance in pixels at which the similarity is this.
GOOD, JITTER = 0.5, 2.5


def place(x, y, *points):
    """A person of 30 x 30 pixels at a place, with keypoints relative to it."""
    flat = [value for dx, dy, v in points for value in ((x + dx, y + dy, v) if v else (0, 0, 0))]
    return {
        "bbox": [x, y, 30, 30], "area": AREA, "keypoints": flat, "category_id": 1,
        "segmentation": [[x, y, x + 30, y, x + 30, y + 30, x, y + 30]],
    }  # fmt: skip


BODY = (15, 5, 2), (5, 15, 2), (25, 15, 1)


def scene():
    """Two people in one image and one in another, whose right hand is not annotated; and a ball."""
    people = [(1, place(0, 0, *BODY)), (1, place(30, 30, *BODY)), (2, place(5, 5, *BODY[:2], (0, 0, 0)))]
    ball = {"bbox": [40, 5, 10, 10], "area": 100, "category_id": 2,
            "segmentation": [[40, 5, 50, 5, 50, 15, 40, 15]]}  # fmt: skip
    entries = [annotation(i, image, **fields) for i, (image, fields) in enumerate([*people, (2, ball)], 1)]
    # The first person's hands are exchanged; the second's head is at the first's, its left hand jitters and
    # its right hand is nowhere; the third person's head is right.
    points = [
        (15, 5), (25, 15), (5, 15),
        (15, 5), (35 + JITTER, 45), (58, 33),
        (20 + GOOD, 10), (50, 50), (0, 0),
    ]  # fmt: skip
    found = [
        {"image_id": image, "category_id": 1, "score": 0.9, "bbox": fields["bbox"],
         "keypoints": [value for x, y in points[3 * i : 3 * i + 3] for value in (x, y, 0.8)]}
        for i, (image, fields) in enumerate(people)
    ]  # fmt: skip
    found.append(
        {"image_id": 2, "category_id": 2, "score": 0.4, "bbox": ball["bbox"], "keypoints": [1, 1, 0.1] * 3}
    )
    return content(entries, [(SIZE, SIZE)] * 2, CATEGORIES), found


def test_the_similarity_is_that_of_pycocotools():
    data, found = scene()
    truth, results = COCO(), COCO()
    for entry in (*data["annotations"], *found):
        entry.setdefault("num_keypoints", 3)
    truth.dataset = {
        **data,
        "annotations": [{**a, "iscrowd": 0} for a in data["annotations"] if a["category_id"] == 1],
    }
    results.dataset = {**data, "annotations": [
        {**entry, "id": i, "area": AREA, "iscrowd": 0} for i, entry in enumerate(found[:3], 1)]}  # fmt: skip
    with contextlib.redirect_stdout(None):
        truth.createIndex(), results.createIndex()
        evaluation = COCOeval(truth, results, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array([0.05, 0.1, 0.2])
        evaluation._prepare()
        theirs = evaluation.computeOks(1, 1)
    ours = np.zeros_like(theirs)
    for i, one in enumerate(found[:2]):
        for j, other in enumerate(data["annotations"][:2]):
            a, b = (np.reshape(x["keypoints"], (-1, 3))[:, :2] for x in (one, other))
            ours[i, j] = similarity(np.linalg.norm(a - b, axis=1), AREA, np.array([0.05, 0.1, 0.2])).mean()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert (ours > 0.01).any()


@pytest.mark.parametrize(
    "x, y, kind",
    [
        (15, 5 + GOOD, "good"),
        (15, 5 + JITTER, "jitter"),
        (5, 15.5, "inversion"),
        (45, 35, "swap"),
        (50, 2, "miss"),
    ],
)
def test_kinds_of_errors_by_hand(x, y, kind):
    own, other = (np.reshape(place(p, p, *BODY)["keypoints"], (-1, 3)) for p in (0, 30))
    found = np.float64([[x, y], [5, 15], [25, 15]])
    kinds = error_kinds(found, own, [other], AREA, np.full(3, SIGMA))
    assert [KINDS[k] for k in kinds] == [kind, "good", "good"]
    hidden = own * [1, 1, 0]  # nothing annotated
    assert (error_kinds(found, hidden, [other], AREA, np.full(3, SIGMA)) == -1).all()


def test_errors_by_keypoint():
    data, found = scene()
    results = compute(GroundTruth(data, keypoints=True), found, 0.5)
    errors = results.keypoints
    assert errors.names == tuple(POINTS) and errors.sigmas == (SIGMA,) * 3
    expected = {"head": [2, 0, 0, 1, 0], "left hand": [0, 1, 1, 0, 1], "right hand": [0, 0, 1, 0, 1]}
    assert dict(zip(errors.names, errors.counts.tolist(), strict=True)) == expected
    assert errors.distances[0] == pytest.approx(GOOD)
    assert results.metrics["keypoint_AP"] == coco_metrics(data, found, ("keypoints",))["keypoint_AP"]
    # Detections below the threshold are absent.
    assert compute(GroundTruth(data, keypoints=True), found, 0.95).keypoints.counts.sum() == 0


def without_keypoints(entries):
    return [{key: value for key, value in entry.items() if key != "keypoints"} for entry in entries]


def make(folder, data, found, *more):
    (folder / "images").mkdir(exist_ok=True)
    for image in data["images"]:
        Image.new("RGB", (SIZE, SIZE), (90, 120, 90)).save(folder / "images" / image["file_name"])
    (folder / "val.json").write_text(json.dumps(data))
    (folder / "found.json").write_text(json.dumps(found))
    lines = ["report", str(folder / "found.json"), str(folder / "val.json"), f"--images={folder / 'images'}"]
    code = command([*lines, f"--output={folder / 'out'}", *more])
    return (folder / "out" / "report.html").read_text() if code == 0 else code


def test_the_page_has_them(tmp_path):
    data, found = scene()
    page = make(tmp_path, data, found)
    metrics = coco_metrics(data, found, ("keypoints",))
    assert 'href="#keypoints"' in page and "keypoint AP" in page and "not measured" not in page
    assert f"<b>{metrics['keypoint_AP']:.3f}</b>keypoint AP" in page
    row = re.search(r'<th scope="row">left hand</th>(.*?)</tr>', page)[1]
    assert re.findall(r"<td>([^<]*)</td>", row) == [
        "3",
        "0.00",
        "0.33",
        "0.33",
        "0.00",
        "0.33",
        "20.0",
        "0.05",
    ]
    # Pictures show the keypoints.
    plain = {**data, "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "ball"}]}
    plain["annotations"] = without_keypoints(data["annotations"])
    without = make(tmp_path, plain, without_keypoints(found))
    pictures = [re.findall('src="data:image/jpeg[^"]*"', source) for source in (page, without)]
    assert len(pictures[0]) == len(pictures[1]) == 4 and all(a != b for a, b in zip(*pictures, strict=True))


def test_own_sigmas(tmp_path, capsys):
    """Wide ones make a jitter good and raise AP, which is that of the metrics with the same sigmas."""
    data, found = scene()
    page = make(tmp_path, data, found, "--sigmas=0.05,0.5,0.05")
    metrics = coco_metrics(data, found, ("keypoints",), (0.05, 0.5, 0.05))
    assert metrics["keypoint_AP"] != coco_metrics(data, found, ("keypoints",))["keypoint_AP"]
    assert f"<b>{metrics['keypoint_AP']:.3f}</b>keypoint AP" in page
    row = re.search(r'<th scope="row">left hand</th>(.*?)</tr>', page)[1]
    assert re.findall(r"<td>([^<]*)</td>", row)[-1] == "0.5"
    plain = without_keypoints(found)
    for sigmas, detections, said in (
        ("0.1,0.2", found, "--sigmas has 2 numbers for 3 keypoints (head, left hand, right hand)"),
        ("0.1,x,1", found, "--sigmas is '0.1,x,1'; give a number above 0 for each keypoint"),
        ("0.1,0,1", found, "--sigmas is '0.1,0,1'; give a number above 0"),
        ("0.1,1,1", plain, "--sigmas has no effect, as no keypoints are measured"),
    ):
        assert make(tmp_path, data, detections, f"--sigmas={sigmas}") == 2
        assert said in capsys.readouterr().err


def test_what_is_not_measured_is_said(tmp_path, capsys):
    data, found = scene()
    plain = without_keypoints(found)
    said = "Keypoints are not measured: the detections have none."
    page = make(tmp_path, data, plain)
    assert said in page and said in capsys.readouterr().out and 'id="keypoints"' not in page
    for entry in data["annotations"]:
        entry.pop("keypoints", None)
    del data["categories"][0]["keypoints"]
    page = make(tmp_path, data, found)
    assert "Keypoints are not measured: the annotations have none." in page


@pytest.mark.parametrize(
    "change, said",
    [
        ({"keypoints": [1, 2, 3]}, "detection 0 .image 1. has no list of 3 keypoints, as many as the"),
        ({"keypoints": "all"}, "has no list of 3 keypoints"),
        ({"keypoints": [1, 2, None] * 3}, "has no list of 3 keypoints"),
        ({"keypoints": [1, 2, [3]] * 3}, "has no list of 3 keypoints"),
        ({"keypoints": None}, "detection 0 has no keypoints while others have some; write keypoints"),
    ],
)  # fmt: skip
def test_faults_are_one_sentence(change, said, tmp_path, capsys):
    data, found = scene()
    found[0].update(change)
    assert make(tmp_path, data, found) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and re.search(said, lines[0]), lines
