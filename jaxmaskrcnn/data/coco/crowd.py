"""What there is to learn in a data set: statements about crowd regions, and the refusal of nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from jaxmaskrcnn.data.coco.objects import AnnotatedImage
from jaxmaskrcnn.data.rle import mask_areas
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category

_FEW_REASONS = 3  # for which annotations were left out, that are named
_MOSTLY = 0.5  # share of a class's annotations that are crowd regions, above which it is said

_FIX = (
    "if they are objects, set data.crowd to objects (--config.data.crowd=objects in training, "
    "--crowd=objects of inspect, evaluate, report and import --format=coco)"
)


class ClassCount(NamedTuple):
    """How many annotations of a class there are.

    Attributes:
        category: The class.
        objects: Number of its objects.
        crowds: Number of its crowd regions.
    """

    category: Category
    objects: int
    crowds: int


def count_classes(categories: Sequence[Category], images) -> list[ClassCount]:
    """Counts the objects and the crowd regions of each class.

    Args:
        categories: In the order of the labels.
        images: Images with their objects.
    """
    objects, crowds = [0] * len(categories), [0] * len(categories)
    for image in images:
        for item in image.objects:
            (crowds if item.crowd else objects)[item.label] += 1
    return [ClassCount(*row) for row in zip(categories, objects, crowds, strict=True)]


def crowd_statements(counts: Sequence[ClassCount]) -> Iterator[str]:
    """Sentences about classes whose annotations are mostly crowd regions, which are not learned.

    Args:
        counts: Of every class.

    Example:
        >>> list(crowd_statements([ClassCount(Category(1, "cut"), 1, 7)]))[0][:46]
        "7 of the 8 annotations of 'cut' are crowd regi"
    """
    for category, objects, crowds in counts:
        total = objects + crowds
        if crowds > _MOSTLY * total:
            which = f"all {total}" if not objects else f"{crowds} of the {total}"
            yield (
                f"{which} annotations of {category.name!r} are crowd regions ('iscrowd': 1), which are not "
                f"learned and not scored; CVAT and Datumaro export brush masks so: {_FIX}"
            )


def check_learnable(
    counts: Sequence[ClassCount],
    images: Sequence[AnnotatedImage],
    place: str,
    left_out: Mapping[str, int],
    *,
    masks: bool,
) -> None:
    """Refuses a data set in which no class has an object, or no object has a mask with a pixel.

    Args:
        counts: Of every class.
        images: The usable images.
        place: The json.
        left_out: Number of images and annotations that are left out, by reason.
        masks: Whether masks are learned, and not boxes alone.

    Raises:
        UserError: There is nothing to learn.
    """
    sentence = nothing_to_learn(counts, images, place, left_out, masks=masks)
    if sentence:
        raise UserError(f"{sentence}.")


def nothing_to_learn(
    counts: Sequence[ClassCount],
    images: Sequence[AnnotatedImage],
    place: str,
    left_out: Mapping[str, int],
    *,
    masks: bool,
    listed: int | None = None,
) -> str | None:
    """The sentence of `check_learnable`, without its full stop; None where there is something to learn.

    Args:
        counts: Of every class.
        images: The usable images.
        place: The json.
        left_out: Number of images and annotations that are left out, by reason.
        masks: Whether masks are learned, and not boxes alone.
        listed: Number of images with those that cannot be used, if there are such.
    """
    if any(count.objects for count in counts):
        return no_pixels(images, place) if masks else None
    crowds = sum(count.crowds for count in counts)
    reasons = most_frequent(left_out)
    total = listed or len(images)
    if crowds:
        return (
            f"{place} has no object to learn: all {crowds} annotations "
            + (f"that are not left out ({reasons}) " if reasons else "")
            + f"are crowd regions ('iscrowd': 1), as CVAT and Datumaro export brush masks; {_FIX}"
        )
    if reasons:
        return (
            f"{place} has no object to learn: {total} images and {len(counts)} classes of which all "
            f"annotations are left out ({reasons}); correct them"
        )
    return (
        f"{place} has no object to learn: {total} images and {len(counts)} classes without an "
        "annotation; give the annotations"
    )


def no_pixels(images: Iterable[AnnotatedImage], place: str) -> str | None:
    """A sentence without its full stop if the masks of all objects are empty; None if one has a pixel.

    Args:
        images: Images with their objects.
        place: What holds them, for the sentence.
    """
    count = 0
    for image in images:
        size = image.height, image.width
        for item in image.objects:
            if not item.crowd:
                if not item.counts or mask_areas([{"size": size, "counts": item.counts}])[0]:
                    return None
                count += 1
    if not count:
        return None
    return (
        f"{place} has no object to learn: the masks of all {count} objects are without a pixel, as are those "
        "outside of their image and those thinner than one; correct the coordinates, or the images' sizes"
    )


def most_frequent(left_out: Mapping[str, int]) -> str:
    """The most frequent reasons for which images and annotations are left out, for a sentence.

    Args:
        left_out: Their numbers by reason.

    Example:
        >>> most_frequent({"bad box": 2, "missing image": 7})
        "7 for 'missing image', 2 for 'bad box'"
    """
    reasons = sorted(((count, reason) for reason, count in left_out.items() if count), reverse=True)
    listed = [f"{count} for {reason!r}" for count, reason in reasons[:_FEW_REASONS]]
    return ", ".join([*listed, "..."] if len(reasons) > _FEW_REASONS else listed)
