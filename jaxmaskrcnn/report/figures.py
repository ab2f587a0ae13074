"""The plots of a page: precision over recall, and the reliability of scores."""

from html import escape

import numpy as np

from jaxmaskrcnn.report.curves import RECALLS, mean_over_classes
from jaxmaskrcnn.report.errors import FOREGROUND
from jaxmaskrcnn.report.html import figure, number
from jaxmaskrcnn.report.results import Results
from jaxmaskrcnn.report.svg import Plot

FEW_CLASSES = 12  # curves of more classes than this are collapsed


def curve_plots(results: Results) -> str:
    """The mean curve at two IoUs and those of each class, the lowest AP first, as HTML."""
    keys = (("c0", "IoU 0.50"), ("c1 dashed", "IoU 0.75"))
    plot = _curve_plot(
        "Mean precision over recall",
        mean_over_classes(results.curves50),
        mean_over_classes(results.curves75),
        x_label="recall",
        y_label="precision" if len(results.names) == 1 else "precision, mean over the classes",
    )
    text = f"<p>{results.noun}. The area beneath a curve is the average precision.</p>\n"
    if len(results.names) == 1:
        return text + figure(plot.svg(), keys=keys)
    text += figure(plot.svg(), keys=keys) + "<h3>By class, with AP50 / AP75</h3>\n"
    figures = []
    for k in results.by_ap():
        name = results.names[k]
        if not results.counts[k]:
            continue
        curves = results.curves50[k], results.curves75[k]
        small = _curve_plot(
            f"Precision over recall of {name}", *curves, width=196, height=132, num_ticks=(2, 2)
        )
        values = " / ".join(number(curve.mean(), 2) for curve in curves)
        figures.append(figure(small.svg(), f"{escape(name)} <span>{values}</span>"))
    grid = f'<div class="grid4">{"".join(figures)}</div>\n'
    if len(figures) <= FEW_CLASSES:
        return text + grid
    return f"{text}<details><summary>{len(figures)} classes</summary>{grid}</details>\n"


def _curve_plot(title, loose, strict, **options) -> Plot:
    plot = Plot(title, **options)
    for curve, style, dashed in ((strict, "c1", True), (loose, "c0", False)):
        if curve is not None:
            plot.line(RECALLS, curve, style, dashed=dashed)
    return plot


def score_plots(results: Results) -> str:
    """The reliability of scores, and precision and recall over score thresholds, as HTML."""
    bins = results.reliability
    plot = Plot("Share of right detections by score", "score", "share that is right")
    width = 1 / len(bins.counts)
    for b, (count, score, share) in enumerate(zip(*bins[:3], strict=True)):
        if count:
            edges = b * width, (b + 1) * width
            hint = f"{count} detections, mean score {score:.2f}, {share:.2f} of them right"
            plot.bar(*edges, 0, share, "c0", hint)
            plot.line(edges, (score, score), "c1")
    plot.line([0, 1], [0, 1], "plain", dashed=True)
    keys = (("c0", "right"), ("c1", "mean score"), ("plain dashed", "well calibrated"))
    left = figure(plot.svg(), keys=keys)

    most = max(1, int(bins.counts.max()))
    counts = Plot(
        "Number of detections by score", "score", "detections", y=(0, most), height=160, num_ticks=(5, 3)
    )
    for b, count in enumerate(bins.counts):
        counts.bar(b * width, (b + 1) * width, 0, count, "c0", f"{count} detections")
    left += figure(counts.svg())

    points = results.operation
    plot = Plot("Precision, recall and F1 by score threshold", "score threshold", "all classes together")
    for values, style, dashed in ((points.precision, "c0", False), (points.recall, "c1", True)):
        plot.line(points.thresholds, values, style, dashed=dashed)
    plot.line(points.thresholds, points.f1, "c2")
    keys = (("c0", "precision"), ("c1 dashed", "recall"), ("c2", "F1"))
    best = int(np.argmax(points.f1))
    advice = (
        f"<p>F1 is highest, {number(points.f1[best], 2)}, at the score threshold "
        f"{points.thresholds[best]:.2f}: precision {number(points.precision[best], 2)}, recall "
        f"{number(points.recall[best], 2)}, all classes together.</p>\n"
        if points.f1[best] > 0
        else ""
    )
    return (
        f"<p>{results.noun} at IoU {FOREGROUND}. If scores were probabilities, every bar would end "
        "at its mean score. The expected calibration error is the mean distance between the two, weighted "
        f"by the number of detections: {number(bins.error)}. It is computed from the detections in the file, "
        f"without those that were cut off before.</p>\n{advice}"
        f'<div class="row"><div>{left}</div><div>{figure(plot.svg(), keys=keys)}</div></div>\n'
    )
