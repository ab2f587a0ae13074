"""What macOS and Jupyter leave among the label files is passed over by every importer, and counted once."""

import json
import re
import shutil

import numpy as np
import pytest
from cli.test_import import flat, run
from cli.test_import_layouts import labelme, photograph, save, shape, values

from jaxmaskrcnn.cli.import_ import FORMATS

TRIANGLE = [[2, 3], [22, 3], [22, 20]]
RING = [2, 3, 22, 3, 22, 20]
SHARES = "0 0.1 0.1 0.6 0.1 0.6 0.6\n"
REGION = {"original_width": 40, "original_height": 30, "id": "r", "type": "rectanglelabels"}
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 40}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 20, 17], "segmentation": [RING]}
    ],
    "categories": [{"id": 1, "name": "cat"}],
}


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def write(root, kind):
    """A small source of the format; returns its options."""
    match kind:
        case "labelme":
            labelme(root, [shape("cat", TRIANGLE)])
        case "yolo-seg" | "yolo":
            text(root / "a.txt", SHARES)
            return ["--names=cat"]
        case "voc":
            save(root / "SegmentationObject" / "a.png", values((1, 2, 3, 12, 9)))
            photograph(root / "JPEGImages" / "a.png")
            box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>9</ymax></bndbox>"
            xml = f"<annotation><object><name>cat</name>{box}</object></annotation>"
            text(root / "Annotations" / "a.xml", xml)
        case "masks":
            (root / "a.png").rename(root.parent / "a.png")
            save(root / "a_mask.png", values((1, 2, 3, 12, 9)))
            return ["--class_name=cat", f"--images={root.parent}"]
        case "label-studio":
            value = {"x": 5, "y": 10, "width": 50, "height": 40, "rectanglelabels": ["cat"]}
            task = {"data": {"image": "a.png"}, "annotations": [{"result": [REGION | {"value": value}]}]}
            text(root / "tasks.json", [task])
        case "cityscapes":
            content = {"imgHeight": 30, "imgWidth": 40, "objects": [{"label": "car", "polygon": TRIANGLE}]}
            (root / "a.png").rename(root / "a_leftImg8bit.png")
            text(root / "a_gtFine_polygons.json", content)
        case "cellpose":
            np.save(root / "a_seg.npy", {"masks": values((1, 2, 3, 12, 9))}, allow_pickle=True)
        case "isat":
            item = {"category": "cat", "segmentation": TRIANGLE, "group": 1, "layer": 1.0}
            text(root / "a.json", {"info": {"name": "a.png", "height": 30, "width": 40}, "objects": [item]})
        case "sam":
            mask = {"size": [30, 40], "counts": [10, 20, 1170]}
            content = {"image": {"file_name": "a.png"}, "annotations": [{"id": 1, "segmentation": mask}]}
            text(root / "a.json", content)
        case "coco":
            text(root / "a.json", COCO)
        case "cvat":
            box = '<box label="cat" xtl="2" ytl="3" xbr="12" ybr="9"/>'
            text(root / "a.xml", f'<annotations><image id="0" name="a.png">{box}</image></annotations>')
        case "datumaro":
            items = [
                {
                    "id": "a",
                    "annotations": [{"type": "bbox", "label_id": 0, "bbox": [2, 3, 9, 9], "group": 0}],
                }
            ]
            labels = {"label": {"labels": [{"name": "cat"}]}}
            text(root / "annotations" / "default.json", {"categories": labels, "items": items})
        case "supervisely":
            points = {"exterior": [[2, 3], [12, 9]], "interior": []}
            item = {"classTitle": "cat", "geometryType": "rectangle", "points": points}
            content = {"size": {"height": 30, "width": 40}, "objects": [item], "tags": []}
            text(root / "ds" / "ann" / "a.png.json", content)
            photograph(root / "ds" / "img" / "a.png")
            (root / "a.png").unlink()
    return []


def litter(root):
    """Puts leftovers of every file of the source beside it, and a copy of all into ``__MACOSX``."""
    for path in [path for path in sorted(root.rglob("*")) if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(range(128, 200)))
        checkpoints = path.parent / ".ipynb_checkpoints"
        checkpoints.mkdir(exist_ok=True)
        (checkpoints / f"{path.stem}-checkpoint{path.suffix}").write_bytes(path.read_bytes())
    copy = root.parent / "copy"
    shutil.copytree(root, copy)
    copy.rename(root / "__MACOSX")


ONE_FILE = {"via", "rle-csv", "panoptic"}  # read one file, which the user names


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ONE_FILE])
def test_leftovers_among_the_labels(kind, tmp_path, capsys):
    root = tmp_path / "set"
    photograph(root / "a.png")
    options = write(root, kind)
    before = run(tmp_path, root, kind, *options)
    assert len(flat(before)) == 1 and "left behind" not in capsys.readouterr().out
    litter(root)
    assert run(tmp_path, root, kind, *options) == before
    said = capsys.readouterr().out
    (count,) = re.findall(r"(\d+) files that macOS or Jupyter left behind are passed over", said)
    assert int(count) >= 1 and said.count("left behind") == 1
