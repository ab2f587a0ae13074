"""What ``import`` prints: problems, figures of what was written, and notes."""

import collections
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmaskrcnn.errors import UserError

if TYPE_CHECKING:
    from jaxmaskrcnn.data.coco.annotations import Problem
    from jaxmaskrcnn.data.importers.builder import Builder

_FEW = 5  # problems of a kind that are printed; the others are counted
_FEW_REASONS = 3
_MOST_NAMES = 20


def stop_or_report(found: "list[Problem]", on_error: str, source: Path) -> None:
    """Prints the problems.

    Args:
        found: The problems.
        on_error: "stop" or "skip".
        source: The source, for messages.

    Raises:
        UserError: There are problems, and they are not to be skipped.
    """
    if found and on_error == "stop":
        if len(found) == 1:
            raise UserError(f"{found[0].message} (or set --on_error=skip to leave it out).")
        _list(found, "  ")
        raise UserError(
            f"{source} has these {len(found)} problems, and nothing was written; correct them, or set "
            "--on_error=skip to leave them out."
        )
    _list(found, "left out: ")


def _list(found: "list[Problem]", before: str) -> None:
    """Prints the first problems of each kind, and the number of the others."""
    counts = collections.Counter(problem.reason for problem in found)
    printed: collections.Counter[str] = collections.Counter()
    for problem in found:
        printed[problem.reason] += 1
        if printed[problem.reason] <= _FEW:
            print(f"{before}{problem.message}.", file=sys.stderr)
    for reason, count in counts.items():
        if count > _FEW:
            print(f"{before}{count - _FEW} more ({reason}).", file=sys.stderr)


def reasons(builder: "Builder") -> list[str]:
    """Why things were left out, the most frequent first, a few of them."""
    found = builder.problems.found
    counts = collections.Counter(problem.reason for problem in found)
    first = {problem.reason: problem.message for problem in reversed(found)}
    counted = [
        (count, f"{count} left out ({reason}; first: {first[reason]})") for reason, count in counts.items()
    ]
    counted += builder.counted()
    sentences = [sentence for _, sentence in sorted(counted, key=lambda pair: -pair[0])]
    return (sentences + builder.all_notes()[: len(builder.notes)])[:_FEW_REASONS]


def print_summary(summary: dict, output: Path) -> None:
    """Prints the figures of a json that was written."""
    classes = [f"{entry['name']} {entry['objects']}" for entry in summary["classes"] if entry["objects"]]
    empty = len(summary["classes"]) - len(classes)
    more = f", and {len(classes) - _MOST_NAMES} more" if len(classes) > _MOST_NAMES else ""
    listed = [f"{', '.join(classes[:_MOST_NAMES])}{more}"] if classes else []
    listed += [f"{empty} without objects"] if empty else []
    print(f"{output}: {summary['images']} images with {summary['objects']} objects")
    print(f"  classes         {'; '.join(listed)}")
    if not summary["objects"]:
        print("  note            this part has no objects, so it cannot be trained on or evaluated with")
    if summary["images_without_objects"]:
        print(f"  without objects {summary['images_without_objects']} images")


def print_notes(builder: "Builder", output: Path) -> None:
    """Prints what was left out or is unusual, and the command that shows the images of a json."""
    unused = builder.unused()
    if unused:
        print(f"  not annotated   {len(unused)} images of {builder.folder.root}, left out")
    if builder.pictures:
        count = len(builder.pictures)
        print(f"  pictures        {count} inside of the source, written into {builder.folder.root}")
    for sentence in builder.without_area():
        print(f"  left out        {sentence}")
    for note in builder.all_notes():
        print(f"  note            {note}")
    if not builder.masks:
        print("  boxes           and no masks: train a Faster R-CNN on them with --config.model.mask=none")
    more = "" if builder.masks else " --boxes_only"
    print(f"Look at them with: python -m jaxmaskrcnn inspect {output} --images={builder.folder.root}{more}")
