"""A small valid folder for each importer: its writer, its arguments, and the files that are damaged."""

import json
from pathlib import Path

import numpy as np
from cli import (
    test_import_cellpose,
    test_import_cityscapes,
    test_import_cvat,
    test_import_datumaro,
    test_import_json_kinds,
    test_import_label_studio,
    test_import_rle_csv,
    test_import_supervisely,
    test_import_yolo_boxes,
)
from cli.test_import_layouts import photograph, save, values
from other_formats import (
    labelme_file,
    labelme_mask,
    labelme_shape,
    save_palette,
    via_entries,
    via_polygon,
    via_project,
    via_region,
    voc_xml,
    write_images,
)

from .scenes import coco_content, write_coco

SQUARE = [[2, 3], [12, 3], [12, 9], [2, 9]]
PART = values((1, 2, 3, 12, 9)) > 0


def _coco(folder: Path) -> None:
    write_coco(folder, coco_content())


def _labelme(folder: Path) -> None:
    write_images(folder)
    shapes = [labelme_shape("cat", SQUARE), labelme_shape("cat", SQUARE[::2], "circle", 1)]
    shapes += [labelme_mask(PART[3:9, 2:12], 2, 3, "dog"), labelme_shape("dog", SQUARE[::2], "rectangle")]
    shapes.append(labelme_shape("x", SQUARE, "rotation", direction=0.3))
    (folder / "a.json").write_text(json.dumps(labelme_file("a.png", shapes)))


def _labelme_keypoints(folder: Path) -> None:
    write_images(folder)
    shapes = [labelme_shape("cat", SQUARE, group=1), labelme_shape("dog", SQUARE[::2], "rectangle", "b")]
    shapes += [labelme_shape(name, [[x, 4.5]], "point", 1) for x, name in ((5, "ear"), (7, "tail"))]
    shapes.append(labelme_shape("ear", [[9, 6]], "point", "b", difficult=True))
    shapes.append(labelme_shape("ear", [[9, 6]], "point"))
    (folder / "a.json").write_text(json.dumps(labelme_file("a.png", shapes)))


def _via(folder: Path) -> None:
    write_images(folder)
    entries = via_entries()
    regions = entries["a.png1234"]["regions"]
    others = (
        {"name": "circle", "cx": 9, "cy": 9, "r": 5},
        {"name": "rect", "x": 1, "y": 2, "width": 9, "height": 5},
        {"name": "ellipse", "cx": 9, "cy": 9, "rx": 5, "ry": 3, "theta": 0.4},
        via_polygon([1, 2, 9, 9, 2, 9], "polyline"),
    )  # fmt: skip
    regions += [via_region(shape, {"class": "cat"}) for shape in others]
    (folder / "via.json").write_text(json.dumps(via_project(entries)))


def _via_three(folder: Path) -> None:
    photograph(folder / "a.png")
    views = {"1": {"fid_list": ["1"]}}
    shapes = [[7, 2, 3, 12, 3, 12, 9], [2, 1, 2, 9, 5], [3, 9, 9, 5], [4, 9, 9, 5, 3]]
    meta = {
        f"m{i}": {"vid": "1", "flg": 0, "z": [], "xy": xy, "av": {"1": "0"}} for i, xy in enumerate(shapes)
    }
    options = {"aname": "class", "anchor_id": "FILE1_Z0_XY1", "type": 4, "options": {"0": "cat"}}
    files = {"1": {"fid": "1", "fname": "a.png", "type": 2, "loc": 1, "src": "a.png"}}
    project = {"pid": "x", "vid_list": ["1"], "data_format_version": "3.1.1"}
    content = {"project": project, "config": {}, "attribute": {"1": options}, "file": files}
    content |= {"metadata": meta, "view": views}
    (folder / "via.json").write_text(json.dumps(content))


def _cvat(folder: Path) -> None:
    test = test_import_cvat
    shapes = test.BOX.format(' group_id="1"') + test.cvat_mask(PART, "dog")
    shapes += '<polygon label="cat" points="2,3;12,3;12,9" group_id="1"/><tag label="day"/>'
    shapes += '<ellipse label="cat" cx="18" cy="15" rx="10" ry="5" rotation="30"/>'
    meta = test.task(("dog", "any", ""), ("cat", "any", ""))
    test.write(folder, test.image("a.png", shapes, 'subset="Train" task_id="1"'), meta=meta)


def _cvat_video(folder: Path) -> None:
    test = test_import_cvat
    shapes = test.shape(0, (2, 3, 12, 9)) + test.shape(2, (4, 5, 14, 11), outside=1)
    track = f'<track id="0" label="cat">{shapes}</track>'
    test.write(folder, track, meta=test.META, photographs=test.FRAMES)


def _datumaro(folder: Path) -> None:
    test = test_import_datumaro
    shapes = test.CAT, test.bbox(2, 3, 12, 9, 1, attributes={"rotation": 30}), test.mask(test.FAR, group=1)
    test.write(folder, items=[test.item("a.png", *shapes)])


def _supervisely(folder: Path) -> None:
    test = test_import_supervisely
    shapes = test.RECTANGLE, test.bitmap(PART[3:9, 2:12], 2, 3), test.figure("polygon", "dog", SQUARE)
    test.write(folder, *shapes)


def _label_studio(folder: Path) -> None:
    test = test_import_label_studio
    box = {"x": 25, "y": 20, "width": 50, "height": 20, "rotation": 30}
    disk = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 20, "rotation": 90}
    results = [
        test.region("polygonlabels", {"points": test.percent(test.TRIANGLE), "closed": True}, "dog"),
        test.region("rectanglelabels", box), test.region("ellipselabels", disk),
        test.region("brushlabels", {"format": "rle", "rle": test.brush(PART[:30, :40])}),
    ]  # fmt: skip
    test.write(folder, [test.task(results)])


def _yolo(folder: Path, lines: list[str]) -> None:
    test_import_yolo_boxes.write(
        folder, lines, yaml="path: .\ntrain: images/train\nnames: {0: cat, 1: dog}\n"
    )
    photograph(folder / "images" / "train" / "b.jpg")


def _voc(folder: Path) -> None:
    photograph(folder / "JPEGImages" / "a.png")
    whole = np.zeros((30, 40), int)
    whole[3:9, 2:12], whole[20:25, 20:33] = 1, 2
    (folder / "Annotations").mkdir()
    text = voc_xml("a.png", [("cat", (3, 4, 12, 9)), ("dog", (21, 21, 33, 25))])
    text = text.replace("<width>40</width><height>32", "<width>40</width><height>30")
    (folder / "Annotations" / "a.xml").write_text(text)
    save_palette(whole, folder / "SegmentationObject" / "a.png")
    save_palette(np.where(whole == 1, 8, np.where(whole == 2, 12, 0)), folder / "SegmentationClass" / "a.png")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")


def _masks(folder: Path) -> None:
    photograph(folder / "images" / "a.png")
    save(folder / "masks" / "a.png", values((1, 2, 3, 12, 9), (2, 20, 5, 33, 28)))


def _rle_csv(folder: Path) -> None:
    test = test_import_rle_csv
    rows = f"a.jpg,{test.runs(test.ONE)},8,12,1\na.jpg,{test.runs(test.TWO)},8,12,2\nb.jpg,,8,12,\n"
    test.write(folder, f"{test.SIZED},ClassId\n{rows}")


def _cellpose(folder: Path) -> None:
    test_import_cellpose.write(folder, test_import_cellpose.content(test_import_cellpose.cells()))


def _isat(folder: Path) -> None:
    test = test_import_json_kinds
    shapes = [("cat", 1, 1.0, {}), ("cat", 1, 2.0, {}), ("herd", 9, 6.0, {"iscrowd": 1})]
    test.saved(folder, test.isat([test.isat_object(n, g, SQUARE, z, **more) for n, g, z, more in shapes]))


def _sam(folder: Path) -> None:
    test = test_import_json_kinds
    masks = [test.box_mask(1, 2, 9, 9), test.box_mask(5, 5, 40, 30) & (np.arange(40) % 3 > 0)]
    test.saved(folder, test.sam([test.sam_object(mask) for mask in masks]), "sa_1.json")


def _panoptic(folder: Path) -> None:
    test_import_json_kinds.save_panoptic(folder, test_import_json_kinds.panoptic())


def _cityscapes(folder: Path, form: str) -> None:
    test_import_cityscapes.write(folder, "ulm_1_2", test_import_cityscapes.STREET, form=form)


# For each kind: the writer, the source below the folder, patterns of the damaged files, arguments.
TOOLS = {
    "coco": (_coco, "set.json", ("set.json",), ("--images={}/images",)),
    "cvat": (_cvat, ".", ("*.xml",), ()),
    "cvat (video)": (_cvat_video, ".", ("*.xml",), ()),
    "datumaro": (_datumaro, ".", ("*.json",), ()),
    "supervisely": (_supervisely, ".", ("*.json",), ()),
    "label-studio": (_label_studio, "export.json", ("*.json",), ()),
    "labelme": (_labelme, ".", ("*.json",), ()),
    "labelme (keypoints)": (_labelme_keypoints, ".", ("*.json",), ()),
    "via": (_via, "via.json", ("*.json",), ()),
    "via (3)": (_via_three, "via.json", ("*.json",), ()),
    "yolo": (
        lambda folder: _yolo(folder, ["1 0.3 0.4 0.2 0.3", "0 0.5 0.5 0.9 0.8"]),
        ".", ("*.txt", "*.yaml"), (),
    ),
    "yolo-seg": (
        lambda folder: _yolo(folder, ["1 0.1 0.1 0.6 0.1 0.6 0.5", "0 0.5 0.5 0.9 0.8 0.2 0.9 0.1 0.7"]),
        ".", ("*.txt", "*.yaml"), (),
    ),
    "voc": (_voc, ".", ("*.xml", "Segm*/*.png", "train.txt"), ()),
    "voc (boxes)": (_voc, ".", ("*.xml", "train.txt"), ("--boxes_only",)),
    "masks": (_masks, "masks", ("masks/*.png",), ("--class_name=cell",)),
    "rle-csv": (_rle_csv, "train.csv", ("*.csv",), ()),
    "cellpose": (_cellpose, ".", ("*.npy",), ()),
    "isat": (_isat, ".", ("*.json",), ()),
    "sam": (_sam, ".", ("*.json",), ()),
    "panoptic": (
        _panoptic, "panoptic_val.json", ("*.json", "panoptic_val/*.png"), ("--images={}/photos",),
    ),
    "cityscapes": (lambda folder: _cityscapes(folder, "json"), ".", ("*polygons.json",), ()),
    "cityscapes (ids)": (lambda folder: _cityscapes(folder, "ids"), ".", ("*instanceIds.png",), ()),
}  # fmt: skip
