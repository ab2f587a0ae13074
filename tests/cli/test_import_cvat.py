"""The xml of CVAT, 'for images' and 'for video', becomes the objects that CVAT shows."""

import json
import math
import shutil

import numpy as np
import pytest
from cli.test_import import flat, refused, run
from cli.test_import_layouts import masks, photograph, values
from PIL import Image, ImageDraw

from jaxmaskrcnn.cli.main import main as command

SIZE = 'width="40" height="30"'
BOX = '<box label="cat" xtl="2.00" ytl="3.00" xbr="12.00" ybr="9.00"{}/>'
IN_BOX = values((1, 2, 3, 12, 9)) > 0


def task(*labels):
    rows = "".join(f"<label><name>{n}</name><type>{kind}</type>{more}</label>" for n, kind, more in labels)
    return f"<meta><task><id>1</id><labels>{rows}</labels></task></meta>"


def image(name, shapes, more=""):
    return f'<image id="0" name="{name}" {more} {SIZE}>{shapes}</image>'


def write(folder, *elements, meta="", photographs=("a.png",)):
    for i, name in enumerate(photographs):
        photograph(folder / "images" / name, seed=i)
    folder.mkdir(exist_ok=True)
    text = (
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}{"".join(elements)}'
    )
    (folder / "annotations.xml").write_text(text + "</annotations>", encoding="utf-8")
    return folder


def drawn(draw, size=(40, 30), scale=20):
    """A mask [H, W] that Pillow draws on a canvas 20 times as large: pixels of which more than half is in."""
    canvas = Image.new("L", (size[0] * scale, size[1] * scale))
    draw(ImageDraw.Draw(canvas), scale)
    shares = np.asarray(canvas, float).reshape(size[1], scale, size[0], scale).mean((1, 3))
    return shares > 0.5


def nearly(found, wanted):
    """Equal but for pixels that the outline cuts in half."""
    union = (found | wanted).sum()
    return (found & wanted).sum() > 0.9 * union and (found ^ wanted).sum() <= 2 * np.sqrt(union)


def cvat_mask(mask, label="cat", more=""):
    """A mask as CVAT writes it: runs along the rows of its own rectangle, the first of them of zeros."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    runs, last = [0], 0
    for value in inside.reshape(-1).astype(int).tolist():
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    height, width = inside.shape
    return (
        f'<mask label="{label}" rle="{", ".join(map(str, runs))}" left="{columns[0]}" top="{rows[0]}" '
        f'width="{width}" height="{height}" {more}/>'
    )


def one(tmp_path, shapes, *arguments):
    """The only mask of a file with these shapes in an image."""
    (found,) = masks(
        run(tmp_path, write(tmp_path / "set", image("a.png", shapes)), "cvat", *arguments)
    ).values()
    assert len(found) == 1
    return found[0]


def test_boxes_and_polygons(tmp_path):
    np.testing.assert_array_equal(one(tmp_path, BOX.format("")), IN_BOX)
    points = "2.00,3.00;12.00,3.00;12.00,9.00;2.00,9.00"
    polygon = f'<polygon label="cat" source="manual" occluded="1" points="{points}" z_order="3"/>'
    np.testing.assert_array_equal(one(tmp_path, polygon), IN_BOX)
    attributes = f'<polygon label="cat" points="{points}"><attribute name="age">7</attribute></polygon>'
    np.testing.assert_array_equal(one(tmp_path, attributes), IN_BOX)


@pytest.mark.parametrize("angle", [30, 90, 200.5, -45])
def test_rotated_boxes_and_ellipses(angle, tmp_path):
    """Turned from the x to the y axis, which is clockwise on the screen."""
    t = math.radians(angle)

    def turn(x, y):
        return 18 + math.cos(t) * x - math.sin(t) * y, 15 + math.sin(t) * x + math.cos(t) * y

    def draw(points):
        return drawn(lambda d, s: d.polygon([(s * x, s * y) for x, y in points], fill=1))

    box = f'<box label="cat" xtl="10" ytl="11" xbr="26" ybr="19" rotation="{angle}"/>'
    wanted = draw([turn(-8, -4), turn(8, -4), turn(8, 4), turn(-8, 4)])
    assert nearly(one(tmp_path, box), wanted)
    ellipse = f'<ellipse label="cat" cx="18" cy="15" rx="10" ry="5" rotation="{angle}"/>'
    ring = [turn(10 * math.cos(a), 5 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 200)]
    assert nearly(one(tmp_path, ellipse), draw(ring))
    assert not nearly(wanted, draw([(8, 7), (28, 7), (28, 23), (8, 23)]))  # the comparison can fail


@pytest.mark.parametrize("seed", range(4))
def test_masks_are_objects(seed, tmp_path):
    """With holes, and with a first run of zeros or of no pixel."""
    mask = np.zeros((30, 40), bool)
    noise = np.random.default_rng(seed).random((9, 13)) > 0.4
    noise[0, 0] = seed % 2
    noise[0, -1] = noise[-1, 0] = True
    mask[4:13, 20:33] = noise
    np.testing.assert_array_equal(one(tmp_path, cvat_mask(mask)), mask)
    content = json.loads((tmp_path / "out" / "set.json").read_text())
    assert [a["iscrowd"] for a in content["annotations"]] == [0]
    assert content["annotations"][0]["area"] == mask.sum()


def test_masks_to_the_borders(tmp_path):
    np.testing.assert_array_equal(one(tmp_path, cvat_mask(np.ones((30, 40), bool))), np.ones((30, 40)))
    dot = np.zeros((30, 40), bool)
    dot[29, 39] = True
    np.testing.assert_array_equal(one(tmp_path, cvat_mask(dot)), dot)


def test_groups_become_objects_as_in_cvats_coco_export(tmp_path, capsys):
    far = values((1, 20, 12, 33, 28)) > 0
    square = BOX.format(' group_id="4"')
    mask = cvat_mask(far, more='group_id="4"')
    np.testing.assert_array_equal(one(tmp_path, square + BOX.format(' group_id="4"')), IN_BOX)
    assert "1 objects are made of several shapes of one group" in capsys.readouterr().out
    # A box beside a mask of its group is the object's box and not a part of it.
    np.testing.assert_array_equal(one(tmp_path, square + mask), far)
    polygon = '<polygon label="cat" group_id="4" points="2,3;12,3;12,9;2,9"/>'
    np.testing.assert_array_equal(one(tmp_path, polygon + mask), IN_BOX | far)
    # Group 0 is none, and another class is another object.
    others = BOX.format(' group_id="0"') * 2 + polygon + cvat_mask(far, "dog", 'group_id="4"')
    content = run(tmp_path, write(tmp_path / "set", image("a.png", others)), "cvat")
    assert sorted(label for _, label, _ in flat(content)) == ["cat", "cat", "cat", "dog"]
    assert "1 groups hold several classes" in capsys.readouterr().out
    # The same number in another image is another group.
    two = [image("a.png", square), image("b.png", square)]
    content = run(tmp_path, write(tmp_path / "two", *two, photographs=("a.png", "b.png")), "cvat")
    assert [name for name, _, _ in flat(content)] == ["a.png", "b.png"]


def test_what_has_no_area_is_counted(tmp_path, capsys):
    shapes = (
        BOX.format("")
        + '<points label="nose" points="1,1;2,2"/><polyline label="road" points="1,1;2,2;3,3"/>'
        + '<points label="nose" points="1,1"/><cuboid label="car" xtl1="1"/><tag label="day"/>'
        + '<skeleton label="man"><points label="head" points="3,3"/></skeleton><hologram label="x"/>'
    )
    meta = task(
        ("dog", "any", ""), ("cat", "any", ""), ("nose", "points", ""), ("man", "skeleton", ""),
        ("head", "any", "<parent>man</parent>"), ("day", "tag", ""),
    )  # fmt: skip
    content = run(tmp_path, write(tmp_path / "set", image("a.png", shapes), meta=meta), "cvat")
    assert len(content["annotations"]) == 1
    assert [c["name"] for c in content["categories"]] == ["dog", "cat"]  # the order of the task's labels
    said = capsys.readouterr().out
    for kind, count in (("points", 2), ("polyline", 1), ("cuboid", 1), ("tag", 1), ("skeleton", 1)):
        assert f"{count} of shape '{kind}', which has no area" in said
    assert "1 elements that are no known shapes are passed over" in said


def test_classes(tmp_path, capsys):
    shapes = BOX.format("") + BOX.format("").replace('"cat"', '"removed"')
    source = write(
        tmp_path / "set", image("a.png", shapes), meta=task(("dog", "any", ""), ("cat", "any", ""))
    )
    content = run(tmp_path, source, "cvat")
    assert [c["name"] for c in content["categories"]] == ["dog", "cat", "removed"]
    content = run(tmp_path, source, "cvat", "--names=removed,cat")
    assert [label for _, label, _ in flat(content)] == ["cat", "removed"]
    assert [c["name"] for c in content["categories"]] == ["removed", "cat"]
    content = run(tmp_path, source, "cvat", "--class_name=thing")
    assert [label for _, label, _ in flat(content)] == ["thing", "thing"]
    assert "'removed', which is not among the names" in refused(
        tmp_path, capsys, source, "cvat", "--names=cat"
    )


def test_subsets_are_parts(tmp_path, capsys):
    """A project's tasks with images of the same name, in a folder for each subset."""
    photographs = ("Train/a.png", "Validation/a.png", "Validation/b.png")
    elements = [
        image("a.png", BOX.format(""), 'subset="Train" task_id="1"'),
        image("a.png", "", 'subset="Validation" task_id="2"'),
        image("b.png", BOX.format(""), 'subset="Validation" task_id="2"'),
    ]
    source = write(tmp_path / "set", *elements, photographs=photographs)
    output = tmp_path / "out" / "set.json"
    assert command(["import", str(source / "annotations.xml"), "--format=cvat", f"--output={output}"]) == 0
    found = {path.name: json.loads(path.read_text()) for path in output.parent.iterdir()}
    names = {name: [i["file_name"] for i in content["images"]] for name, content in found.items()}
    assert names == {
        "set_train.json": ["Train/a.png"],
        "set_val.json": ["Validation/a.png", "Validation/b.png"],
    }
    shutil.rmtree(output.parent)
    content = run(tmp_path, source, "cvat", "--split=val")
    assert [i["file_name"] for i in content["images"]] == names["set_val.json"]
    assert "has no part 'x'" in refused(tmp_path, capsys, source, "cvat", "--split=x")
    odd = [*elements[1:], image("c.png", BOX.format(""), 'subset="../../x y"')]
    write(tmp_path / "set", *odd, photographs=("c.png",))
    assert command(["import", str(source), "--format=cvat", f"--output={output}"]) == 0
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    assert found == ["out/set_val.json", "out/set_x_y.json"]


def test_several_files_in_a_folder(tmp_path, capsys):
    for name in ("one", "two"):
        write(tmp_path / "set" / name, image(f"{name}.png", BOX.format("")), photographs=(f"{name}.png",))
    (tmp_path / "set" / "voc.xml").write_text("<annotation/>")
    content = run(tmp_path, tmp_path / "set", "cvat")
    assert [i["file_name"] for i in content["images"]] == ["one/images/one.png", "two/images/two.png"]
    assert "1 xml files that are not of CVAT are passed over" in capsys.readouterr().out


# -- video


def shape(frame, box, outside=0, more=""):
    x0, y0, x1, y1 = box
    return (
        f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="1" xtl="{x0}" ytl="{y0}" '
        f'xbr="{x1}" ybr="{y1}" z_order="0"{more}><attribute name="a">b</attribute></box>'
    )


FRAMES = [f"frame_{i:06d}.png" for i in range(4)]
META = "<meta><task><original_size><width>40</width><height>30</height></original_size></task></meta>"


def test_tracks(tmp_path, capsys):
    tracks = [
        f'<track id="0" label="cat">{shape(0, (2, 3, 12, 9))}{shape(2, (4, 5, 14, 11))}'
        f"{shape(3, (4, 5, 14, 11), outside=1)}</track>",
        f'<track id="1" label="dog">{shape(2, (20, 5, 33, 28))}<points frame="2" points="1,1"/></track>',
    ]
    source = write(tmp_path / "set", *tracks, meta=META, photographs=FRAMES)
    content = run(tmp_path, source, "cvat")
    assert [i["file_name"] for i in content["images"]] == [FRAMES[0], FRAMES[2], FRAMES[3]]
    found = masks(content)
    assert {key: len(shapes) for key, shapes in found.items()} == {
        (FRAMES[0], "cat"): 1, (FRAMES[2], "cat"): 1, (FRAMES[2], "dog"): 1,
    }  # fmt: skip
    np.testing.assert_array_equal(found[FRAMES[0], "cat"][0], IN_BOX)
    np.testing.assert_array_equal(found[FRAMES[2], "cat"][0], values((1, 4, 5, 14, 11)) > 0)
    np.testing.assert_array_equal(found[FRAMES[2], "dog"][0], values((1, 20, 5, 33, 28)) > 0)
    said = capsys.readouterr().out
    assert "1 of shape 'points'" in said and "not annotated   1 images" in said


def test_tracks_of_one_group_are_an_object(tmp_path):
    polygon = '<polygon frame="1" outside="0" points="{}"/>'
    tracks = [
        f'<track id="0" label="cat" group_id="2">{polygon.format("2,3;12,3;12,9;2,9")}</track>',
        f'<track id="1" label="cat" group_id="2">{polygon.format("20,5;33,5;33,28;20,28")}</track>',
    ]
    content = run(tmp_path, write(tmp_path / "set", *tracks, photographs=FRAMES), "cvat")
    (found,) = masks(content)[FRAMES[1], "cat"]
    np.testing.assert_array_equal(found, IN_BOX | (values((1, 20, 5, 33, 28)) > 0))


def test_videos_that_cannot_be_read(tmp_path, capsys):
    track = f'<track id="0" label="cat" {{}}>{shape(0, (2, 3, 12, 9))}</track>'
    source = write(tmp_path / "set", track.format(""))
    assert "no image named like frame_000000.png" in refused(tmp_path, capsys, source, "cvat")
    source = write(
        tmp_path / "set", track.format('task_id="1"'), track.format('task_id="2"'), photographs=FRAMES
    )
    assert "holds several videos" in refused(tmp_path, capsys, source, "cvat")
    for frame, words in (("x", "the frame 'x'"), ("-1", "the frame '-1'"), ("1e9", "the frame '1e9'")):
        write(tmp_path / "set", track.format("").replace('frame="0"', f'frame="{frame}"'))
        assert words in refused(tmp_path, capsys, source, "cvat")
    write(tmp_path / "set", track.format("").replace('frame="0"', 'frame="999999999"'))
    assert "names the image 'frame_999999999'" in refused(tmp_path, capsys, source, "cvat")
    write(tmp_path / "set", track.format(""), meta=META.replace("40", "0"))
    assert "original_size has an image of '0' x '30'" in refused(tmp_path, capsys, source, "cvat")


# -- what is wrong with a file

MASK = '<mask label="cat" rle="{}" left="{}" top="{}" width="{}" height="{}"/>'
BAD = {
    "far": ('<polygon label="cat" points="0,0;1e9,0;1e9,1e9"/>', "coordinate 1e+09, which lies far outside"),
    "far in a group": (
        '<polygon label="cat" group_id="1" points="0,0;-2e8,0;0,9"/>'
        + MASK.replace("<mask", '<mask group_id="1"').format("0, 4", 0, 0, 2, 2),
        "coordinate -2e+08",
    ),
    "two points": ('<polygon label="cat" points="0,0;5,5"/>', "polygon of 2 points"),
    "no points": ('<polygon label="cat"/>', "has no points x,y;x,y;..."),
    "words": ('<polygon label="cat" points="a,0;1,0;1,1"/>', "the coordinate 'a'"),
    "NaN": ('<polygon label="cat" points="nan,0;1,0;1,1"/>', "the coordinate nan"),
    "triples": ('<polygon label="cat" points="1,1,1;2,2,2;3,1,1"/>', "has no points x,y"),
    "no corner": ('<box label="cat" xtl="1" ytl="1" xbr="5"/>', "ybr None"),
    "flat box": ('<box label="cat" xtl="1" ytl="1" xbr="5" ybr="1"/>', "height 0"),
    "far box": ('<box label="cat" xtl="-1e9" ytl="1" xbr="1e9" ybr="5"/>', "coordinate -1e+09"),
    "infinite angle": ('<box label="cat" xtl="1" ytl="1" xbr="5" ybr="5" rotation="inf"/>', "rotation inf"),
    "outside": ('<box label="cat" xtl="50" ytl="50" xbr="60" ybr="60"/>', "outside of its 40 x 30 image"),
    "no radius": ('<ellipse label="cat" cx="9" cy="9" rx="0" ry="5"/>', "the radii 0 and 5"),
    "huge radius": ('<ellipse label="cat" cx="9" cy="9" rx="1e300" ry="5"/>', "radius of 1e+300"),
    "short mask": (MASK.format("1, 2", 0, 0, 2, 2), "runs of 3 pixels for a rectangle of 2 x 2"),
    "long mask": (MASK.format("0, 99999999999999999", 0, 0, 2, 2), "for a rectangle of 2 x 2"),
    "negative run": (MASK.format("-1, 5", 0, 0, 2, 2), "no whole numbers"),
    "mask beyond": (MASK.format("0, 4", 39, 0, 2, 2), "reaches beyond its image of 40 x 30"),
    "huge mask": (MASK.format("0, 4", 0, 0, 10**9, 10**9), "reaches beyond its image"),
    "empty rectangle": (MASK.format("0", 0, 0, 0, 0), "no whole numbers"),
    "empty mask": (MASK.format("4", 0, 0, 2, 2), "cat"),
    "no label": (BOX.format("").replace('label="cat"', ""), "has the class None"),
    "no runs": ('<mask label="cat" left="0" top="0" width="1" height="1"/>', "no whole numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_a_sentence(case, tmp_path, capsys):
    shapes, words = BAD[case]
    source = write(tmp_path / "set", image("a.png", shapes + BOX.format("")))
    said = refused(tmp_path, capsys, source, "cvat")
    assert words in said and "annotations.xml: image 0 (a.png)" in said
    content = run(tmp_path, source, "cvat", "--on_error=skip")
    np.testing.assert_array_equal(masks(content)["a.png", "cat"], [IN_BOX])


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-16", "latin-1", "nonsense", ""])
def test_the_encoding_that_is_declared_does_no_harm(encoding, tmp_path):
    """The file is UTF-8, whatever a script has written at its head."""
    source = write(tmp_path / "set", image("a.png", BOX.format("").replace("cat", "Käfer")))
    path = source / "annotations.xml"
    text = path.read_text(encoding="utf-8").replace("utf-8", encoding or "utf-8")
    path.write_text("\ufeff" + text if not encoding else text, encoding="utf-8")
    assert [label for _, label, _ in flat(run(tmp_path, source, "cvat"))] == ["Käfer"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations><image", "is not valid xml"),
        ("<annotation/>", "begins with <annotation> and not <annotations>"),
        ("<annotations/>", "holds no images"),
        (f"<annotations><image {SIZE}/></annotations>", "image 0 has no name"),
        (f'<annotations><image name="gone.png" {SIZE}/></annotations>', "names the image 'gone.png'"),
        (
            '<annotations><image name="a.png" width="0" height="0"/></annotations>',
            "an image of '0' x '0' pixels",
        ),
        ('<annotations><image name="a.png" width="30" height="40"/></annotations>', "40 x 30"),
        ('<annotations><image name="a.png" width="x" height="40"/></annotations>', "an image of 'x' x '40'"),
    ],
)
def test_files_that_cannot_be_read(text, words, tmp_path, capsys):
    source = write(tmp_path / "set") / "annotations.xml"
    source.write_text(text)
    assert words in refused(tmp_path, capsys, source, "cvat")
