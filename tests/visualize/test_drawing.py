"""Pictures: what is where, not how it looks."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_codec

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.structures import Category
from jaxmaskrcnn.visualize import drawing
from jaxmaskrcnn.visualize.drawing import draw_detections, palette_colour
from jaxmaskrcnn.visualize.fonts import font_of, has_characters, load_font, system_fonts
from jaxmaskrcnn.visualize.style import Style

GREY = np.full((660, 700, 3), 128, np.uint8)


def disk(height, width, y, x, radius):
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def one_disk():
    mask = disk(660, 700, 300, 350, 100)
    return {"boxes": np.float32([[250, 200, 451, 401]]), "scores": [0.9], "labels": [1], "masks": mask[None]}


def close(picture, colour, tolerance=3):
    return (np.abs(np.asarray(picture).astype(int) - colour) <= tolerance).all(-1)


def test_outline_fill_and_background():
    picture = np.asarray(draw_detections(GREY, one_disk()))
    assert picture.shape == GREY.shape
    colour = np.array(palette_colour(0))
    # Along the row through the centre: untouched, outline in full colour, translucent inside.
    row = picture[300]
    outline = np.flatnonzero(close(row, colour, 8))
    assert outline.min() in (250, 251) and outline.max() in (449, 450)
    fill = GREY[0, 0] + drawing.FILL * (colour - GREY[0, 0])
    stronger = (row[245:260, 2] - fill[2]).clip(0) / (colour[2] - fill[2])
    assert 1.4 < stronger.sum() < 2.6  # two pixels, faded at both sides
    assert close(row[260:440], fill).all()
    assert close(row[:240], (128, 128, 128), 0).all() and close(row[460:], (128, 128, 128), 0).all()


def test_colours_that_are_asked_for_and_names_that_are_empty():
    out = one_disk() | {"boxes": np.float32([[250, 200, 451, 401]] * 2), "labels": [1, 2]}
    del out["scores"], out["masks"]
    out["boxes"][1] += 200
    picture = draw_detections(GREY, out, {1: "", 2: ""}, colours=[(0, 200, 0), (200, 0, 0)])
    assert (
        close(picture, (0, 200, 0))[200:202, 250:451].all()
        and close(picture, (200, 0, 0))[400:402, 450:651].all()
    )
    # Nothing but the two outlines: no label, not even an empty one.
    touched = ~close(picture, (128, 128, 128), 0)
    for x, y in ((250, 200), (450, 400)):
        touched[y : y + 201, x : x + 201] = False
    assert not touched.any()


@pytest.mark.parametrize("turns", range(4))
def test_an_object_at_the_border_has_no_outline_along_it(turns):
    image, mask = np.rot90(GREY, turns), np.rot90(disk(660, 700, 300, 0, 100), turns)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.float32([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]])
    out = {"boxes": box, "labels": [0], "masks": mask[None]}
    picture = np.rot90(np.asarray(draw_detections(np.ascontiguousarray(image), out, {0: ""})), -turns)
    outline = close(picture, palette_colour(0))
    assert not outline[250:350, :80].any() and outline[:, 90:110].any()


@pytest.mark.parametrize("form", ["rle", "probs"])
def test_all_mask_formats_give_the_same_picture(form):
    out = one_disk()
    mask = out["masks"][0]
    other = (
        [rle_codec.encode(np.asfortranarray(mask, np.uint8))]
        if form == "rle"
        else np.where(mask, 0.7, 0.2).astype(np.float32)[None]
    )
    np.testing.assert_array_equal(draw_detections(GREY, out), draw_detections(GREY, {**out, "masks": other}))


def test_boxes_are_drawn_where_there_are_no_masks():
    out = one_disk()
    del out["masks"]
    colour = palette_colour(0)
    picture = draw_detections(GREY, out)
    outline = close(picture, colour)
    assert outline[200:202, 400:451].all() and outline[399:401, 250:451].all()
    assert outline[220:401, 250:252].all() and outline[200:401, 449:451].all()
    assert close(picture, (128, 128, 128), 0)[230:390, 260:440].all()


def test_no_detection_leaves_the_image_alone():
    out = {
        "boxes": np.zeros((0, 4), np.float32),
        "scores": np.zeros(0),
        "labels": [],
        "masks": np.zeros((0, 660, 700), bool),
    }
    np.testing.assert_array_equal(draw_detections(GREY, out), GREY)


def crowd(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1, (count, 2)) * (height, width)
    radii = rng.uniform(4, 20, count)
    masks = np.stack([disk(height, width, y, x, r) for (y, x), r in zip(centres, radii, strict=True)])
    boxes = np.array([[x - r, y - r, x + r, y + r] for (y, x), r in zip(centres, radii, strict=True)])
    return {
        "boxes": boxes.astype(np.float32),
        "scores": rng.random(count),
        "labels": rng.integers(0, 3, count),
        "masks": masks,
    }


def label_boxes(monkeypatch, image, out, **options):
    """Draws, and returns the rectangles of the labels and the texts in them."""
    chips, texts = [], []
    rectangle = drawing.ImageDraw.ImageDraw.rounded_rectangle
    text = drawing.ImageDraw.ImageDraw.text

    def record_rectangle(self, box, *args, **kwargs):
        chips.append(box)
        return rectangle(self, box, *args, **kwargs)

    def record_text(self, position, string, *args, **kwargs):
        texts.append(string)
        right, bottom = self.textbbox(position, string, font=kwargs["font"])[2:]
        assert right <= chips[-1][2] + 1 and bottom <= chips[-1][3] + 1  # the text is inside its label
        return text(self, position, string, *args, **kwargs)

    # Rectangles and texts cannot be read back from a picture.
    monkeypatch.setattr(drawing.ImageDraw.ImageDraw, "rounded_rectangle", record_rectangle)
    monkeypatch.setattr(drawing.ImageDraw.ImageDraw, "text", record_text)
    picture = draw_detections(image, out, **options)
    monkeypatch.undo()
    return picture, np.array(chips), texts


def test_150_objects_have_labels_inside_of_the_picture(monkeypatch):
    out = crowd(150, 480, 640)
    names = ["ant", "bee", "fly"]
    image = np.full((480, 640, 3), 90, np.uint8)
    picture, chips, texts = label_boxes(monkeypatch, image, out, class_names=names)
    assert (chips >= 0).all() and (chips[:, [0, 2]] < 640).all() and (chips[:, [1, 3]] < 480).all()
    assert apart(chips)
    # Where many objects are near, labels have no scores, or are left out.
    expected = [names[k] for k in out["labels"]]
    assert texts[0] == "150 objects" and 80 < len(texts) < 150
    remaining = iter(expected)
    assert all(text.split()[0] in remaining for text in texts[1:])  # a part of them, in their order
    assert {len(text.split()) for text in texts[1:]} == {1, 2}
    np.testing.assert_array_equal(picture, draw_detections(image, out, names))  # the same every time


def apart(chips):
    """Whether no two of the rectangles share a pixel."""
    low, high = (
        np.maximum(chips[:, None, :2], chips[None, :, :2]),
        np.minimum(chips[:, None, 2:], chips[None, :, 2:]),
    )
    return ((high >= low).all(-1).sum(1) == 1).all()


@pytest.mark.slow_except("names0")
@pytest.mark.parametrize("names", [["a long name", "another name", "x"], ["cell"] * 3])
def test_labels_of_300_objects_leave_most_of_the_picture_free(monkeypatch, names):
    out = crowd(300, 480, 640)
    image = np.full((480, 640, 3), 90, np.uint8)
    _, chips, texts = label_boxes(monkeypatch, image, out, class_names=names)
    assert apart(chips) and 60 < len(chips) < 300
    assert texts[0] in ("300 objects", "300 x cell")
    sides = chips[:, 2:] - chips[:, :2] + 1
    assert 0.15 < sides.prod(1).sum() / image[..., 0].size < 0.27  # the title comes on top
    assert (chips >= 0).all() and (chips[:, [0, 2]] < 640).all() and (chips[:, [1, 3]] < 480).all()


def test_labels_make_way_for_each_other(monkeypatch):
    # Ten objects within 60 pixels: labels at the objects alone would lie on one another.
    out = {
        "boxes": np.float32([[300 + 6 * i, 300, 330 + 6 * i, 330] for i in range(10)]),
        "scores": np.linspace(0.9, 0.5, 10),
        "labels": [1] * 10,
    }
    _, chips, _ = label_boxes(monkeypatch, GREY, out)
    assert len(chips) == 10 and apart(chips)


def test_a_crowd_of_one_class_is_named_once(monkeypatch):
    out = {**crowd(40, 300, 640), "labels": [2] * 40}
    image = np.full((300, 640, 3), 90, np.uint8)
    _, _, texts = label_boxes(monkeypatch, image, out, class_names={2: "cell"})
    assert texts[0] == "40 x cell" and len(texts) > 30
    remaining = iter([f"{s:.2f}" for s in out["scores"]])
    assert all(text in remaining for text in texts[1:])


def test_labels_never_hide_a_crowd_and_are_complete_beside_it(monkeypatch):
    """The left half is full of small objects, and a few large ones are on the right."""
    few = {
        "boxes": np.float32([[620 + 8 * i, 40 + 70 * i, 700 + 8 * i, 90 + 70 * i] for i in range(5)]),
        "scores": np.linspace(0.5, 0.4, 5),
        "labels": [1] * 5,
    }
    many = crowd(220, 400, 400)
    boxes = np.concatenate([many["boxes"], few["boxes"]])
    boxes = np.clip(boxes, 0, [800, 400, 800, 400])
    labels = np.concatenate([np.zeros(220, int), few["labels"]])
    out = {"boxes": boxes, "labels": labels, "scores": np.concatenate([many["scores"], few["scores"]])}
    image = np.full((400, 800, 3), 90, np.uint8)
    _, chips, texts = label_boxes(monkeypatch, image, out, class_names=["cell", "boat"])
    assert [text for text in texts if text.startswith("boat")] == [f"boat {s:.2f}" for s in few["scores"]]
    inside = [chip for chip, text in zip(chips[1:], texts[1:], strict=True) if text.startswith("cell")]
    assert 10 < len(inside) < 110 and "cell" in texts
    area = np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    for x0, y0, x1, y1 in inside:
        low, high = np.maximum(boxes[:, :2], (x0, y0)), np.minimum(boxes[:, 2:], (x1, y1))
        shares = np.prod(np.maximum(high - low, 0), 1) / area
        assert shares.sum() - shares.max() <= 0.4  # one of them is its own


@pytest.mark.parametrize("name, drawn", [("кот", "кот 0.90"), ("\U0010fffd", "1 0.90")])
def test_names_in_other_scripts(monkeypatch, name, drawn):
    """A font of the system that has the letters is taken; where there is none, the id is written."""
    if name == "кот" and font_of(name, 20.0) is None:
        pytest.skip("no font with Cyrillic letters is installed")
    assert label_boxes(monkeypatch, GREY, one_disk(), class_names={1: name})[2] == [drawn]


def test_fonts_are_told_by_what_they_have(tmp_path):
    plain = load_font(None, 20)
    assert has_characters(plain, "cat: 90 %") and not has_characters(plain, "кот")
    assert font_of("cat", 20.0).getname() == plain.getname()  # Pillow's, where it is enough
    assert font_of("\U0010fffd", 20.0) is None
    (tmp_path / "no.ttf").write_text("nothing")
    with pytest.raises(UserError, match="no.ttf cannot be read"):
        font_of("cat", 20.0, str(tmp_path / "no.ttf"))
    for found in system_fonts()[:1]:
        assert font_of("cat", 20.0, str(found)).getname() != plain.getname()


def test_the_style_is_checked_and_changes_the_picture(monkeypatch):
    out = one_disk()
    assert label_boxes(monkeypatch, GREY, out, style=Style(labels=False))[2] == []
    small, large = (
        label_boxes(monkeypatch, GREY, out, style=Style(text_scale=scale))[1][0] for scale in (1, 2)
    )
    assert (large[3] - large[1]) > 1.7 * (small[3] - small[1])
    thin, thick = (
        np.asarray(draw_detections(GREY, out, style=Style(labels=False, line_width=w))) for w in (1, 9)
    )
    assert close(thick, palette_colour(0)).sum() > 3 * close(thin, palette_colour(0)).sum()
    plain = {key: value for key, value in out.items() if key != "masks"}
    np.testing.assert_array_equal(draw_detections(GREY, plain, style=Style(labels=False, boxes=False)), GREY)
    for style in (Style(line_width=0), Style(text_scale=0)):
        with pytest.raises(UserError):
            draw_detections(GREY, out, style=style)


def test_identities_of_a_video_are_written(monkeypatch):
    out = {**one_disk(), "tracks": np.array([12])}
    assert label_boxes(monkeypatch, GREY, out, class_names={1: "cat"})[2] == ["cat #12 0.90"]


def test_names_by_mapping_categories_and_list(monkeypatch):
    for names in ({1: "cat"}, (Category(1, "cat"),), ["background", "cat"]):
        assert label_boxes(monkeypatch, GREY, one_disk(), class_names=names)[2] == ["cat 0.90"]
    assert label_boxes(monkeypatch, GREY, one_disk())[2] == ["class 1 0.90"]
    assert label_boxes(monkeypatch, GREY, one_disk(), class_names={1: ""})[2] == ["0.90"]
    many = {k: v for k, v in crowd(30, 660, 700).items() if k != "scores"}
    assert label_boxes(monkeypatch, GREY, many, class_names=["", "", ""])[2] == []
    truth = {k: v for k, v in one_disk().items() if k != "scores"}
    assert label_boxes(monkeypatch, GREY, truth, class_names={1: "cat"})[2] == ["cat"]


def test_colours_stay_when_the_threshold_rises():
    out = crowd(3, 660, 700)
    out["scores"] = [0.2, 0.9, 0.3]
    picture = draw_detections(GREY, out, score_threshold=0.5)
    assert close(picture, palette_colour(1)).sum() > 20
    assert not close(picture, palette_colour(0)).any() and not close(picture, palette_colour(2)).any()


def test_neighbouring_colours_differ():
    colours = np.array([palette_colour(i) for i in range(60)], float)
    for step in (1, 2, 3):
        assert np.linalg.norm(colours[step:] - colours[:-step], axis=1).min() > 60


def test_small_images_are_enlarged_by_a_whole_factor():
    for size, factor in ((20, 4), (128, 4), (256, 3), (500, 2), (640, 1), (900, 1)):
        image = np.zeros((size // 2, size, 3), np.uint8)
        out = {"boxes": np.float32([[2, 2, 8, 8]]), "scores": [0.5], "labels": [0]}
        assert draw_detections(image, out).size == (size * factor, size // 2 * factor)


def test_labels_and_lines_of_a_strip_are_no_larger_than_of_a_picture_of_its_height():
    out = {"boxes": np.float32([[20, 40, 100, 90]]), "scores": [0.5], "labels": [0]}
    strip = np.asarray(draw_detections(np.zeros((200, 6000, 3), np.uint8), out))
    np.testing.assert_array_equal(
        strip[:, :600], np.asarray(draw_detections(np.zeros((200, 600, 3), np.uint8), out, long_side=600))
    )
    assert not strip[:, 600:].any()


def test_files_and_pil_images(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(GREY).save(path)
    expected = draw_detections(GREY, one_disk())
    np.testing.assert_array_equal(draw_detections(path, one_disk()), expected)
    np.testing.assert_array_equal(draw_detections(Image.open(path), one_disk()), expected)
    with pytest.raises(UserError, match=r"float64 with the shape \[4\]"):
        draw_detections(np.zeros(4), one_disk())
    with pytest.raises(UserError, match="The picture is 5 x 9 pixels .*; give the picture that was"):
        draw_detections(GREY[:5, :9], one_disk())


def lab(colours):
    """CIELAB of sRGB in 0..255, D65."""
    linear = np.asarray(colours, float) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = linear @ np.transpose(matrix) / [0.9505, 1, 1.0888]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def test_colours_can_be_told_apart():
    colours = lab([palette_colour(i) for i in range(72)])
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e3 * np.eye(72)
    assert apart[:12, :12].min() > 45 and apart[:24, :24].min() > 30 and apart.min() > 8
    assert len({palette_colour(i) for i in range(-3, 69)}) == 72


def test_colours_by_class_are_the_same_in_every_picture():
    out = crowd(3, 660, 700)
    out["labels"] = [7, 2, 7]
    picture = draw_detections(GREY, out, colour_by="class")
    with pytest.raises(UserError, match="colour_by is 'label'"):
        draw_detections(GREY, out, colour_by="label")
    first = draw_detections(GREY, {k: v[1:2] for k, v in out.items()}, colour_by="class")
    assert close(picture, palette_colour(7)).sum() > 40 and close(picture, palette_colour(2)).sum() > 20
    assert close(first, palette_colour(2)).sum() > 20 and not close(first, palette_colour(0)).any()
    assert not close(picture, palette_colour(0)).any() and not close(picture, palette_colour(1)).any()


@pytest.mark.parametrize("side", [175, 350, 700, 1000])
def test_pictures_of_a_given_size(side):
    out = one_disk()
    picture = draw_detections(GREY, out, long_side=side)
    assert picture.size == (side, round(660 * side / 700))
    scale = side / 700
    outline = np.argwhere(close(picture, palette_colour(0), 8)) / scale
    outline = outline[outline[:, 0] > 240]  # its label is above
    angles = np.arctan2(outline[:, 0] - 300, outline[:, 1] - 350)
    assert len(np.unique((angles * 8 / np.pi).astype(int))) >= 9  # all around
    assert np.abs(np.hypot(outline[:, 0] - 300, outline[:, 1] - 350) - 99).max() < 2.5 + 2.5 / scale


def test_slanted_edges_have_no_steps():
    """A half plane with a slope of one in three, enlarged fourfold: its outline is a straight line."""
    y, x = np.mgrid[:100, :150]
    mask = (y > 20 + x / 3)[None]
    image = np.full((100, 150, 3), 128, np.uint8)
    out = {"boxes": np.float32([[0, 20, 150, 100]]), "labels": [0], "masks": mask}
    picture = draw_detections(image, out, {0: "."}, long_side=600)
    line = np.argwhere(close(picture, palette_colour(0), 8))
    line = line[(line[:, 1] > 100) & (line[:, 1] < 500)]
    rows = np.array([line[line[:, 1] == c, 0].min() for c in range(200, 400)])
    fit = np.polyfit(np.arange(200, 400), rows, 1)
    assert fit[0] == pytest.approx(1 / 3, abs=0.02)
    # The mask's steps are four pixels high here.
    assert np.abs(rows - np.polyval(fit, np.arange(200, 400))).max() < 1.2


def test_masks_of_a_pixel_are_seen():
    mask = np.zeros((1, 660, 700), bool)
    mask[0, 300, 350] = True
    out = {"boxes": np.float32([[348, 298, 353, 303]]), "labels": [0], "masks": mask}
    colour = palette_colour(0)
    for long_side in (None, 350):
        picture = draw_detections(GREY, out, {0: "."}, long_side=long_side)
        scale = 1 if long_side is None else 0.5
        y, x = int(300 * scale), int(350 * scale)
        assert close(picture, colour)[y : y + 5, x - 4 : x + 5].any()  # its label is above


def test_ties_do_not_cross_their_objects(monkeypatch):
    """A label that lies below its object is tied to its lower end."""
    lines = []
    line = drawing.ImageDraw.ImageDraw.line
    # The ends of lines cannot be read back from a picture.
    monkeypatch.setattr(
        drawing.ImageDraw.ImageDraw,
        "line",
        lambda self, ends, **k: lines.append(ends) or line(self, ends, **k),
    )
    disks = [disk(660, 700, 30, 20 + 12 * i, 30) for i in range(12)]
    boxes = np.float32([[20 + 12 * i - 30, 0, 20 + 12 * i + 30, 60] for i in range(12)])
    draw_detections(GREY, {"boxes": boxes, "labels": [0] * 12, "masks": np.stack(disks)}, {0: "a long name"})
    below = [(y0, y1) for _, y0, _, y1 in lines if y1 > 60]
    assert below and all(y0 > 25 for y0, _ in below)  # from the lower end or the middle


def test_a_crowd_of_one_class_without_scores_has_no_labels_but_one(monkeypatch):
    out = {k: v for k, v in crowd(300, 480, 640).items() if k != "scores"} | {"labels": [1] * 300}
    image = np.full((480, 640, 3), 90, np.uint8)
    picture, chips, texts = label_boxes(monkeypatch, image, out, class_names={1: "cell"})
    assert texts == ["300 x cell"] and len(chips) == 1
    assert len({tuple(c) for c in np.asarray(picture).reshape(-1, 3)}) > 300
