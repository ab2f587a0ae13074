"""Compares the addresses and sizes of the registry with the libraries' own sources. Run by hand:

    python tests/weights/compare_with_libraries.py SITE_PACKAGES DETECTRON2

SITE_PACKAGES is a folder in which torchvision 0.29.1, mmdet 3.3.0 and mmengine 0.10.7 are installed, and
DETECTRON2 a checkout of its repository (commit 02b5c4e2). Nothing of them is imported. It prints what differs
and how many rows were compared, and ends with 1 if anything differs.
"""

import ast
import json
import re
import sys
from pathlib import Path

import jaxmaskrcnn as jmr
from jaxmaskrcnn.zoo import hosts
from jaxmaskrcnn.zoo.schemes import CATALOG, OPENMMLAB, OPENMMLAB_FOLDER


def torchvision_files(folder: Path) -> dict[str, tuple[str, float]]:
    """The source file and the size of every address in torchvision's modules."""
    found = {}
    for name in ("resnet.py", "detection/mask_rcnn.py", "detection/faster_rcnn.py"):
        text = (folder / "models" / name).read_text()
        for match in re.finditer(r'url="(https://\S+)".*?"_file_size": ([\d.]+)', text, re.S):
            found[match[1]] = f"torchvision/models/{name}", float(match[2])
    return found


def mmdet_files(folder: Path) -> dict[str, str]:
    """The metafile of every address of weights."""
    found = {}
    for file in (folder / ".mim" / "configs").glob("*/metafile.yml"):
        for address in re.findall(r"Weights: (https://\S+)", file.read_text()):
            found[address] = f"configs/{file.parent.name}/metafile.yml"
    return found


def table_of(source: Path, name: str) -> dict[str, str]:
    """A dictionary of texts that is assigned to a name in a class."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise SystemExit(f"{source} has no {name}")


def main(site: Path, repository: Path) -> int:
    """Prints the differences; returns the exit code."""
    torchvision, mmdet = torchvision_files(site / "torchvision"), mmdet_files(site / "mmdet")
    zoo = table_of(repository / "detectron2/model_zoo/model_zoo.py", "CONFIG_PATH_TO_URL_SUFFIX")
    zoo = {f"{hosts.DETECTRON2.prefix}{name}/{rest}": name for name, rest in zoo.items()}
    page = (repository / "MODEL_ZOO.md").read_text()
    differences, compared = [], 0

    def compare(name, got, want):
        nonlocal compared
        compared += 1
        if got != want:
            differences.append(f"{name}: here {got}, there {want}")

    for name in jmr.list_models():
        info = jmr.model_info(name)
        library, file, config = name.split("/")[0], info.weights, Path(info.source).stem
        if file is None:
            if library == "detectron2":
                compare(name, None, next((a for a, c in zoo.items() if c.endswith(f"/{config}")
                                          and f"configs/{c}" in info.source), None))  # fmt: skip
            continue
        if library == "torchvision":
            compare(name, (file.found, file.mebibytes), torchvision.get(file.address))
        elif library == "mmdet":
            compare(name, file.found, mmdet.get(file.address))
        else:
            folder = Path(info.source).parent.name
            compare(name, f"{folder}/{config}", zoo.get(file.address))
            compare(name, True, file.address in page)
    for name in jmr.list_backbones():
        for file in jmr.backbone_info(name).weights:
            if name.startswith("torchvision/"):
                compare(f"{name}/{file.name}", (file.found, file.mebibytes), torchvision.get(file.address))
            else:
                compare(name, True, file.address in page)
    catalog = table_of(repository / "detectron2/checkpoint/catalog.py", "C2_IMAGENET_MODELS")
    compare("catalog://", CATALOG, {f"ImageNetPretrained/{name}": path for name, path in catalog.items()})
    listed = json.loads((site / "mmengine/hub/openmmlab.json").read_text())
    for name, file in OPENMMLAB.items():
        compare(f"open-mmlab://{name}", f"{hosts.MMDET.prefix}{OPENMMLAB_FOLDER}{file}", listed.get(name))
    versions = json.loads((site / "mmengine/hub/torchvision_0.12.json").read_text())
    for name in jmr.list_backbones():
        library, _, backbone = name.partition("/")
        if library == "torchvision" and backbone in versions:  # others are newer
            compare(
                f"torchvision://{backbone}", jmr.backbone_info(name).weights[0].address, versions[backbone]
            )
    compare("md5", True, "contains its md5 prefix in its file name" in page)
    print(*differences, f"{compared} comparisons, {len(differences)} differences", sep="\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
