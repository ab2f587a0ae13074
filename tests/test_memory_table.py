"""`benchmarks/memory.py`: its cases, its table, and that it runs."""

import json
import sys
from pathlib import Path

import numpy as np
import optax
import pytest
from detectors import random_model, small_config

from jaxmaskrcnn.data.fields.polygons import Polygons, vertex_slots
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.zoo.lookup import model_config

MIB = 2**20


@pytest.fixture(scope="module")
def memory():
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import memory

        yield memory
    finally:
        sys.path.remove(folder)


def test_the_cases_are_settings_that_exist(memory):
    plain = model_config("torchvision/maskrcnn_resnet50_fpn")
    for case in memory.CASES.values():
        config = model_config("torchvision/maskrcnn_resnet50_fpn", **case.model)
        for field, value in case.model.items():
            assert config.get(field) == value != plain.get(field)
            # A row that names a setting has the one it names.
            if f"`model.{field}=" in case.says:
                assert f"`model.{field}={value}`" in case.says
    assert len({case.says for case in memory.CASES.values()}) == len(memory.CASES)


def test_an_outline_is_its_box(memory):
    polygons = Polygons.from_lists([[memory.outline((10, 20, 110, 60))]])
    vertices, parts = polygons.vertices[0], polygons.parts[0]
    assert len(vertices) == memory.VERTICES + 1 == vertex_slots(len(vertices))
    assert (parts == 0).all()
    np.testing.assert_allclose([*vertices.min(0), *vertices.max(0)], [10, 20, 110, 60], atol=0.7)
    on_border = np.isclose(vertices, (10, 20)).any(1) | np.isclose(vertices, (110, 60)).any(1)
    assert on_border.all()


def test_the_table(memory):
    row = {
        "state": 400 * MIB,
        "objects": MIB // 2,
        "kept": 900 * MIB,
        "planned": 1000 * MIB,
        "resident": None,
    }
    lines = memory.table({"base": row, "remat": None, "bfloat16": {**row, "planned": 600 * MIB}})
    assert lines == [
        "|  | state and batch | objects | kept | planned |",
        "|---|---|---|---|---|",
        "| 1 image, 10 objects | 400 | 0.50 | 900 | 1000 |",
        "| `model.compute.dtype=bfloat16` | 400 | 0.50 | 900 | 600 |",
    ]
    lines = memory.table({"base": row, "bfloat16": {**row, "resident": 1800 * MIB}})
    assert lines[0].endswith("| planned | resident |") and lines[2].endswith("| 1000 |  |")
    assert lines[3].endswith("| 1000 | 1800 |")
    unknown = memory.table({"base": {**row, "state": None, "planned": None}})
    assert unknown[-1] == "| 1 image, 10 objects |  | 0.50 | 900 |  |"


def test_mistakes_in_the_command_are_told(memory, capsys):
    for arguments, said in (
        (["--cases=base,huge"], "there is no case 'huge'; choose from base, bfloat16"),
        (["--cases=base", "--run=remat"], "there is no case 'remat'; choose from base"),
    ):
        with pytest.raises(SystemExit) as end:
            memory.main(arguments)
        assert end.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_in_small(memory, tmp_path, capsys):
    """A small model on a small picture: sizes of what is known."""
    names = ["base", "objects"]
    output = tmp_path / "memory.json"
    memory.main([
        f"--cases={','.join(names)}", "--run=base", "--preset=jaxmaskrcnn/shapes", "--size=120,200",
        f"--output={output}",
    ])  # fmt: skip
    rows = json.loads(output.read_text())
    assert list(rows) == names and all(row["canvas"][1:] == [128, 224, 3] for row in rows.values())
    printed = capsys.readouterr().out
    assert "128 x 224, MiB" in printed and printed.count("\n| ") == len(names) + 1
    # A box, a label, two flags, and 256 vertices, each x and y, their rounding errors and its part: this
    # preset draws from polygons.
    for name, count in (("base", 10), ("objects", 100)):
        assert rows[name]["objects"] == count * (16 + 4 + 2 + 256 * (16 + 4))
    more = rows["objects"]["objects"] - rows["base"]["objects"]
    assert rows["objects"]["state"] - rows["base"]["state"] == more
    assert rows["base"]["kept"] > 0 and rows["base"]["planned"] > 0
    assert rows["base"]["resident"] > rows["base"]["state"] and rows["base"]["step_s"] > 0
    assert rows["objects"]["resident"] is None


@pytest.mark.slow
def test_what_the_gradient_keeps(memory):
    """It grows with the images, remat makes it less, and parameters do not count."""

    def kept(images=1, **changes):
        model = random_model(small_config(**changes))
        target = {
            "boxes": np.array([[8, 8, 40, 40]]),
            "labels": np.array([1]),
            "masks": np.ones((1, 64, 64), bool),
        }
        batch = make_batch(model, [np.zeros((64, 64, 3), np.uint8)] * images, [target] * images)
        graphdef, _, state = init_state(model, trainable(model), lambda params: optax.sgd(0.1))
        return memory.kept_bytes(graphdef, state, batch)

    plain = kept()
    assert 0 < kept(**{"compute.remat": True}) < plain < kept(images=2) < 2.1 * plain
    assert kept(**{"backbone.freeze_at": 5}) < plain
