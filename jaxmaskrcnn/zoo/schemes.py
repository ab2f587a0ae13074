"""Addresses of the libraries' own kind, as they stand in config files: ``detectron2://``, ``torchvision://``...

``MODEL.WEIGHTS`` of Detectron2 and ``checkpoint`` and ``load_from`` of MMDetection hold such addresses. Each
function returns the https address that the library would ask.
"""

from collections.abc import Callable, Iterable

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.zoo import BACKBONES, hosts
from jaxmaskrcnn.zoo.lookup import close_names

# ImageNet backbones of Caffe2's Detectron. Source: C2_IMAGENET_MODELS in detectron2/checkpoint/catalog.py.
CATALOG = {
    "ImageNetPretrained/MSRA/R-50": "ImageNetPretrained/MSRA/R-50.pkl",
    "ImageNetPretrained/MSRA/R-101": "ImageNetPretrained/MSRA/R-101.pkl",
    "ImageNetPretrained/FAIR/R-50-GN": "ImageNetPretrained/47261647/R-50-GN.pkl",
    "ImageNetPretrained/FAIR/R-101-GN": "ImageNetPretrained/47592356/R-101-GN.pkl",
    "ImageNetPretrained/FAIR/X-101-32x8d": "ImageNetPretrained/20171220/X-101-32x8d.pkl",
    "ImageNetPretrained/FAIR/X-101-64x4d": "ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
    "ImageNetPretrained/FAIR/X-152-32x8d-IN5k": "ImageNetPretrained/25093814/X-152-32x8d-IN5k.pkl",
}

# ResNets and RegNets of OpenMMLab. Source: mmengine/hub/openmmlab.json, which has other networks as well.
OPENMMLAB = {
    "contrib/resnet50_gn": "resnet50_gn_thangvubk-ad1730dd.pth",
    "detectron/resnet50_caffe": "resnet50_caffe-788b5fa3.pth",
    "detectron/resnet50_gn": "resnet50_gn-9186a21c.pth",
    "detectron/resnet101_caffe": "resnet101_caffe-3ad79236.pth",
    "detectron/resnet101_gn": "resnet101_gn-cac0ab98.pth",
    "detectron2/resnet50_caffe": "resnet50_msra-5891d200.pth",
    "detectron2/resnet101_caffe": "resnet101_msra-6cc46731.pth",
    "detectron2/resnext101_32x8d": "resnext101_32x8d-1516f1aa.pth",
    "resnext50_32x4d": "resnext50-32x4d-0ab1a123.pth",
    "resnext101_32x4d": "resnext101_32x4d-a5af3160.pth",
    "resnext101_64x4d": "resnext101_64x4d-ee2c6f71.pth",
    "regnetx_400mf": "regnetx_400mf-a5b10d96.pth",
    "regnetx_800mf": "regnetx_800mf-1f4be4c7.pth",
    "regnetx_1.6gf": "regnetx_1.6gf-5791c176.pth",
    "regnetx_3.2gf": "regnetx_3.2gf-c2599b0f.pth",
    "regnetx_4.0gf": "regnetx_4.0gf-a88f671e.pth",
    "regnetx_6.4gf": "regnetx_6.4gf-006af45d.pth",
    "regnetx_8.0gf": "regnetx_8.0gf-3c68abe7.pth",
    "regnetx_12gf": "regnetx_12gf-4c2a3350.pth",
}
OPENMMLAB_FOLDER = "pretrain/third_party/"


def _detectron2(rest: str) -> str:
    return f"{hosts.DETECTRON2.prefix}{rest}"


def _catalog(rest: str) -> str:
    return f"{hosts.DETECTRON1.prefix}{CATALOG[_known(rest, CATALOG, 'catalog')]}"


def _open_mmlab(rest: str) -> str:
    return f"{hosts.MMDET.prefix}{OPENMMLAB_FOLDER}{OPENMMLAB[_known(rest, OPENMMLAB, 'open-mmlab')]}"


def _torchvision(rest: str) -> str:
    # "resnet50" is the first version, "resnet50.imagenet1k_v2" and "resnet50.default" others, as in MMEngine.
    files = {}
    for name, row in BACKBONES.items():
        library, _, backbone = name.partition("/")
        if library == "torchvision":
            files |= {f"{backbone}.imagenet1k_v{i}": file for i, file in enumerate(row.weights, 1)}
            files |= {backbone: row.weights[0], f"{backbone}.default": row.weights[-1]}
    return files[_known(rest, files, "torchvision")].address


def _known(rest: str, names: Iterable[str], scheme: str) -> str:
    if rest not in (names := list(names)):
        near = close_names(rest, names)
        hint = f"did you mean {scheme}://{near[0]}?" if near else f"there are {', '.join(names)}."
        raise UserError(
            f"{scheme}://{rest} is no address of weights that are known here, but a https:// address of any "
            f"is taken; {hint}"
        )
    return rest


# By what stands before "://". Two of them have an older spelling in MMEngine.
SCHEMES: dict[str, Callable[[str], str]] = {
    "detectron2": _detectron2,
    "catalog": _catalog,
    "torchvision": _torchvision,
    "modelzoo": _torchvision,
    "open-mmlab": _open_mmlab,
    "openmmlab": _open_mmlab,
}
