"""The numbers of each protocol: their names, and the tables that are printed of them."""

from typing import Any, NamedTuple

PREFIXES = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}
_TITLES = {"box": "Boxes (bbox)", "mask": "Masks (segm)", "keypoint": "Keypoints (OKS)"}


class Stat(NamedTuple):
    """One number: its name in metrics, and the entries of its line in a table.

    Attributes:
        name: Its name, without the prefix of boxes or masks.
        title: "Precision" or "Recall".
        short: "AP" or "AR".
        iou: IoU thresholds, of which it is the mean.
        area: Size class.
        limit: Detections that count, of one image and class, or of an image with LVIS.
        group: Name of the group of classes that it is the mean of; empty for all.

    Example:
        >>> STATS[0].name, STATS[0].limit
        ('AP', 100)
    """

    name: str
    title: str
    short: str
    iou: str
    area: str
    limit: int
    group: str = ""


# In the order of COCOeval.stats.
STATS = (
    Stat("AP", "Precision", "AP", "0.50:0.95", "all", 100),
    Stat("AP50", "Precision", "AP", "0.50", "all", 100),
    Stat("AP75", "Precision", "AP", "0.75", "all", 100),
    Stat("AP_small", "Precision", "AP", "0.50:0.95", "small", 100),
    Stat("AP_medium", "Precision", "AP", "0.50:0.95", "medium", 100),
    Stat("AP_large", "Precision", "AP", "0.50:0.95", "large", 100),
    Stat("AR1", "Recall", "AR", "0.50:0.95", "all", 1),
    Stat("AR10", "Recall", "AR", "0.50:0.95", "all", 10),
    Stat("AR100", "Recall", "AR", "0.50:0.95", "all", 100),
    Stat("AR_small", "Recall", "AR", "0.50:0.95", "small", 100),
    Stat("AR_medium", "Recall", "AR", "0.50:0.95", "medium", 100),
    Stat("AR_large", "Recall", "AR", "0.50:0.95", "large", 100),
)

# The same of keypoints, of which 20 detections of an image and class count; there are no small objects.
KEYPOINT_STATS = (
    Stat("AP", "Precision", "AP", "0.50:0.95", "all", 20),
    Stat("AP50", "Precision", "AP", "0.50", "all", 20),
    Stat("AP75", "Precision", "AP", "0.75", "all", 20),
    Stat("AP_medium", "Precision", "AP", "0.50:0.95", "medium", 20),
    Stat("AP_large", "Precision", "AP", "0.50:0.95", "large", 20),
    Stat("AR", "Recall", "AR", "0.50:0.95", "all", 20),
    Stat("AR50", "Recall", "AR", "0.50", "all", 20),
    Stat("AR75", "Recall", "AR", "0.75", "all", 20),
    Stat("AR_medium", "Recall", "AR", "0.50:0.95", "medium", 20),
    Stat("AR_large", "Recall", "AR", "0.50:0.95", "large", 20),
)

# The numbers of LVIS: 300 detections of an image count, of all classes together.
LVIS_STATS = (
    Stat("AP", "Precision", "AP", "0.50:0.95", "all", 300),
    Stat("AP50", "Precision", "AP", "0.50", "all", 300),
    Stat("AP75", "Precision", "AP", "0.75", "all", 300),
    Stat("AP_small", "Precision", "AP", "0.50:0.95", "small", 300),
    Stat("AP_medium", "Precision", "AP", "0.50:0.95", "medium", 300),
    Stat("AP_large", "Precision", "AP", "0.50:0.95", "large", 300),
    Stat("AP_rare", "Precision", "AP", "0.50:0.95", "all", 300, "rare"),
    Stat("AP_common", "Precision", "AP", "0.50:0.95", "all", 300, "common"),
    Stat("AP_frequent", "Precision", "AP", "0.50:0.95", "all", 300, "frequent"),
    Stat("AR300", "Recall", "AR", "0.50:0.95", "all", 300),
    Stat("AR_small", "Recall", "AR", "0.50:0.95", "small", 300),
    Stat("AR_medium", "Recall", "AR", "0.50:0.95", "medium", 300),
    Stat("AR_large", "Recall", "AR", "0.50:0.95", "large", 300),
)

# The numbers of Cityscapes, of which all detections count.
CITYSCAPES_STATS = (
    Stat("AP", "Precision", "AP", "0.50:0.95", "all", 0),
    Stat("AP50", "Precision", "AP", "0.50", "all", 0),
)

# By the name of the protocol, which metrics have under "protocol" unless it is COCO's.
_STATS = {"coco": STATS, "lvis": LVIS_STATS, "cityscapes": CITYSCAPES_STATS}
_PROTOCOL_TITLES = {"coco": "", "lvis": ", measured as LVIS", "cityscapes": ", measured as Cityscapes"}


def ap_text(value: float | None) -> str:
    """An AP with three digits; "none" if there are no objects that it could be computed of.

    Example:
        >>> ap_text(0.5), ap_text(None)
        ('0.500', 'none')
    """
    return "none" if value is None else f"{value:.3f}"


def format_metrics(metrics: dict[str, Any]) -> str:
    """Formats metrics as tables: the numbers of boxes, masks, keypoints and segments, and those per class.

    Args:
        metrics: As returned by ``coco_metrics``.

    Returns:
        Several lines; an entry without ground truth is -1.000, as in pycocotools.
    """
    prefixes = [p for p in PREFIXES.values() if f"{p}_AP" in metrics]
    protocol = metrics.get("protocol", "coco")
    lines = []
    for prefix in prefixes:
        stats = KEYPOINT_STATS if prefix == "keypoint" else _STATS[protocol]
        lines.append(_TITLES[prefix] + _PROTOCOL_TITLES[protocol])
        for stat in stats:
            value = metrics[f"{prefix}_{stat.name}"]
            value = -1.0 if value is None else value
            limit = f"| maxDets={stat.limit:>3d} " if stat.limit else ""
            group = f"| classes={stat.group or 'all':<8} " if protocol == "lvis" else ""
            lines.append(
                f" {'Average ' + stat.title:<18} ({stat.short}) @[ IoU={stat.iou:<9} | area={stat.area:>6s} "
                f"{limit}{group}] = {value:0.3f}"
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
