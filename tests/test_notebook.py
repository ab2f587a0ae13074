"""The notebooks: their cells run one after the other, and show what they are meant to show."""

import ast
import contextlib
import json
import logging
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from test_docs import nothing_computed

from jaxmaskrcnn.report.history import read_history

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "first_steps.ipynb"
# Put behind the cell with the tag "parameters"; neither the step nor the detections are computed then.
TINY = """
config.model.architecture = config.model.architecture.replace({
    "backbone.width": 8, "neck.channels": 8, "box.fc_dim": 8, "mask.dim": 8, "mask.convs": 1,
    "rpn.pre_nms_train": 50, "rpn.pre_nms_test": 50, "rpn.post_nms_train": 10, "rpn.post_nms_test": 10,
    "regions.batch_size": 8, "rpn.batch_size": 16, "detections.per_image": 5,
    "input.test_min_size": 64, "input.test_max_size": 64,
})
config.data.batch_size = config.data.eval_batch_size = config.train.steps = 2
config.data.min_sizes, config.data.max_size, config.data.shapes.size = (64,), 64, 64
config.data.shapes.train_images, config.data.shapes.eval_images = 4, 2
config.optimizer.warmup_steps, config.train.log_every = 0, 1
"""

# The real model; in this time it learns where objects are, and not yet what they are.
SHORT = """
config.train.steps = 60
config.data.shapes.train_images, config.data.shapes.eval_images = 100, 4
"""


class Shown(NamedTuple):
    namespace: dict
    values: list  # of the last expression of each cell


def run(notebook: Path, override: str = "") -> Shown:
    """Runs the cells in one namespace, as Jupyter does."""
    shown = Shown({"__name__": "__main__"}, [])
    for number, cell in enumerate(json.loads(notebook.read_text())["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        place = f"{notebook.name}, cell {number}"
        last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, place, "exec"), shown.namespace)
        if last is not None and (value := eval(compile(last, place, "eval"), shown.namespace)) is not None:
            shown.values.append(value)
        if "parameters" in cell["metadata"].get("tags", ()):
            exec(override, shown.namespace)
    return shown


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty folder, and logging as it was before."""
    monkeypatch.chdir(tmp_path)
    root, ours = logging.getLogger(), logging.getLogger("jaxmaskrcnn")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["tiny", "real"])
def test_the_first_steps(real, desk, capsys):
    with contextlib.nullcontext() if real else nothing_computed():
        shown = run(NOTEBOOK, SHORT if real else TINY)
    sheet, curves, drawn, cut = shown.values
    assert all(isinstance(picture, Image.Image) for picture in shown.values)
    assert all(np.asarray(picture).std() > 5 for picture in (sheet, curves, drawn))
    assert sheet.width > 500 and drawn.size == (512, 512) and cut.size == (128, 128)
    assert "30 images, 0 problems" in capsys.readouterr().out
    assert (desk / "first_steps" / "run" / "model" / "model.json").is_file()
    if real:
        history = read_history(desk / "first_steps" / "run")["loss_objectness"]
        assert history.steps[-1] == 60 and history.values[-1] < 0.3 * history.values[0]


def test_nothing_is_kept_but_the_cells():
    """No outputs, no counts, no paths of the machine it was written on."""
    content = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    assert content["metadata"]["language_info"] == {"name": "python"}
    for target in re.findall(r"\]\(([^)]+)\)", NOTEBOOK.read_text()):
        assert (NOTEBOOK.parent / target).exists(), target
