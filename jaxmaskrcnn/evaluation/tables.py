"""The metrics of COCO: their names, and the tables that are printed of them."""

from typing import Any

PREFIXES = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}
_TITLES = {"box": "Boxes (bbox)", "mask": "Masks (segm)", "keypoint": "Keypoints (OKS)"}

# In the order of COCOeval.stats: name of the metric, then the entries of its line in the table.
STATS = (
    ("AP", "Precision", "AP", "0.50:0.95", "all", 100),
    ("AP50", "Precision", "AP", "0.50", "all", 100),
    ("AP75", "Precision", "AP", "0.75", "all", 100),
    ("AP_small", "Precision", "AP", "0.50:0.95", "small", 100),
    ("AP_medium", "Precision", "AP", "0.50:0.95", "medium", 100),
    ("AP_large", "Precision", "AP", "0.50:0.95", "large", 100),
    ("AR1", "Recall", "AR", "0.50:0.95", "all", 1),
    ("AR10", "Recall", "AR", "0.50:0.95", "all", 10),
    ("AR100", "Recall", "AR", "0.50:0.95", "all", 100),
    ("AR_small", "Recall", "AR", "0.50:0.95", "small", 100),
    ("AR_medium", "Recall", "AR", "0.50:0.95", "medium", 100),
    ("AR_large", "Recall", "AR", "0.50:0.95", "large", 100),
)

# The same of keypoints, of which 20 detections of an image and class count; there are no small objects.
KEYPOINT_STATS = (
    ("AP", "Precision", "AP", "0.50:0.95", "all", 20),
    ("AP50", "Precision", "AP", "0.50", "all", 20),
    ("AP75", "Precision", "AP", "0.75", "all", 20),
    ("AP_medium", "Precision", "AP", "0.50:0.95", "medium", 20),
    ("AP_large", "Precision", "AP", "0.50:0.95", "large", 20),
    ("AR", "Recall", "AR", "0.50:0.95", "all", 20),
    ("AR50", "Recall", "AR", "0.50", "all", 20),
    ("AR75", "Recall", "AR", "0.75", "all", 20),
    ("AR_medium", "Recall", "AR", "0.50:0.95", "medium", 20),
    ("AR_large", "Recall", "AR", "0.50:0.95", "large", 20),
)


def ap_text(value: float | None) -> str:
    """An AP with three digits; "none" if there are no objects that it could be computed of.

    Example:
        >>> ap_text(0.5), ap_text(None)
        ('0.500', 'none')
    """
    return "none" if value is None else f"{value:.3f}"


def format_metrics(metrics: dict[str, Any]) -> str:
    """Formats metrics as tables: COCO's lines for boxes, masks and keypoints, PQ, and the numbers per class.

    Args:
        metrics: As returned by ``coco_metrics``.

    Returns:
        Several lines; an entry without ground truth is -1.000, as in pycocotools.
    """
    prefixes = [p for p in PREFIXES.values() if f"{p}_AP" in metrics]
    lines = []
    for prefix in prefixes:
        lines.append(_TITLES[prefix])
        for name, title, short, iou, area, limit in KEYPOINT_STATS if prefix == "keypoint" else STATS:
            value = metrics[f"{prefix}_{name}"]
            value = -1.0 if value is None else value
            lines.append(
                f" {'Average ' + title:<18} ({short}) @[ IoU={iou:<9} | area={area:>6s} "
                f"| maxDets={limit:>3d} ] = {value:0.3f}"
            )
    columns = {f"{prefix}_AP": f"{prefix} AP" for prefix in prefixes}
    if "PQ" in metrics:
        lines += _quality(metrics)
        columns |= {name: name for name in ("PQ", "SQ", "RQ")}
    width = max([5, *(len(name) for name in metrics["per_class"])])
    lines.append(f"{'Class':<{width}}" + "".join(f"  {title:>7}" for title in columns.values()))
    for name, row in metrics["per_class"].items():
        values = ((row.get(key), len(title)) for key, title in columns.items())
        cells = (("-" if value is None else f"{value:.3f}", room) for value, room in values)
        lines.append(f"{name:<{width}}" + "".join(f"  {cell:>{max(room, 7)}}" for cell, room in cells))
    return "\n".join(lines)


def _quality(metrics: dict[str, Any]) -> list[str]:
    """The lines of panoptic quality."""
    lines = ["Panoptic (PQ)"]
    for title, suffix in (("all", ""), ("things", "_things"), ("stuff", "_stuff")):
        values = (metrics[name + suffix] for name in ("PQ", "SQ", "RQ"))
        numbers = ", ".join(
            f"{name} = {-1.0 if value is None else value:0.3f}"
            for name, value in zip(("PQ", "SQ", "RQ"), values, strict=True)
        )
        lines.append(f" {title:<8}{numbers}")
    return lines
