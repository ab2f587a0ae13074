"""``python -m jaxmaskrcnn report``: writes a page about a model's strengths and errors."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxmaskrcnn.cli.pixels import add_pixel_arguments, pixel_config
from jaxmaskrcnn.cli.reading import add_reading_arguments, reading_of
from jaxmaskrcnn.config import PixelConfig
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.stores.copies import with_addresses
from jaxmaskrcnn.utils.files import check_image_folder, complete_file

PAGE = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``report``."""
    parser.add_argument(
        "detections",
        metavar="DETECTIONS",
        help="json list of COCO results (detections.json), or the predictions.json of predict",
    )
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="COCO-format json")
    parser.add_argument("--images", required=True, help="its image folder")
    parser.add_argument("--output", required=True, help=f"folder for {PAGE}")
    parser.add_argument(
        "--protocol", choices=("auto", "coco", "lvis", "cityscapes"), default="auto",
        help="how AP is measured; auto: as LVIS for a json of LVIS, else as COCO",
    )  # fmt: skip
    add_reading_arguments(parser, "regions that are not scored")
    parser.add_argument(
        "--segments", metavar="JSON",
        help="segments.json that evaluate wrote of a panoptic model, whose panoptic quality is measured",
    )  # fmt: skip
    parser.add_argument(
        "--sigmas",
        help="by how much the place of each keypoint may vary (OKS), numbers with commas between them; by "
        "default COCO's for a person, and 0.05 for other keypoints",
    )
    parser.add_argument(
        "--score_threshold", type=float, default=0.5,
        help="detections with a lower score are left out of counts, confusion matrix and pictures",
    )  # fmt: skip
    parser.add_argument(
        "--pictures", type=int, default=6, help="number of the worst and of the best images to show"
    )
    add_pixel_arguments(parser, "percentile: pictures are drawn so that something is seen")


def run(arguments: argparse.Namespace) -> int:
    """Writes the page; see the module's docstring.

    Args:
        arguments: As ``add_arguments`` defines them.

    Returns:
        The exit code 0.

    Raises:
        UserError: A file or a setting is wrong.
    """
    if not 0 <= arguments.score_threshold <= 1:
        raise UserError(f"--score_threshold is {arguments.score_threshold}; give a score from 0 to 1.")
    if arguments.pictures < 0:
        raise UserError(f"--pictures is {arguments.pictures}; give 0 or more.")
    pixels = pixel_config(arguments, PixelConfig(intensity="percentile"))
    folder = Path(arguments.images)
    check_image_folder(folder, "check --images")
    # Imported here, so that a wrong setting is reported at once.
    from jaxmaskrcnn.evaluation.load import read_files
    from jaxmaskrcnn.evaluation.tables import ap_text
    from jaxmaskrcnn.report.page import Picture, make_page
    from jaxmaskrcnn.report.pictures import draw_pair
    from jaxmaskrcnn.report.ranking import worst_and_best
    from jaxmaskrcnn.report.results import compute
    from jaxmaskrcnn.report.segments import names_of_stuff, read_quality

    # Pictures of stuff have no names; those of the model, by which segments have their ids, are here.
    reading = reading_of(arguments, names_of_stuff(arguments.segments) if arguments.segments else ())
    detections, ground_truth = read_files(
        arguments.detections, arguments.annotations, folder, reading, pixels, arguments.protocol
    )
    quality = None
    if arguments.segments:
        quality = read_quality(arguments.segments, ground_truth, arguments.annotations)
    points = ground_truth.skeleton.points if ground_truth.skeleton is not None else ()
    sigmas = _sigmas(arguments.sigmas, points) if arguments.sigmas else ()
    results = compute(ground_truth, detections, arguments.score_threshold, quality, sigmas)

    worst, best = worst_and_best(results.outcomes, arguments.pictures)
    objects = {entry["id"]: entry for entry in ground_truth.objects("bbox")}
    for entry in ground_truth.objects("segm"):
        objects[entry["id"]] = objects[entry["id"]] | {"segmentation": entry["segmentation"]}
    for identity, entry in ground_truth.keypoints().items():
        objects[identity] = objects[identity] | {"keypoints": entry["keypoints"]}
    lines = ground_truth.skeleton.lines if ground_truth.skeleton is not None else ()
    pictures = []
    for i in (*worst, *best):
        image = ground_truth.images[results.samples[i].image_id]
        pair = draw_pair(
            image, folder, results.samples[i], results.matches[i], results.image_errors[i],
            objects, detections, results.names, results.score_threshold, pixels, lines,
        )  # fmt: skip
        pictures.append(Picture(i, image.file_name, pair))

    title = f"{Path(arguments.detections).name} on {Path(arguments.annotations).name}"
    sources = f"{arguments.detections} on {arguments.annotations}, images in {arguments.images}"
    page = make_page(results, title, with_addresses(sources), pictures[: len(worst)], pictures[len(worst) :])
    path = Path(arguments.output) / PAGE
    with complete_file(path) as file:
        file.write(page.encode("utf-8", "backslashreplace"))
    if results.not_measured:
        print(results.not_measured)
    prefixes = [p for p in (results.prefix, "keypoint") if f"{p}_AP" in results.metrics]
    measured = [(f"{p} AP", results.metrics[f"{p}_AP"]) for p in prefixes]
    if quality is not None:
        measured.append(("PQ", quality.metrics["PQ"]))
    print(
        f"{len(detections)} detections of {len(ground_truth.image_ids)} images, "
        f"{', '.join(f'{name} {ap_text(value)}' for name, value in measured)}; the page is {path}"
    )
    return 0


def _sigmas(text: str, points: Sequence[str]) -> tuple[float, ...]:
    """The numbers of ``--sigmas``, one for each keypoint."""
    try:
        sigmas = tuple(map(float, text.split(",")))
    except ValueError:
        sigmas = ()
    if not sigmas or not all(0 < sigma < 100 for sigma in sigmas):
        raise UserError(f"--sigmas is {text!r}; give a number above 0 for each keypoint, as in 0.025,0.1.")
    if not points:
        raise UserError("--sigmas has no effect, as no keypoints are measured; leave it out.")
    if len(sigmas) != len(points):
        raise UserError(
            f"--sigmas has {len(sigmas)} numbers for {len(points)} keypoints ({', '.join(points)}); give one "
            "for each, in this order."
        )
    return sigmas
