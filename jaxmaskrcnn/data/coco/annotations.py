"""Reading and checking COCO-format annotation files.

Training, evaluation, ``inspect`` and ``report`` all read annotations here, so that they agree in what an
object is. What is clear in spite of its spelling is read and counted; what cannot is reported in one
sentence that names the file and the annotation or image. A data set of a hundred thousand images always
has a few such faults, so each problem can also be logged, counted and left out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxmaskrcnn.data.coco.box_forms import Form, box_form, polygons_are_shares, sampled
from jaxmaskrcnn.data.coco.categories import Classes
from jaxmaskrcnn.data.coco.entries import Entries
from jaxmaskrcnn.data.coco.identities import Identities
from jaxmaskrcnn.data.coco.images import Images
from jaxmaskrcnn.data.coco.left_out import LOST_NOTE, REGION_NOTE, remaining_region
from jaxmaskrcnn.data.coco.load import load_json as load_json
from jaxmaskrcnn.data.coco.lvis import Vocabulary, read_vocabulary
from jaxmaskrcnn.data.coco.notes import Notes
from jaxmaskrcnn.data.coco.objects import (
    AnnotatedImage,
    BadAnnotation,
    Object,
    parse_scored,
    plain_object,
)
from jaxmaskrcnn.data.coco.packing import no_collection
from jaxmaskrcnn.data.coco.panoptic import is_panoptic, read_panoptic
from jaxmaskrcnn.data.coco.plain import read_ahead, read_texts
from jaxmaskrcnn.data.coco.problems import AllProblems as AllProblems
from jaxmaskrcnn.data.coco.problems import Problem as Problem
from jaxmaskrcnn.data.coco.problems import Problems
from jaxmaskrcnn.data.coco.reading import Reading
from jaxmaskrcnn.data.coco.segments import Segments
from jaxmaskrcnn.data.coco.skeleton import check_points, read_skeleton
from jaxmaskrcnn.data.coco.stuff_apart import read_stuff
from jaxmaskrcnn.data.coco.stuff_json import without_stuff
from jaxmaskrcnn.data.coco.values import whole_number
from jaxmaskrcnn.data.coco.void import check_voids
from jaxmaskrcnn.data.fields.keypoints import Keypoints
from jaxmaskrcnn.data.fields.packed import Packed, outline
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category, Skeleton
from jaxmaskrcnn.utils.processes import Mapper

# Called with each usable object and each region of one that is left out: its image, the object, and its box
# in the json's own numbers.
Each = Callable[[AnnotatedImage, Object, list[float]], None]


DROPPED = "crowd regions that are dropped (crowd is 'drop')"


class Annotations(NamedTuple):
    """A checked annotation file.

    Attributes:
        categories: In ascending order of id.
        images: In ascending order of id.
        notes: What was read although it is not written as COCO writes it: sentences without a full stop.
        image_id: Gives the number of an image's id as it is written; None where there is no such image.
        category_id: Gives the number of a category's id or name as it is written; None if it is unknown.
        left_out: Number of images and annotations that are not among them, by reason.
        listed: The categories in the order of the json's list.
        skeleton: The keypoints that objects have; None where they have none, or these are not read.
        panoptic: The segments of the images, if it is a panoptic json or stuff was given apart.
        vocabulary: What an LVIS json says of its classes; None for other ones.
    """

    categories: tuple[Category, ...]
    images: list[AnnotatedImage]
    notes: tuple[str, ...]
    image_id: Callable[[Any], int | None]
    category_id: Callable[[Any], int | None]
    left_out: Mapping[str, int]
    listed: tuple[Category, ...]
    skeleton: Skeleton | None = None
    panoptic: Segments | None = None
    vocabulary: Vocabulary | None = None


@no_collection()
def parse_annotations(
    content: dict,
    path: Path,
    images_dir: Path | None,
    problems: Problems,
    *,
    masks: bool = True,
    keypoints: bool = False,
    reading: Reading | None = None,
    sizes: Mapping[int, tuple[int, int]] | None = None,
    scoring: bool = False,
    consume: Callable[[list], Iterable[Any]] = iter,
    each: Each | None = None,
    mapped: Mapper = map,
    outlines: bool = False,
) -> Annotations:
    """Checks every entry of a COCO-format json and converts it to a common form.

    Args:
        content: As returned by ``load_json`` or ``load_texts``, also of a panoptic json, whose things are the
            objects.
        path: The file, for messages.
        images_dir: Folder that the file names are relative to; with None the files are not looked for.
        problems: Collects the problems; raises at the end unless problems are skipped.
        masks: Whether every object needs a segmentation.
        keypoints: Whether keypoints are read, which not every object needs.
        reading: What crowd regions are, whether all objects get one class, and where stuff is kept apart.
        sizes: Height and width of the images to read by id; None reads all of them.
        scoring: Whether images may lack a file name and a size.
        consume: Iterates over the annotations, or over the parts of `Entries`; may free them.
        each: Called with each usable object and each region of `left_out`, in the order of the json.
        mapped: `map`, or what does the same in several processes, for drawing polygons.
        outlines: Whether polygons are not needed themselves, which saves much memory; see `Outline`.

    Returns:
        The categories, the usable images with their usable objects, and what is to be said about them.

    Raises:
        UserError: There is a problem and ``problems`` is set to stop.
    """
    reading = (reading or Reading()).check()
    panoptic, stuff = None, None
    if is_panoptic(content):
        if reading.stuff:
            raise UserError(
                f"{path} is a panoptic json, whose segments tell the stuff too; leave out the stuff "
                f"{reading.stuff}, or give a json of objects."
            )
        panoptic = read_panoptic(content, path, problems)
        content, consume = panoptic.content, iter
    notes, entries = Notes(), content["annotations"]
    content, uncounted = without_stuff(content, reading, notes)
    boxes = _boxes_only(entries, path) if masks else None
    if boxes is not None:
        problems.refuse("boxes only", boxes)
        masks = False
    classes = Classes(content, path, problems, notes, reading)
    images = Images(
        content["images"],
        path,
        images_dir,
        problems,
        notes,
        sizes=sizes,
        scoring=scoring,
        allow_outside=reading.allow_outside,
    )
    if not classes.categories:
        entries = []  # the one problem that has been reported is that of every annotation
    if reading.stuff and classes.categories:
        stuff = read_stuff(reading.stuff, reading.stuff_names, images, content["categories"], problems, notes)
    form = _form(entries, images, path, notes, problems)
    skeleton = read_skeleton(content, notes, path, problems) if keypoints else None
    vocabulary = read_vocabulary(content, classes, images, path, problems)
    check_voids(content, images, path, problems)
    identities = Identities(entries, notes)
    regions: dict[int, list[Object]] = {}
    dropped = 0

    def taken(image: AnnotatedImage, item: Object, box: list[float]) -> None:
        checked = identities.checked(item, image)
        if checked is not None:
            image.objects.append(checked)
            if each is not None:
                each(image, checked, box)

    known = {} if form else images.usable
    if isinstance(entries, Entries) and skeleton is not None:
        one_by_one = (part.entry(i) for part in consume(entries.parts) for i in range(len(part.ends)))
        pairs = read_ahead(one_by_one, known, mapped, outlines=outlines)
    elif isinstance(entries, Entries):
        pairs = read_texts(consume(entries.parts), known, mapped, outlines=outlines)
    else:
        pairs = read_ahead(consume(entries), known, mapped, outlines=outlines)
    for number, (entry, plain) in enumerate(pairs):
        if uncounted and whole_number(entry.get("category_id")) in uncounted:
            continue
        label = None if plain is None else classes.get(entry["category_id"])
        if plain is not None and label is not None and skeleton is None:  # nearly all
            taken(
                images.usable[entry["image_id"]], plain_object(plain, identities.of(entry), label), plain.box
            )
            continue
        image_id = images.ids.of(entry.get("image_id"))
        if image_id in images.left_out:
            continue
        image = None if image_id is None else images.usable.get(image_id)
        identity = identities.of(entry)
        try:
            if image is None:
                raise BadAnnotation(
                    "unknown image",
                    f"refers to the image_id {entry.get('image_id')!r}, which 'images' does not list; add "
                    "the image or remove the annotation",
                )
            if plain is not None and label is not None:
                points = Keypoints.parse(entry, (0, 0), {}, True)["keypoints"]
                item, box = plain_object(plain, identity, label, points), plain.box
            else:
                item, box = parse_scored(
                    entry, image, classes, masks, identity=identity, notes=notes, form=form,
                    keypoints=skeleton is not None, ignores=vocabulary is not None,
                )  # fmt: skip
            if skeleton is not None:
                check_points(entry, item, skeleton, notes)
            if outlines and isinstance(polygons := item.packed, Packed):
                item = item._replace(polygons=outline(polygons))
            if item.crowd and reading.crowd == "drop":
                notes.add(DROPPED, f"annotation {identity}")
                dropped += 1
                continue
            if item.crowd and reading.crowd == "objects":
                notes.add(
                    "crowd regions that are taken as objects (crowd is 'objects')", f"annotation {identity}"
                )
                item = item._replace(crowd=False)
            taken(image, item, box)
        except BadAnnotation as bad:
            place = f"annotation {identity}" if entry.get("id") else f"entry {number} of 'annotations'"
            if image is not None:
                place += f" of image {image.id} ({image.file_name})"
            problems.add(
                bad.reason,
                f"{path}: {place} {bad.found}",
                image_id=image.id if image else None,
                annotation_id=identity,
            )
            if image is not None and problems.leaves_out:
                region = remaining_region(entry, image, classes, identity, form)
                notes.add(LOST_NOTE if region is None else REGION_NOTE, f"annotation {identity}")
                if region is not None:
                    regions.setdefault(image.id, []).append(region[0])
                    if each is not None:
                        each(image, *region)
    problems.stop_if_any()
    problems.tell_rest()
    found = [
        images.usable[key]._replace(ignored=tuple(regions[key])) if key in regions else images.usable[key]
        for key in sorted(images.usable)
    ]
    if stuff is not None:
        panoptic = stuff.with_objects(classes.categories, found)
    return Annotations(
        classes.categories,
        found,
        tuple(notes.sentences(path)),
        images.ids.of,
        classes.category_id,
        {**problems.skipped, **({DROPPED: dropped} if dropped else {})},
        classes.listed,
        skeleton,
        panoptic,
        vocabulary,
    )


def read_categories(path: Path, *, listed: bool = False) -> tuple[Category, ...]:
    """The categories of an annotation file, in ascending order of id.

    Args:
        path: The file.
        listed: Whether to return them in the order of the json's list instead.

    Raises:
        UserError: The file is not COCO json, or its categories are wrong.

    Example:
        >>> from jaxmaskrcnn.data import write_shapes
        >>> read_categories(write_shapes("read_categories", 1, 64, seed=0)[0])[0].name
        'circle'
    """
    problems = Problems("stop")
    classes = Classes(load_json(path), path, problems, Notes(), Reading())
    problems.stop_if_any()
    return classes.listed if listed else classes.categories


def _form(
    entries: Sequence[dict], images: Images, path: Path, notes: Notes, problems: Problems
) -> Form | None:
    """What makes x, y, width and height of the boxes; None where they are that."""

    def size_of(image_id):
        identity = images.ids.of(image_id)
        image = None if identity is None else images.usable.get(identity)
        return None if image is None else (image.height, image.width)

    some = sampled(entries)
    if polygons_are_shares(some):
        problems.refuse(
            "relative polygons",
            f"{path} has polygons of numbers from 0 to 1 only, which are less than a pixel; if they are "
            "shares of the image, import --format=coco --relative multiplies x by its width and y by its "
            "height",
        )
    name, form = box_form(some, size_of)
    if form is not None:
        notes.add(f"boxes that are {name}, read as that", f"{entries[0].get('bbox')}", len(entries))
    elif name:
        problems.refuse(
            "relative boxes",
            f"{path} has boxes of numbers from 0 to 1 only, such as {entries[0].get('bbox')}, and it cannot "
            "be told whether they begin with a corner or the centre; write x, y, width and height in pixels",
        )
    return form


def _boxes_only(entries: Sequence[dict], path: Path) -> str | None:
    """One sentence about a json without masks, in the place of one about each object."""
    boxes = 0
    for entry in entries:
        if entry.get("segmentation"):
            return None
        boxes += bool(entry.get("bbox"))
    if boxes < 2:
        return None
    return (
        f"{path}: all {boxes} objects are boxes without masks, and a Mask R-CNN learns masks; add "
        "segmentations, or train a Faster R-CNN with --config.model.mask=none (inspect and import have "
        "--boxes_only)"
    )
