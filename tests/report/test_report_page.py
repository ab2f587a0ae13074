"""`python -m jaxmaskrcnn report`, from files to a page that needs nothing else."""

import base64
import copy
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_helpers import SIZE, bar, found, random_scene, truth

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.evaluation.coco import GroundTruth, coco_metrics
from jaxmaskrcnn.report import errors, matches
from jaxmaskrcnn.report.html import number, table
from jaxmaskrcnn.report.pictures import RIGHT, UNSCORED, WRONG, draw_pair
from jaxmaskrcnn.report.results import compute
from jaxmaskrcnn.report.svg import Plot, heatmap
from jaxmaskrcnn.visualize.labels import CROWD

VOID = {"meta", "link", "img", "br", "path", "line", "rect"}


class Page(HTMLParser):
    """Checks that elements nest, and keeps the tags, their attributes and the text."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def write(folder, content, detections):
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for image in content["images"]:
        Image.new("RGB", (SIZE, SIZE), (90, 120, 90)).save(images / image["file_name"])
    (folder / "val.json").write_text(json.dumps(content))
    (folder / "detections.json").write_text(json.dumps(detections))
    arguments = ["report", str(folder / "detections.json"), str(folder / "val.json")]
    return [*arguments, f"--images={images}", f"--output={folder / 'out'}"]


def make(folder, content, detections, *more):
    assert command([*write(folder, content, detections), *more]) == 0
    assert [path.name for path in (folder / "out").iterdir()] == ["report.html"]
    return (folder / "out" / "report.html").read_text()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    content, detections = random_scene(0)
    for category in content["categories"]:
        category["name"] = f"<b>&{category['id']}"
    folder = tmp_path_factory.mktemp("scene")
    return content, detections, make(folder, content, detections, "--pictures=2"), folder


def test_the_page_is_well_formed_and_loads_nothing(scene):
    page = Page(scene[2])
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href", "data", "xlink:href"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:")) or tag == "a", (tag, value)
    assert "url(" not in scene[2] and "@import" not in scene[2]
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert links == identities and len(set(links)) == 9
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["aria-label"] for svg in page.all("svg"))
    assert "nan" not in re.sub('base64,[^"]+', "", scene[2]).lower()


def test_the_page_tells_the_scores(scene):
    content, detections, source, _ = scene
    text, metrics = Page(source).text, coco_metrics(content, detections)
    for name in ("mask_AP", "mask_AP50", "box_AP75", "box_AR_small", "mask_AR100"):
        assert f"{metrics[name]:.3f}" in text
    for row in metrics["per_class"].values():
        assert row["mask_AP"] is None or f"{row['mask_AP']:.3f}" in text
    crowds = sum(a["iscrowd"] for a in content["annotations"])
    objects = len(content["annotations"]) - crowds
    assert (
        f"14 images, {objects} objects, {crowds} crowd regions, 3 classes, {len(detections)} detections"
        in text
    )
    # The class without objects is the last one; of the others the lower AP comes first.
    rows = re.findall(r'<tr><th scope="row">&lt;b&gt;&amp;(\d+)</th><td>(\d+)</td><td>([\d.–]+)', source)
    assert rows[2][::2] == ("90", "–") and float(rows[0][2]) <= float(rows[1][2])


@pytest.mark.parametrize("iou_type", ["mask", "box"])
def test_curves_are_those_of_the_scores(scene, iou_type):
    dropped = {"mask": (), "box": ("segmentation",)}[iou_type]
    detections = [{k: v for k, v in d.items() if k not in dropped} for d in scene[1]]
    results = compute(GroundTruth(scene[0]), detections, 0.5)
    assert results.prefix == iou_type
    for name, curve in (("AP50", results.curves50), ("AP75", results.curves75)):
        expected = results.metrics[f"{iou_type}_{name}"]
        assert np.nanmean(curve) == pytest.approx(expected) and expected > 0
    assert results.curves75[0].mean() < results.curves50[0].mean()


def test_names_are_text_and_not_markup(scene):
    assert "<b>&3" not in scene[2] and "&lt;b&gt;&amp;3" in scene[2]
    assert not any(tag == "b" and attributes for tag, attributes in Page(scene[2]).tags)


def test_pictures_are_jpegs_of_the_size_that_the_page_says(scene):
    images = Page(scene[2]).all("img")
    assert len(images) == 8  # two pairs of the worst and of the best
    for image in images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/jpeg;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.format == "JPEG" and picture.size == (int(image["width"]), int(image["height"]))


def test_the_same_files_give_the_same_page(scene, tmp_path):
    assert command([*write(scene[3], *scene[:2])[:4], f"--output={tmp_path}", "--pictures=2"]) == 0
    assert (tmp_path / "report.html").read_text() == scene[2]


def test_no_detections_at_all(tmp_path):
    text = Page(make(tmp_path, truth((1, 3, bar(10)), images=2), [])).text
    assert "0 detections" in text and "0 of 1 found, 0 false" in text
    assert "Masks at IoU 0.5" in text  # of what there is, the masks count


def test_boxes_without_masks(tmp_path):
    content, detections = random_scene(1)
    boxes = [{k: v for k, v in d.items() if k != "segmentation"} for d in detections]
    source = make(tmp_path, content, boxes)
    assert f"{coco_metrics(content, boxes, ('bbox',))['box_AP']:.3f}" in source
    assert "mask AP" not in source and "have no masks" in source
    # Masks of the annotations alone change nothing.
    without = copy.deepcopy(content)
    for annotation in without["annotations"]:
        del annotation["segmentation"]
    assert "mask AP" not in make(tmp_path, without, detections)


def test_masks_without_boxes(tmp_path):
    content, detections = random_scene(1)
    source = make(tmp_path, content, [{k: v for k, v in d.items() if k != "bbox"} for d in detections])
    assert f"{coco_metrics(content, detections)['box_AP']:.3f}" in source


def test_eighty_classes_with_holes_in_their_ids(tmp_path):
    ids = [i for i in range(1, 91) if i % 9]
    assert len(ids) == 80
    content = truth(*((1, i, bar(10, i, i)) for i in ids), categories=ids)
    detections = [found(1, i, 0.9, bar(9, i, i)) for i in ids[:40]]
    source = make(tmp_path, content, detections)
    assert "<details><summary>80 classes</summary>" in source and 'class="scroll long"' in source
    assert Page(source).text.count("class 89 detected as background: 1") == 1


def test_images_without_anything_and_no_images(tmp_path):
    assert "13 images, 0 objects" in make(tmp_path, truth(images=13), [])
    assert Page(make(tmp_path, truth(images=0), [])).text.count("None.") == 2


# -- what can be wrong

DETECTION = found(1, 3, 0.9, bar(10))


def changed(**changes):
    return {**DETECTION, **changes}


@pytest.mark.parametrize(
    "entries, said",
    [
        (
            [DETECTION, changed(image_id=404)],
            r"detection 1 names the image_id 404, and .*val\.json lists no such image",
        ),
        ([changed(category_id=5)], r"detection 0 \(image 1\) names the category_id 5, .* no such category"),
        ([changed(category_id=True)], "category_id True"),
        ([{"category_id": 3}], "image_id None"),
        ([changed(score=1.5)], "the score 1.5; give a number from 0 to 1"),
        ([changed(score=None)], "the score None"),
        ([changed(bbox=[1, 2, 3])], r"the bbox \[1, 2, 3\]"),
        ([changed(bbox=[1, 2, -3, 4])], "negative size"),
        ([{"image_id": 1, "category_id": 3, "score": 0.5}], "the bbox None"),
        ([changed(segmentation=[[1, 2, 3, 4, 5, 6]])], "not a compressed RLE"),
        (
            [changed(segmentation={"size": [9, 9], "counts": "Q2"})],
            r"size is \[9, 9\] and the image's \[100, 100\]",
        ),
        ([changed(segmentation={"size": [SIZE, SIZE], "counts": "\x7f"})], "counts"),
        ([DETECTION, changed(segmentation=None)], "detection 1 has no segmentation while others have one"),
        ([7], "detection 0 is a int"),
        ({"images": []}, "holds a dict where a list"),
    ],
)
def test_wrong_detections_are_one_sentence_and_no_page(tmp_path, capsys, entries, said):
    assert command(write(tmp_path, truth((1, 3, bar(10))), entries)) == 2
    complaint = capsys.readouterr().err
    assert (
        complaint.startswith(f"jaxmaskrcnn report: {tmp_path / 'detections.json'}") or "image 1" in complaint
    )
    assert re.search(said, complaint) and complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_files_and_settings_are_one_sentence(tmp_path, capsys):
    arguments = write(tmp_path, truth((1, 3, bar(10))), [DETECTION])

    def complaint(*more, at=None, text=None):
        if at is not None:
            (tmp_path / at).write_text(text)
        assert command([*arguments, *more]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and not (tmp_path / "out").exists()
        return said

    assert "--score_threshold is 2.0" in complaint("--score_threshold=2")
    assert "--pictures is -1" in complaint("--pictures=-1")
    assert "absent does not exist; check --images" in complaint(f"--images={tmp_path / 'absent'}")
    (tmp_path / "images" / "1.png").unlink()
    assert re.search(r"image 1 \(.*1\.png\) does not exist", complaint())
    Image.new("RGB", (7, 9)).save(tmp_path / "images" / "1.png")
    assert "7 x 9 pixels" in complaint()
    assert "not valid json" in complaint(at="detections.json", text="[")
    content = truth((1, 3, bar(10)))
    del content["categories"][0]["id"]
    assert "val.json has a category with the id None; give" in complaint(
        at="val.json", text=json.dumps(content)
    )
    assert "lists no categories" in complaint(at="val.json", text=json.dumps({**truth(), "categories": []}))
    (tmp_path / "detections.json").unlink()
    (tmp_path / "val.json").write_text(json.dumps(truth()))
    assert "cannot be read" in complaint()


# -- pictures


def draw(content, detections, tmp_path, names=("a", "b", "c"), threshold=0.5):
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "1.png")
    ground_truth = GroundTruth(content)
    (sample,) = matches.make_samples(ground_truth, detections, "segm")
    match = matches.match(sample, 0.5)
    boxes = {o["id"]: o for o in ground_truth.objects("bbox")}
    objects = {o["id"]: {**boxes[o["id"]], **o} for o in ground_truth.objects("segm")}
    pair = draw_pair(
        ground_truth.images[1], tmp_path, sample, match, errors.classify(sample, match),
        objects, detections, names, threshold,
    )  # fmt: skip
    assert (pair.width, pair.height) == (400, 400)  # legible
    read = lambda url: np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))) / 1.0  # noqa: E731
    return read(pair.truth), read(pair.detected)


def hue(pixels, x, y):
    """Which of the three colours a place of the original image was filled with; None for black."""
    seen = pixels[round(4 * y), round(4 * x)]
    if seen.max() < 20:
        return None
    shades = [np.dot(seen, colour) / np.linalg.norm(colour) for colour in (RIGHT, WRONG, UNSCORED)]
    return (RIGHT, WRONG, UNSCORED)[int(np.argmax(shades))]


def test_what_is_right_wrong_or_in_a_crowd_has_its_colour(tmp_path):
    tall = {"height": 30}
    content = truth(
        (1, 3, bar(30, 0, 0, **tall)), (1, 3, bar(30, 60, 0, **tall)), (1, 17, bar(60, 0, 60, **tall), True)
    )
    detections = [
        found(1, 3, 0.9, bar(30, 0, 0, **tall)),
        found(1, 3, 0.8, bar(10, 60, 0, **tall)),
        found(1, 17, 0.7, bar(25, 5, 60, **tall)),
        found(1, 3, 0.6, bar(25, 70, 60, **tall)),
        found(1, 3, 0.2, bar(20, 70, 35, 20)),
    ]
    left, right = draw(content, detections, tmp_path)
    assert [hue(left, 15, 22), hue(left, 75, 22), hue(left, 30, 80)] == [RIGHT, WRONG, UNSCORED]
    assert [hue(right, 15, 22), hue(right, 65, 22)] == [RIGHT, WRONG]
    assert [hue(right, 15, 80), hue(right, 80, 80)] == [UNSCORED, WRONG]
    assert hue(right, 80, 45) is None  # scores too little
    left, right = draw(content, detections, tmp_path, threshold=0.95)
    assert hue(left, 15, 22) == WRONG and right.max() < 20


def test_in_a_crowd_of_one_class_what_is_right_has_no_words(tmp_path):
    def bright(count, names):
        content = truth(*((1, 3, bar(4, 12 * (i % 8), 14 + 20 * (i // 8), 4)) for i in range(count)))
        detections = [found(1, 3, 0.9, a["bbox"]) for a in content["annotations"]]
        left, _ = draw(content, detections, tmp_path, names=names)
        return (left.max(-1) > 60).sum() / count

    labelled = bright(CROWD, ("nucleus",))
    assert bright(CROWD + 1, ("nucleus",)) < 0.6 * labelled


# -- the pieces


def test_a_plot_puts_points_where_its_axes_say():
    plot = Plot("<title>", "x", "y", x=(0, 10), y=(0, 2), width=200, height=100)
    plot.line([0, 5, 10], [0, 1, 2], "c0")
    plot.line([0, 1, 2, 3], [1, np.nan, 1, 1], "c1", dashed=True)
    plot.bar(0, 5, 0, 1, "c0", "half & half")
    source = plot.svg()
    left, right, bottom = (
        float(re.search(rf'class="axis".* {n}="([\d.]+)"', source)[1]) for n in ("x1", "x2", "y1")
    )
    points = re.search(r'class="line c0" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', source)
    x0, y0, x1, y1, x2, y2 = map(float, points.groups())
    assert (x0, x2, y0) == (left, right, bottom) and y2 < 30
    assert x1 == pytest.approx((left + right) / 2, abs=0.1) and y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert re.search(r'class="line c1 dashed" d="M[^M]+M[^M]+L[^M]+"', source)  # broken at NaN
    assert "half &amp; half" in source and "&lt;title&gt;" in source
    Page(source)


def test_a_heatmap_shades_by_the_share_of_the_row():
    source = heatmap("counts", np.array([[3, 1], [0, 2]]), ["a", "b"], ["a", "background of the scene"])
    assert re.findall(r'fill-opacity="([\d.]+)"', source) == ["0.78", "0.34", "1.00"]
    assert "a detected as background of the scene: 1" in source and ">background of t…<" in source
    assert source.count('class="empty"') == 1 and ">3</text>" in source
    many = heatmap("counts", np.eye(30, dtype=int), list("x" * 30), list("x" * 30))
    assert ">1</text>" not in many and many.count('class="cell"') == 30
    Page(source), Page(many)


def test_numbers_and_tables():
    assert [number(v) for v in (None, float("nan"), 0.12345, 0)] == ["–", "–", "0.123", "0.000"]
    assert [number(v, 2, sign=True) for v in (0.1, -0.1, -0.001)] == ["+0.10", "-0.10", "0.00"]
    page = Page(table("a < b", ("x", "y"), [("1", "<i>2</i>")], words=(1,)))
    assert page.text.split() == ["a", "<", "b", "x", "y", "1", "2"]
    assert page.all("div")[0]["tabindex"] == "0" and page.all("td") == [{"class": "words"}]
