"""Compares the addresses, sizes and AP of the registry with the libraries' own sources. Run by hand:

    python tests/weights/compare_with_libraries.py SITE_PACKAGES DETECTRON2 MMDETECTION

SITE_PACKAGES is a folder in which torchvision 0.29.1, mmdet 3.3.0 and mmengine 0.10.7 are installed,
DETECTRON2 a checkout of its repository (commit 02b5c4e2), and MMDETECTION one of MMDetection's (version
3.3.0), of which the READMEs of the configs are read, which are not installed. Nothing of them is imported. It
prints what differs and how many rows were compared, and ends with 1 if anything differs.
"""

import ast
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import jaxmaskrcnn as jmr
from jaxmaskrcnn.zoo import hosts
from jaxmaskrcnn.zoo.schemes import CATALOG, OPENMMLAB, OPENMMLAB_FOLDER


def torchvision_files(folder: Path) -> dict[str, tuple[str, float]]:
    """The source file and the size of every address in torchvision's modules."""
    found = {}
    for name in ("resnet.py", *(f"detection/{kind}_rcnn.py" for kind in ("mask", "faster", "keypoint"))):
        text = (folder / "models" / name).read_text()
        for match in re.finditer(r'url="(https://\S+)".*?"_file_size": ([\d.]+)', text, re.S):
            found[match[1]] = f"torchvision/models/{name}", float(match[2])
    return found


class Row(NamedTuple):
    """What a library says of a model.

    Attributes:
        found: The file that says it.
        box_ap: Box AP in percent, or None.
        mask_ap: Mask AP, likewise.
        keypoint_ap: Keypoint AP.
        pq: Panoptic quality.
    """

    found: str
    box_ap: float | None = None
    mask_ap: float | None = None
    keypoint_ap: float | None = None
    pq: float | None = None


def mmdet_files(folder: Path) -> dict[str, Row]:
    """What the metafiles say, by the address of the weights."""
    found = {}
    for file in (folder / ".mim" / "configs").glob("*/metafile.yml"):
        for model in re.split(r"^ *- Name:", file.read_text(), flags=re.M):
            if address := re.search(r"Weights: (https://\S+)", model):
                box, mask = (_number(re.search(rf"{kind} AP: *(\S+)", model)) for kind in ("box", "mask"))
                pq = _number(re.search(r" PQ: *(\S+)", model))
                found[address[1]] = Row(f"configs/{file.parent.name}/metafile.yml", box, mask, None, pq)
    return found


def _number(match: re.Match[str] | None) -> float | None:
    return float(match[1]) if match else None


def readme_files(root: Path, pattern: str) -> dict[str, Row]:
    """What the tables of READMEs say, by the address of the weights: tables in HTML and in Markdown."""
    found = {}
    for file in sorted(root.glob(pattern)):
        text, name = file.read_text(), file.relative_to(root).as_posix()
        for table in re.findall(r"<table>.*?</table>", text, re.S):
            head = [_plain(cell) for cell in re.findall(r"<th[^>]*>(.*?)</th>", table, re.S)]
            for row in re.findall(r"<tr>.*?</tr>", table, re.S):
                found |= _row(head, re.findall(r"<td[^>]*>(.*?)</td>", row, re.S), name)
        head = []
        for line in text.splitlines():
            cells = (
                [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
            )
            if not cells or not head:
                head = cells
            else:
                found |= _row(head, cells, name)
    return found


def _plain(cell: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", cell).split())


def _row(head: list[str], cells: list[str], name: str) -> dict[str, Row]:
    values = dict(zip(head, map(_plain, cells), strict=False))
    addresses = re.findall(r"https://[^\s\"')]+\.(?:pkl|pth)", " ".join(cells))
    titles = ("box AP", "mask AP", "kp. AP", "PQ")
    numbers = (_number(re.fullmatch(r"([\d.]+)", values.get(title, ""))) for title in titles)
    return {addresses[0]: Row(name, *numbers)} if addresses else {}


def table_of(source: Path, name: str) -> dict[str, str]:
    """A dictionary of texts that is assigned to a name in a class."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise SystemExit(f"{source} has no {name}")


def main(site: Path, repository: Path, mmdetection: Path) -> int:
    """Prints the differences; returns the exit code."""
    torchvision, mmdet = torchvision_files(site / "torchvision"), mmdet_files(site / "mmdet")
    zoo = table_of(repository / "detectron2/model_zoo/model_zoo.py", "CONFIG_PATH_TO_URL_SUFFIX")
    zoo = {f"{hosts.DETECTRON2.prefix}{name}/{rest}": name for name, rest in zoo.items()}
    page = (repository / "MODEL_ZOO.md").read_text()
    projects = readme_files(repository, "projects/*/README.md") | readme_files(repository, "MODEL_ZOO.md")
    mmdet |= {
        address: row
        for address, row in readme_files(mmdetection, "configs/*/README.md").items()
        if address not in mmdet
    }
    differences, compared = [], 0

    def compare(name, got, want):
        nonlocal compared
        compared += 1
        if got != want:
            differences.append(f"{name}: here {got}, there {want}")

    for name in jmr.list_models():
        info = jmr.model_info(name)
        library, file, config = name.split("/")[0], info.weights, Path(info.source).stem
        own = Row(file.found if file else "", info.box_ap, info.mask_ap, info.keypoint_ap, info.pq)
        if file is None:
            if library == "detectron2":
                compare(name, None, next((a for a, c in zoo.items() if c.endswith(f"/{config}")
                                          and f"configs/{c}" in info.source), None))  # fmt: skip
            continue
        if library == "torchvision":
            compare(name, (file.found, file.mebibytes), torchvision.get(file.address))
        elif library == "mmdet":
            compare(name, own, mmdet.get(file.address))
        elif file.found.startswith("projects/"):
            compare(name, own, projects.get(file.address))
        elif library == "detectron2":
            folder = Path(info.source).parent.name
            compare(name, f"{folder}/{config}", zoo.get(file.address))
            compare(name, own._replace(found="MODEL_ZOO.md"), projects.get(file.address))
    for name in jmr.list_backbones():
        for file in jmr.backbone_info(name).weights:
            if name.startswith("torchvision/"):
                compare(f"{name}/{file.name}", (file.found, file.mebibytes), torchvision.get(file.address))
            elif file.found.endswith(".py"):  # a config file that starts from it
                root = repository if name.startswith("detectron2/") else site / "mmdet" / ".mim"
                short = file.address.replace(hosts.DETECTRON2.prefix, "detectron2://")
                compare(name, True, short in (root / file.found).read_text())
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
    sys.exit(main(*map(Path, sys.argv[1:4])))
