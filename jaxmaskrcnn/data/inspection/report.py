"""An inspection as text and as json."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from jaxmaskrcnn.data.coco.problems import FEW, Problem
from jaxmaskrcnn.data.inspection.inspect import Inspection
from jaxmaskrcnn.data.inspection.keypoints import keypoint_lines
from jaxmaskrcnn.data.inspection.lvis import lvis_lines
from jaxmaskrcnn.data.inspection.stuff import stuff_lines

_BAR = 40  # characters of the longest bar


def as_json(inspection: Inspection) -> dict[str, Any]:
    """The findings as plain values.

    Args:
        inspection: As returned by `inspect_annotations`.
    """
    return {
        "usable": not inspection.problems,
        **inspection.summary,
        "statements": inspection.statements,
        "notes": list(inspection.annotations.notes),
        "hints": inspection.hints,
        "problems": [problem._asdict() for problem in inspection.problems],
        "suspicions": [problem._asdict() for problem in inspection.suspicions],
    }


def as_text(inspection: Inspection) -> str:
    """The findings as text: figures, hints, suspicions, and problems at the end, a few of each kind.

    Args:
        inspection: As returned by `inspect_annotations`.
    """
    summary = inspection.summary
    parts = [[f"Note: {sentence}." for sentence in inspection.statements]]
    parts += [_head(summary), _classes(summary), _sizes(summary), _per_image(summary), _training(summary)]
    parts += [keypoint_lines(summary), stuff_lines(summary), lvis_lines(summary)]
    if inspection.annotations.notes:
        parts.append(
            [
                "Read, although it is written in another way",
                *(f"  {n}." for n in inspection.annotations.notes),
            ]
        )
    if inspection.hints:
        parts.append(["Hints", *(f"  {hint}" for hint in inspection.hints)])
    if inspection.suspicions:
        parts.append(list(_suspicions(inspection.suspicions)))
    parts.append(list(_problems(inspection)))
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _head(summary) -> list[str]:
    folder = summary["image_folder"]
    images, objects, crowds = summary["images"], summary["objects"], summary["crowd_regions"]
    segmentations = summary["segmentations"]
    total = objects + crowds
    lines = [
        f"{summary['annotations']}" + (f", images in {folder}" if folder else ", without its images"),
        f"  images          {images}, {summary['images_without_objects']} of them without objects",
        f"  objects         {objects} of {_number(len(summary['classes']), 'class', 'classes')}",
        f"  crowd regions   {crowds}" + (f" ({crowds / total:.1%} of the annotations)" if crowds else ""),
        "  segmentations   "
        + ", ".join(
            f"{segmentations[key]} {name}"
            for key, name in (("polygons", "of polygons"), ("rle", "as RLE"), ("none", "missing"))
            if segmentations[key] or key == "polygons"
        ),
    ]
    sizes = summary["image_sizes"]
    if sizes["common"]:
        common = ", ".join(f"{s['width']} x {s['height']} ({s['images']})" for s in sizes["common"])
        more = f", and {sizes['distinct'] - len(sizes['common'])} more" * (
            sizes["distinct"] > len(sizes["common"])
        )
        lines.append(f"  image sizes     {common}{more}")
    return lines


def _classes(summary) -> list[str]:
    classes = sorted(summary["classes"], key=lambda entry: -entry["objects"])
    if not classes:
        return []
    width = max(len("class"), *(len(entry["name"]) for entry in classes))
    crowds = any(entry["crowd_regions"] for entry in classes)
    lines = [f"  {'class':{width}}  {'id':>6}  {'objects':>8}  {'images':>7}" + "  crowds" * crowds]
    for entry in classes:
        line = (
            f"  {entry['name']:{width}}  {entry['id']:>6}  {entry['objects']:>8}  {entry['images']:>7}"
            + f"  {entry['crowd_regions']:>6}" * crowds
        )
        lines.append(line)
    return ["Classes", *lines]


def _sizes(summary) -> list[str]:
    sizes = summary["object_sizes"]
    if sizes["sqrt_area"] is None:
        return []
    total = sizes["small"] + sizes["medium"] + sizes["large"]
    shares = ", ".join(f"{name} {sizes[name] / total:.1%}" for name in ("small", "medium", "large"))
    names = list(sizes["sqrt_area"])
    relative = {name: 100 * value for name, value in sizes["relative"].items()}
    return [
        f"Object sizes: {shares} (below 32 x 32 pixels, up to 96 x 96, above)",
        f"  {'percentile':24}" + "".join(f"{name:>8}" for name in names),
        f"  {'sqrt(area) in pixels':24}" + "".join(f"{sizes['sqrt_area'][n]:>8.1f}" for n in names),
        f"  {'in % of the image':24}" + "".join(f"{relative[n]:>8.1f}" for n in names),
    ]


def _per_image(summary) -> list[str]:
    counts = summary["objects_per_image"]
    if counts is None:
        return []
    bars = counts["histogram"]
    longest = max(bar["images"] for bar in bars)
    lines = [
        f"Objects per image: {counts['min']} to {counts['max']}, median {counts['median']:g}, "
        f"mean {counts['mean']:.2f}"
    ]
    for bar in bars:
        name = str(bar["from"]) if bar["from"] == bar["to"] else f"{bar['from']} to {bar['to']}"
        length = -(-_BAR * bar["images"] // longest)
        lines.append(f"  {name:>12}  {bar['images']:>7}  {'#' * length}".rstrip())
    return lines


def _training(summary) -> list[str]:
    at = summary["training_size"]
    if at["sqrt_box_area"] is None:
        return []
    below = ", ".join(f"{share:.1%} below {limit} px" for limit, share in at["below"].items())
    return [
        f"At the training size (--min_size={at['short_side']} --max_size={at['long_side_limit']})",
        f"  images are scaled by {at['scale']['50']:.2f} ({at['scale']['1']:.2f} to {at['scale']['99']:.2f})",
        f"  objects, sqrt(box area): median {at['sqrt_box_area']['50']:.0f} px, {below}",
        f"  an anchor of the same centre has an IoU of 0.5 with {at['fit_0.5']:.1%} of the objects, of 0.7 "
        f"with {at['fit_0.7']:.1%}",
    ]


def _suspicions(found: list[Problem]) -> Iterator[str]:
    by_reason: dict[str, list[Problem]] = defaultdict(list)
    for entry in found:
        by_reason[entry.reason].append(entry)
    yield "Worth a look (training takes it as it is)"
    for reason, entries in by_reason.items():
        yield f"  {reason}: {len(entries)}"
        yield from (f"    {entry.message}" for entry in entries[:FEW])
        if len(entries) > FEW:
            yield f"    and {len(entries) - FEW} more; --json lists all"


def _problems(inspection: Inspection) -> Iterator[str]:
    found = inspection.problems
    if not found:
        yield "No problems: training takes these annotations."
        return
    counts = ", ".join(f"{reason}: {count}" for reason, count in inspection.summary["problem_counts"].items())
    yield f"{_number(len(found), 'problem', 'problems')} ({counts})"
    by_reason: dict[str, list[Problem]] = defaultdict(list)
    for problem in found:
        by_reason[problem.reason].append(problem)
    for reason, entries in by_reason.items():
        yield from (f"  {problem.message}." for problem in entries[:FEW])
        if len(entries) > FEW:
            yield f"  and {len(entries) - FEW} more ({reason}); --json lists all"


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
