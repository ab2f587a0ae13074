"""pycocotools as its own manual uses it, which the numbers of this project are compared with."""

import contextlib
import copy
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = "AP AP50 AP75 AP_small AP_medium AP_large AR1 AR10 AR100 AR_small AR_medium AR_large".split()


def evaluate(content, detections, iou_type):
    """Scores COCO results.

    Args:
        content: Annotations with whole-numbered ids; they get new ones from 1 on, because pycocotools takes a
            match with an annotation whose id is 0 for none.
        detections: COCO results; may be empty, which ``COCO.loadRes`` cannot read.
        iou_type: ``"bbox"``, or ``"segm"``, which everyone scores without the boxes.

    Returns:
        The ``COCOeval`` after its three steps.
    """
    content = copy.deepcopy(content)
    for number, annotation in enumerate(content["annotations"], 1):
        annotation["id"] = number
    left = "bbox" if iou_type == "segm" else "segmentation"
    entries = [{k: copy.deepcopy(v) for k, v in entry.items() if k != left} for entry in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        truth, results = COCO(), COCO()
        truth.dataset = {"info": {}, **content}
        truth.createIndex()
        if entries:
            results = truth.loadRes(entries)
        else:
            results.dataset = {**content, "annotations": []}
            results.createIndex()
        evaluation = COCOeval(truth, results, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
