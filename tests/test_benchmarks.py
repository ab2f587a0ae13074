"""The benchmarks of operators, data, growth and whole runs: their parts, and that they run."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxmaskrcnn.config import ModelConfig, paths
from jaxmaskrcnn.data import prepare

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A script of the folder by its name.

    It is read from its path: ``data`` is the name of a folder of tests as well.
    """
    monkeypatch.syspath_prepend(str(FOLDER))  # The scripts import one another.

    def script(name):
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # Where dataclasses look up their annotations.
        spec.loader.exec_module(module)
        return module

    return script


def test_spreads_tables_and_files(load, tmp_path):
    measuring = load("measuring")
    assert measuring.spread([0.003, 0.001, 0.002], 1e3, 1) == "2.0 (1.0 to 3.0)"
    assert measuring.table(["a", "b"], [[1, "x"]]).splitlines() == ["| a | b |", "| --- | --- |", "| 1 | x |"]
    measuring.write_figures(None, {})
    measuring.write_figures(str(tmp_path / "f.json"), {"rows": [1]})
    assert json.loads((tmp_path / "f.json").read_text()) == {"hardware": measuring.hardware(), "rows": [1]}


def test_steps_are_measured_after_the_first(load):
    calls = []
    found = load("measuring").measure(lambda: calls.append(sum(range(200_000))), 3)
    assert len(calls) == 4 and len(found["seconds"]) == len(found["processor_seconds"]) == 3
    assert 0 < min(found["seconds"]) <= found["step_s"] <= max(found["seconds"])


def test_exponents_and_cases_of_growth(load):
    growth = load("growth")
    sizes = np.array([1, 10, 40])
    np.testing.assert_allclose(growth.exponents(sizes, 3 * sizes**2), [2, 2])
    np.testing.assert_allclose(growth.exponents(sizes, [5, 5, 10]), [0, 0.5])
    settings = {path for path, _, _ in paths.settings(ModelConfig())}
    for case in growth.CASES.values():
        assert case.of in ("objects", "side", "images") or case.of in settings
        assert list(case.points) == sorted(set(case.points)) and len(case.points) >= 3
    config = growth.narrow(0.25, num_classes=1203)
    assert (config.num_classes, config.neck.channels, config.box.fc_dim) == (1203, 64, 256)
    points = [{"value": v, "processor_seconds": [v], "planned": 2**20 * v**2} for v in (2, 4)]
    assert [row[3] for row in growth.rows_of("images", points)] == ["", "1.00"]
    assert [row[5] for row in growth.rows_of("images", points)] == ["", "2.00"]
    assert [row[3] for row in growth.rows_of("pixels", points)] == ["", "0.50"]
    assert growth.rows_of("images", [{**points[0], "planned": None}])[0][3:] == ["", "", ""]


def test_generated_photographs_are_a_data_set(load, tmp_path):
    source = prepare(*load("data").write_photographs(tmp_path, 2, 96, 128), tmp_path / "cache")
    assert len(source) == 2 and source.object_counts.tolist() == [10, 10]
    pixels = source[0].pixels()
    assert pixels.shape == (96, 128, 3) and 30 < pixels.std() < 70
    # Neighbours resemble each other, as in a photograph.
    assert np.corrcoef(pixels[:-1].ravel(), pixels[1:].ravel())[0, 1] > 0.8


def test_the_data_command(load, tmp_path, capsys):
    data = load("data")
    data.main([
        "--presets=jaxmaskrcnn/shapes,torchvision/maskrcnn_resnet50_fpn", "--size=64,96", "--count=2",
        "--seconds=0.05", "--repeats=2", "--threads=1", f"--output={tmp_path / 'data.json'}",
    ])  # fmt: skip
    table = capsys.readouterr().out.strip().splitlines()[-4:]
    assert table[0].endswith("| images/s per core | MB |") and table[2].startswith("| jaxmaskrcnn/shapes |")
    found = json.loads((tmp_path / "data.json").read_text())["presets"]["jaxmaskrcnn/shapes"]
    assert all(len(seconds) == 2 for seconds in found["parts"].values())
    assert len(found["whole"]["1"]) == 2 and found["whole"]["1"][0]["per_second"] > 0
    # uint8 pixels of one canvas, against float32 ones.
    assert found["whole"]["1"][0]["bytes"] >= 64 * 96 * 3
    with pytest.raises(SystemExit):
        data.main(["--annotations=a.json"])
    assert "belong together" in capsys.readouterr().err


@pytest.mark.slow
def test_large_annotations_in_small(load, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    annotations = load("annotations")
    paths = annotations.write_set(tmp_path, 3, 20)
    content = json.loads(paths[0].read_text())
    assert [len(content[key]) for key in ("images", "annotations", "categories")] == [3, 20, 80]
    assert {i["file_name"] for i in content["images"]} == {file.name for file in paths[1].iterdir()}
    source = prepare(*paths, tmp_path / "cache")  # stops at a problem
    assert source.object_counts.sum() == 20 and not source.statements()
    output = tmp_path / "annotations.json"
    annotations.main(["--images=3", "--objects=20", "--cases=inspect,start", f"--output={output}"])
    printed = capsys.readouterr().out.strip().splitlines()[-4:]
    assert printed[0] == "| case | processor s | system s | s | peak MiB |"
    found = json.loads(output.read_text())["cases"]
    assert list(found) == ["inspect", "start"]
    # No limit from above: a process that is started from a large one counts its memory too.
    assert all(run["user"] > 0 and run["peak_mib"] > 20 for runs in found.values() for run in runs)
    for wrong, words in (("huge", "has huge; choose from inspect"), ("open", "without prepare")):
        with pytest.raises(SystemExit):
            annotations.main([f"--cases={wrong}"])
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit, match="ended with 3"):
        annotations.measure_command([sys.executable, "-c", "raise SystemExit(3)"])


def test_kinds_of_kernels(load):
    kernels = load("kernels")
    names = {
        "sm90_xmma_dgrad_implicit_gemm_bf16": "convolutions",
        "nvjet_sm90_tst_128x160": "products",
        "gemm_fusion_dot_108": "products",
        "input_scatter_fusion_1": "scatter and gather",
        "sort_89_1__27": "sorting",
        "input_add_reduce_fusion_3": "sums and other reductions",
        "MemcpyD2H": "copies",
        "loop_select_fusion_5": "elementwise",
        "something": "other",
    }
    assert {name: kernels.kind_of(name) for name in names} == names
    rows = kernels.by_kind({"sort_1": (3.0, 2), "sort_2": (1.0, 1), "MemcpyD2H": (4.0, 5)})
    assert rows == [["sorting", "4.00", "50%", 3], ["copies", "4.00", "50%", 5], ["all", "8.00", "", 8]]


@pytest.mark.slow
def test_kernels_without_a_gpu(load):
    with pytest.raises(SystemExit, match="the profile has no GPU"):
        load("kernels").main(["--batch=1", "--size=64,96", "--case=detect"])


def test_mistakes_in_the_commands_are_told(load, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        load("growth").main(["--cases=regions,huge"])
    assert "--cases has huge; choose from regions, sampled" in capsys.readouterr().err


@pytest.mark.slow
def test_every_operator_runs_in_small(load):
    operators = load("operators")
    seconds = operators.measure_cases("jaxmaskrcnn", operators.CASES, (64, 96), 1)
    assert list(seconds) == list(operators.CASES) and all(s[0] > 0 for s in seconds.values())


@pytest.mark.slow
def test_growth_in_small(load, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    output = tmp_path / "growth.json"
    load("growth").main([
        "--cases=regions,images-training", "--points=2", "--side=64", "--width=0.05", "--repeats=1",
        f"--output={output}",
    ])  # fmt: skip
    cases = json.loads(output.read_text())["cases"]
    assert [[p["value"] for p in points] for points in cases.values()] == [[125, 250], [1, 2]]
    assert capsys.readouterr().out.count("\n| ") == 2 + 4


@pytest.mark.slow
def test_runs_in_small(load, tmp_path, capsys):
    output = tmp_path / "runs.json"
    load("runs").main([
        "--steps=4", "--images=4", "--side=64", "--batch=2", "--rounds=2", f"--output={output}"
    ])  # fmt: skip
    found = json.loads(output.read_text())["commands"]
    for rounds in found.values():
        assert len(rounds) == 2
        assert all(r["per_second"] > 0 and 0 <= r["waiting"] <= 1 for r in rounds)
    assert all(r["compiling"] > 0 for r in found["train.py"])


def test_both_ways_of_a_convolution_in_groups_are_measured(load):
    found = load("convolutions").measure((6, 7, 4, 4, 2, 1), gradients=True, repeats=1)
    assert list(found) == ["xla", "groups"] and min(found.values()) > 0
