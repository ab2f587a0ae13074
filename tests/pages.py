"""The pages of the documentation and the code blocks in them."""

import re
from pathlib import Path
from typing import NamedTuple

from folders import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# modules.md is one session, which test_modules_doc.py runs with nothing left out.
RUN_HERE = [page for page in PAGES if page.name != "modules.md"]

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    line: int
    language: str
    text: str
    reason: str | None  # why it is not run


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(text.count("\n", 0, m.start("text")) + 1, m["language"], m["text"], m["reason"])
        for m in BLOCK.finditer(text)
    ]


def earlier_blocks(page: Path) -> list[Block]:
    """What fine-tuning.md goes on from: the data and the run of training.md."""
    if page.name != "fine-tuning.md":
        return []
    wanted = re.compile(r"write_shapes\(|^python train\.py --config.* --workdir=runs/mine", re.M)
    return [block for block in blocks(ROOT / "docs" / "training.md") if wanted.search(block.text)]
