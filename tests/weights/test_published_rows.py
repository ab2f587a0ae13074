"""Every row of the registry that has weights: its address, what is known of the file, where it was found.

`compare_with_libraries.py` in this folder compares the rows with the libraries' sources; it is run by hand.
"""

import re

import pytest

import jaxmaskrcnn as jmr
from jaxmaskrcnn.weights.addresses import is_name, suggestion, wanted
from jaxmaskrcnn.weights.cache import place
from jaxmaskrcnn.weights.locate import locate
from jaxmaskrcnn.zoo.hosts import HOSTS, Checksum
from jaxmaskrcnn.zoo.schemes import CATALOG, OPENMMLAB, SCHEMES

MODELS = {name: info.weights for name in jmr.list_models() if (info := jmr.model_info(name)).weights}
BACKBONES = {
    f"{name}/{file.name}": file for name in jmr.list_backbones() for file in jmr.backbone_info(name).weights
}
FORMS = {
    "torchvision": (
        r"https://download\.pytorch\.org/models/\w+-([0-9a-f]{8})\.pth", "sha256",
        r"torchvision/models/(resnet|detection/(mask|faster|keypoint)_rcnn)\.py",
        "none stated (code: BSD-3-Clause)",
    ),
    "detectron2": (
        r"https://dl\.fbaipublicfiles\.com/detectron2/[\w.-]+/[\w-]+/\d{8,9}/model_(?:final|0039999)_([0-9a-f]{6})\.pkl",
        "md5",
        r"detectron2/model_zoo/model_zoo\.py", "CC BY-SA 3.0",
    ),
    "detectron2/pointrend": (
        r"https://dl\.fbaipublicfiles\.com/detectron2/PointRend/InstanceSegmentation/\w+/\d{8,9}/"
        r"model_final_([0-9a-f]{6})\.pkl",
        "md5",
        r"projects/PointRend/README\.md", "none stated (code: Apache-2.0)",
    ),
    "detectron2/ViTDet": (
        r"https://dl\.fbaipublicfiles\.com/detectron2/(?:ViTDet/(?:COCO|LVIS)|MViTv2)/\w+/f?\d{9}/"
        r"model_final_([0-9a-f]{6})\.pkl",
        "md5",
        r"projects/(?:ViTDet|MViTv2)/README\.md", "none stated (code: Apache-2.0)",
    ),
    "mmdet": (
        r"https://download\.openmmlab\.com/mmdetection/v2\.0/[\w%]+/(?:[\w.%-]+/)?[\w.%-]+-([0-9a-f]{8})\.pth",
        "sha256",
        r"configs/[\w+]+/(?:metafile\.yml|README\.md)", "Apache-2.0",
    ),
    "matterport": (
        r"https://github\.com/matterport/Mask_RCNN/releases/download/v2\.[01]/mask_rcnn_\w+\.h5", "",
        r"(mrcnn/utils\.py|samples/balloon/README\.md)", "none stated (code: MIT)",
    ),
}  # fmt: skip


def test_the_registry_has_them():
    libraries = [name.split("/")[0] for name in MODELS]
    assert {library: libraries.count(library) for library in dict.fromkeys(libraries)} == {
        "torchvision": 6, "detectron2": 89, "mmdet": 251, "matterport": 2,
    }  # fmt: skip
    # files of torchvision, of Detectron2, of its project ViTDet, and of the authors of Swin transformers
    assert len(BACKBONES) == 17 + 4 + 5 + 2


@pytest.mark.parametrize("name", [*MODELS, *BACKBONES])
def test_form_of_a_row(name):
    file = {**MODELS, **BACKBONES}[name]
    form = name.split("_")[0] if "/pointrend" in name else name.split("/")[0]
    if name.startswith(("detectron2/ViTDet/", "detectron2/MViTv2/")):
        form = "detectron2/ViTDet"
    address, algorithm, found, licence = FORMS[form]
    if name.startswith("detectron2/") and name in BACKBONES:  # plain names without a hash
        address, algorithm = (
            r"https://dl\.fbaipublicfiles\.com/detectron2/ImageNetPretrained/[\w/-]+\.pkl",
            "",
        )
        found = r"MODEL_ZOO\.md"
    if "/swin_" in name and name in BACKBONES or "/MAE/" in name:  # the same, of torch
        address, algorithm = r"https://(dl\.fbaipublicfiles|github)\.com/[\w/.-]+\.pth", ""
        found = r"(projects/ViTDet/)?configs/(COCO|swin)/[\w-]+\.py"
        licence = "MIT" if name.startswith("mmdet") else "none stated (code: Apache-2.0)"
    match = re.fullmatch(address, file.address)
    assert match and re.fullmatch(found, file.found) and file.licence == licence
    assert file.checksum == (Checksum(algorithm, match[1]) if algorithm else None)
    assert file.name == file.address.split("/")[-1]
    assert (file.mebibytes is not None) == name.startswith("torchvision/")
    assert file.mebibytes is None or 40 < file.mebibytes < 500


@pytest.mark.parametrize("name", [*MODELS, *BACKBONES])
def test_names_and_addresses_stand_for_the_row(name):
    file = {**MODELS, **BACKBONES}[name]
    by_name, by_address = wanted(name), wanted(file.address)
    assert by_name == by_address._replace(name=name)
    assert (by_name.address, by_name.checksum, by_name.mebibytes) == (
        file.address, file.checksum, file.mebibytes,
    )  # fmt: skip
    assert by_name.preset == (name if name in MODELS else None)
    assert by_name.backbone == (name.rpartition("/")[0] if name in BACKBONES else None)
    assert suggestion(f"downloads/{file.name}").startswith("; the name")
    if name.startswith("detectron2/"):
        short = file.address.replace("https://dl.fbaipublicfiles.com/detectron2/", "detectron2://")
        assert wanted(short) == by_name._replace(name=short)


def test_addresses_are_unique_and_so_are_their_places():
    addresses = [file.address for file in (*MODELS.values(), *BACKBONES.values())]
    assert len(set(addresses)) == len({place(address) for address in addresses}) == len(addresses)


def test_a_hash_behind_an_address_counts_in_the_place_of_the_names():
    name = "mmdet/mask-rcnn_r50_fpn_1x_coco"
    stated = wanted(f"{MODELS[name].address}#sha256=ABCDEF012345")
    assert stated.checksum == Checksum("sha256", "abcdef012345")
    assert (stated.preset, stated.address) == (name, MODELS[name].address)


def test_a_backbone_without_a_file_is_the_first_from_which_the_librarys_detectors_start():
    assert wanted("torchvision/resnet50").address.endswith("/resnet50-0676ba61.pth")
    assert wanted("torchvision/resnet50/resnet50-11ad3fa6.pth").backbone == "torchvision/resnet50"
    with pytest.raises(jmr.UserError, match="its files are resnet50-0676ba61.pth, resnet50-11ad3fa6.pth."):
        wanted("torchvision/resnet50/resnet50.pth")


@pytest.mark.parametrize(
    ("address", "expected", "backbone"),
    [
        ("torchvision://resnet50", "download.pytorch.org/models/resnet50-0676ba61.pth",
         "torchvision/resnet50"),
        ("modelzoo://resnet50.default", "download.pytorch.org/models/resnet50-11ad3fa6.pth",
         "torchvision/resnet50"),
        ("torchvision://resnext50_32x4d.imagenet1k_v1",
         "download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth", "torchvision/resnext50_32x4d"),
        ("open-mmlab://detectron2/resnet50_caffe",
         "download.openmmlab.com/pretrain/third_party/resnet50_msra-5891d200.pth", None),
        ("openmmlab://regnetx_3.2gf",
         "download.openmmlab.com/pretrain/third_party/regnetx_3.2gf-c2599b0f.pth", None),
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl",
         "dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl", "detectron2/MSRA/R-50"),
        ("catalog://ImageNetPretrained/FAIR/R-50-GN",
         "dl.fbaipublicfiles.com/detectron/ImageNetPretrained/47261647/R-50-GN.pkl", None),
    ],
)  # fmt: skip
def test_addresses_of_config_files(address, expected, backbone):
    found = wanted(address)
    assert (found.address, found.backbone, found.preset) == (f"https://{expected}", backbone, None)


def test_every_short_address_is_of_a_known_host():
    addresses = [SCHEMES["catalog"](name) for name in CATALOG]
    addresses += [SCHEMES["open-mmlab"](name) for name in OPENMMLAB]
    assert all(address.startswith(tuple(host.prefix for host in HOSTS)) for address in addresses)
    assert all(wanted(f"open-mmlab://{name}").checksum for name in OPENMMLAB)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hdfs://host/m.pth", r"hdfs://host/m.pth is no address that is read here; .* one of https://, http://,"),
        ("open-mmlab://hrnet", r"a https:// address of any is taken; there are contrib/resnet50_gn, "),
        ("torchvision://resnet51", r"did you mean torchvision://resnet5"),
        ("catalog://ImageNetPretrained/FAIR/R50-GN", r"did you mean catalog://ImageNetPretrained/FAIR/R-50-GN\?"),
        ("https://", "is no address of a file"),
        ("https://a.org:port/x.pth", "is no address of a file"),
        ("https://[::1/x.pth", "is no address of a file"),
        ("https://a.org/a b.pth", "is no address of a file"),
        ("https://a.org/", "names no file"),
        ("https://a.org/folder/", "names no file"),
        ("detectron2://", "names no file"),
        ("file://server/x.pth", "is no file of this machine"),
        ("detectron2/mask_rcnn_regnetx_4gf_dds_fpn_1x", "were not published; choose a name"),
        ("detectron2/torchvision/R-101", "were not published; choose a name"),
        ("jaxmaskrcnn/shapes", "were not published; choose a name"),
    ],
)  # fmt: skip
def test_what_cannot_be_fetched_is_one_sentence(given, message):
    for call in (locate, jmr.load_model):
        with pytest.raises(jmr.UserError, match=message) as error:
            call(given)
        assert "\n" not in str(error.value)


def test_a_password_is_not_repeated():
    with pytest.raises(jmr.UserError, match="has a user name before it, which is not sent") as error:
        locate("https://me:secret@a.org/x.pth")
    assert "secret" not in str(error.value)


def test_what_is_no_name_is_a_path():
    assert not is_name("runs/mine") and wanted("runs/mine") is None and wanted("C:\\m.pth") is None
    assert locate("runs/mine").path == "runs/mine"
    with pytest.raises(
        jmr.UserError, match="runs/mine is no name of published weights and no address; `jaxmask"
    ):
        jmr.download("runs/mine")
