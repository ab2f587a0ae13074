"""Results as one self-contained HTML page, without scripts and without other files to load."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.report.confusion import most_confused
from jaxmaskrcnn.report.counts import count_section
from jaxmaskrcnn.report.errors import BACKGROUND, FOREGROUND, KINDS
from jaxmaskrcnn.report.figures import curve_plots, score_plots
from jaxmaskrcnn.report.html import gauge, number, scroll, section, table
from jaxmaskrcnn.report.keypoints import keypoint_section
from jaxmaskrcnn.report.pictures import Pair
from jaxmaskrcnn.report.results import Results
from jaxmaskrcnn.report.segments import quality_section
from jaxmaskrcnn.report.style import CSS
from jaxmaskrcnn.report.svg import heatmap

_CONFUSIONS = 15

# The numbers of all protocols in their order, of which each has some: metric, description.
_METRICS = (
    ("AP", "mean over IoU 0.50 to 0.95"),
    ("AP50", "IoU 0.50"),
    ("AP75", "IoU 0.75"),
    ("AP_small", "objects below 32² pixels"),
    ("AP_medium", "objects of 32² to 96² pixels"),
    ("AP_large", "objects above 96² pixels"),
    ("AP_rare", "classes in at most 10 training images"),
    ("AP_common", "classes in 11 to 100 training images"),
    ("AP_frequent", "classes in more than 100 training images"),
    ("AR1", "1 detection per image and class"),
    ("AR10", "10 detections per image and class"),
    ("AR100", "100 detections per image and class"),
    ("AR300", "300 detections per image"),
    ("AR_small", "objects below 32² pixels"),
    ("AR_medium", "objects of 32² to 96² pixels"),
    ("AR_large", "objects above 96² pixels"),
)

_CAPTIONS = {
    "coco": "COCO's twelve numbers, from 0 to 1",
    "lvis": "LVIS' numbers, from 0 to 1; the rest of the page follows COCO's rules",
    "cityscapes": "Cityscapes' numbers, from 0 to 1; the rest of the page follows COCO's rules",
}

_MEANINGS = {
    "place": f"overlaps an object of its class by {BACKGROUND} to {FOREGROUND}",
    "class": f"overlaps an object of another class by {FOREGROUND} or more",
    "duplicate": "right, but a detection with a higher score has found the same object",
    "background": f"overlaps no object by {BACKGROUND}",
    "both": f"overlaps an object of another class by {BACKGROUND} to {FOREGROUND}",
    "missed": "an object that no detection found and to which no class or place error refers",
}


class Picture(NamedTuple):
    """An image of the page: its index among the results' images, its name and its pictures."""

    index: int
    name: str
    pair: Pair


def make_page(
    results: Results, title: str, sources: str, worst: Sequence[Picture], best: Sequence[Picture]
) -> str:
    """Writes the page.

    Args:
        results: The results.
        title: Heading of the page, plain text.
        sources: Full description of the files, plain text.
        worst: The worst images, worst first.
        best: The best images, best first.

    Returns:
        HTML.
    """
    metrics = results.metrics
    sections = (
        ("ap", "Average precision", _average_precision(results)),
        ("classes", "Classes", _classes(results)),
        ("keypoints", "Keypoints", keypoint_section(results.keypoints, metrics, results.score_threshold)),
        ("segments", "Segments", quality_section(results.quality)),
        ("curves", "Precision and recall", curve_plots(results)),
        ("counts", "Counts", count_section(results.object_counts, results.names, results.score_threshold)),
        ("errors", "Error types", _errors(results)),
        ("confusion", "Confusion", _confusion(results)),
        ("scores", "Scores", score_plots(results)),
        ("worst", "Worst pictures", _pictures(results, worst)),
        ("best", "Best pictures", _pictures(results, best)),
    )
    sections = tuple(part for part in sections if part[2])  # what is not measured has none
    links = "".join(f'<a href="#{identity}">{name}</a>' for identity, name, _ in sections)
    body = "".join(section(*part) for part in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>\n"
        f'<p class="muted path">{escape(sources)}</p>\n{_summary(results)}<nav>{links}</nav></header>\n'
        f"<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _summary(results) -> str:
    metrics, prefix = results.metrics, results.prefix
    counts = (
        _count(len(results.samples), "image", "images"),
        _count(int(results.counts.sum()), "object", "objects"),
        _count(results.crowds, "crowd region", "crowd regions"),
        _count(len(results.names), "class", "classes"),
        _count(results.num_detections, "detection", "detections"),
    )
    names = [name for name in ("AP", "AP50", "AP75") if f"{prefix}_{name}" in metrics]
    tiles = [(f"{prefix} {name}", number(metrics[f"{prefix}_{name}"])) for name in names]
    if prefix == "mask" and "box_AP" in metrics:
        tiles.append(("box AP", number(metrics["box_AP"])))
    if "keypoint_AP" in metrics:
        tiles.append(("keypoint AP", number(metrics["keypoint_AP"])))
    if results.quality is not None:
        tiles.append(("PQ", number(results.quality.metrics["PQ"])))
    tiles.append(("calibration error", number(results.reliability.error)))
    items = "".join(f"<li><b>{value}</b>{name}</li>" for name, value in tiles)
    without = (
        "" if prefix == "mask" else "Detections or objects have no masks, so the whole page refers to boxes. "
    )
    return (
        f'<p class="muted">{", ".join(counts)}. {without}The score threshold is '
        f"{results.score_threshold:g}. {results.not_measured}</p>\n"
        f'<ul class="tiles">{items}</ul>\n'
    )


def _average_precision(results) -> str:
    prefixes = [p for p in ("mask", "box") if f"{p}_AP" in results.metrics]
    rows = [
        (name.replace("_", " "), *(number(results.metrics[f"{p}_{name}"]) for p in prefixes), meaning)
        for name, meaning in _METRICS
        if f"{prefixes[0]}_{name}" in results.metrics
    ]
    caption = _CAPTIONS[results.metrics.get("protocol", "coco")]
    return table(caption, ("", *prefixes, "of"), rows, words=(len(prefixes) + 1,))


def _classes(results) -> str:
    prefixes = [p for p in ("mask", "box") if f"{p}_AP" in results.metrics]
    keypoints = ["keypoint AP"] if "keypoint_AP" in results.metrics else []
    head = ["class", "objects", *(f"{p} AP" for p in prefixes), *keypoints, f"{results.prefix} AP50"]
    head += [f"{results.prefix} AP75", "precision", "recall"]
    rows = []
    for k in results.by_ap():
        name = results.names[k]
        values = [results.metrics["per_class"][name][f"{p}_AP"] for p in prefixes]
        values += [results.metrics["per_class"][name]["keypoint_AP"] for _ in keypoints]
        values += [results.curves50[k].mean(), results.curves75[k].mean()]
        values += [results.precision[k], results.recall[k]]
        rows.append((escape(name), f"{results.counts[k]:,}", *map(number, values)))
    caption = (
        f"The lowest AP first. Precision and recall are those at the score {results.score_threshold:g} and "
        f"IoU {FOREGROUND}; a dash marks a division by zero"
    )
    return table(caption, head, rows)


def _errors(results) -> str:
    largest = max([0.0, *(row.gain for row in results.errors)])
    rows = [
        (
            row.kind,
            f"{row.count:,}",
            number(row.gain, sign=True) + gauge(row.gain / largest if largest else 0),
            _MEANINGS[row.kind],
        )
        for row in results.errors
    ]
    protocol = results.metrics.get("protocol", "coco")
    # The errors are found by COCO's rules, whatever the protocol is.
    coco = (
        results.metrics[f"{results.prefix}_AP50"]
        if protocol == "coco"
        else float(np.nanmean(results.curves50))
    )
    now = number(coco)
    caption = f"{results.noun}, detections of every score, AP50 {now}"
    return (
        "<p>Types of wrong detections, and the increase of AP50 if all errors of one type, and no others, "
        "were corrected. Gains do not add up, because one error can hide another. Each detection is "
        "tested in the order of the table.</p>\n"
        + table(caption, ("type", "count", "AP50 if corrected", "description"), rows, words=(3,))
        + '<p class="muted">The types are those of TIDE (Bolya et al. 2020, '
        '<a href="https://arxiv.org/abs/2008.08115">arXiv:2008.08115</a>). Overlap is the intersection over '
        "union; detections inside crowd regions are left out, as in COCO.</p>\n"
    )


def _confusion(results) -> str:
    names = [*results.names, "background"]
    text = (
        f"<p>{results.noun} at IoU {FOREGROUND} and scores of {results.score_threshold:g} or more. A row "
        "is an object's true class, a column the detected one; the shade is the share of the row. The last "
        "column counts the objects that were not detected, the last row the detections without an "
        "object.</p>\n"
    )
    title = "Confusion matrix"
    text += scroll(heatmap(title, results.confusion, names, names), title)
    mistakes = most_confused(results.confusion, _CONFUSIONS)
    if mistakes and len(results.names) > 2:
        objects = results.confusion[:-1].sum(1)
        rows = [
            (
                escape(names[m.true]),
                escape(names[m.detected]),
                f"{m.count:,}",
                number(m.count / objects[m.true]),
            )
            for m in mistakes
        ]
        head = ("object", "detected as", "count", "share of the class")
        text += "<h3>Most frequent</h3>\n" + table("Classes taken for one another", head, rows, words=(1,))
    return text


def _pictures(results, pictures) -> str:
    if not pictures:
        return "<p>None.</p>\n"
    text = (
        "<p>Annotations are on the left, detections on the right. Blue objects were found and blue "
        "detections are right; orange ones are missed or wrong; grey ones belong to crowd regions.</p>\n"
    )
    for picture in pictures:
        result = results.outcomes[picture.index]
        errors = results.image_errors[picture.index]
        kept = results.samples[picture.index].scores >= results.score_threshold
        counts = [int((errors.kind[kept] == number).sum()) for number in range(len(KINDS))]
        words = ", ".join(f"{count} {kind}" for kind, count in zip(KINDS, counts, strict=True) if count)
        caption = (
            f"<b>{escape(picture.name)}</b> (image {results.samples[picture.index].image_id}): "
            f"{result.found} of {result.found + result.lost} found, {result.false} false"
            f"{f' ({words})' if words else ''}; quality {number(result.quality, 2)}"
        )
        images = "".join(
            f'<div><img src="{url}" width="{picture.pair.width}" height="{picture.pair.height}" '
            f'alt="{escape(picture.name)}, {what}"></div>'
            for url, what in ((picture.pair.truth, "annotated"), (picture.pair.detected, "detected"))
        )
        text += f'<figure class="pair">{images}<figcaption>{caption}</figcaption></figure>\n'
    return text
