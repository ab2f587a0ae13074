"""The benchmark that compiles for TPUs: what it reads in a compiled text, and that it compiles."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest
from folders import ROOT, TESTS

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("compiled_text")


@pytest.fixture
def text():
    return (TESTS / "fixtures" / "compiled" / "tiny.txt").read_text()


def test_loops_are_multiplied_by_their_turns(reader, text):
    steps = list(reader.executed(reader.parse(text)))
    turns = {step.operation.name: (step.turns, step.known) for step in steps}
    # Three times seven products, and one turn of the loop that ends when the data say so.
    products = [step for step in steps if step.operation.name.startswith("convolution_tanh_fusion")]
    assert [(step.turns, step.known) for step in products] == [(21, True)]
    assert turns["broadcast_add_fusion.3"] == (3, True)
    assert turns["fusion"] == (1, False)
    cost = reader.read_cost(text)
    assert cost.cycles - cost.once == 20 * products[0].operation.cycles + 2 * 2930
    assert cost.unknown == sum(s.operation.cycles or 0 for s in steps if not s.known) > 0


def test_the_most_expensive_operations_have_their_source(reader, text):
    cost = reader.read_cost(text, count=2)
    assert [(turns, place) for _, turns, _, _, _, place in cost.top] == [
        (21, "record.py:24"), (3, "record.py:26"),
    ]  # fmt: skip
    assert cost.top[0][0] == 21 * 2845 and cost.top[0][3:5] == ("f32[256,256]", "closed_call/dot_general")
    assert sum(cost.by_kind.values()) == cost.cycles
    assert list(cost.by_kind.values()) == sorted(cost.by_kind.values(), reverse=True)


def test_collectives_and_what_has_no_estimate(reader, text):
    cost = reader.read_cost(text)
    assert cost.collectives == {"all-reduce": (1, 256 * 256 * 4)} and cost.overlapped == 0
    assert cost.without["sort"] == (1, 2 * 256 * 256 * 4)
    assert "all-reduce" not in cost.without and "while" not in cost.without


def test_the_more_expensive_branch_counts(reader, text):
    names = {step.operation.name for step in reader.executed(reader.parse(text))}
    assert "fusion.2" in names  # the two products
    branches = [s for s in reader.executed(reader.parse(text)) if s.operation.opcode == "conditional"]
    assert len(branches) == 1


def test_bytes_of_shapes(reader):
    assert reader.shape_bytes("f32[8,3]{1,0:T(8,128)S(1)}") == 96
    assert reader.shape_bytes("(bf16[2,5]{1,0}, u32[], pred[7])") == 20 + 4 + 7
    assert reader.shape_bytes("s4[6]{0}") == 3 and reader.shape_bytes("token[]") == 0


LOOP = """\
%body (p: (s32[], s32[], f32[8])) -> (s32[], s32[], f32[8]) {
  %p = (s32[], s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %one = s32[] constant(STEP)
  %next = s32[] add(%i, %one)
  %n = s32[] get-tuple-element(%p), index=1
  %x = f32[8] get-tuple-element(%p), index=2
  %y = f32[8] copy(%x), backend_config={"estimated_cycles":"10"}
  ROOT %t = (s32[], s32[], f32[8]) tuple(%next, PASSED, %y)
}

%condition (p.1: (s32[], s32[], f32[8])) -> pred[] {
  %p.1 = (s32[], s32[], f32[8]) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %n.1 = s32[] get-tuple-element(%p.1), index=1
  ROOT %less = pred[] compare(%i.1, %n.1), direction=LT
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x.2 = f32[8] parameter(0)
  %zero = s32[] constant(0)
  %limit = s32[] constant(LIMIT)
  %start = (s32[], s32[], f32[8]) tuple(%zero, %limit, %x.2)
  %loop = (s32[], s32[], f32[8]) while(%start), condition=%condition, body=%body
  ROOT %result = f32[8] get-tuple-element(%loop), index=2
}
"""


@pytest.mark.parametrize(
    ("limit", "step", "passed", "cycles", "unknown"),
    [
        (7, 1, "%n", 70, 0),
        (7, 2, "%n", 40, 0),
        (0, 1, "%n", 0, 0),
        (7, 1, "%next", 10, 10),  # the limit moves
        (7, 0, "%n", 10, 10),
    ],
)
def test_turns_of_a_loop_whose_limit_is_part_of_its_state(reader, limit, step, passed, cycles, unknown):
    text = LOOP.replace("LIMIT", str(limit)).replace("STEP", str(step)).replace("PASSED", passed)
    cost = reader.read_cost(text)
    assert (cost.cycles, cost.once, cost.unknown) == (cycles, 10, unknown)
    assert cost.by_kind == {"copy": cycles}


def command(*arguments):
    return subprocess.run(
        [sys.executable, str(FOLDER / "compile_for.py"), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_a_machine_that_cannot_be_described():
    done = command("--platform=cuda", "--topology=h300:8", "--case=top_k")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "compile_for.py: cuda 'h300:8' cannot be described" in done.stderr


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


@pytest.mark.slow
@needs_libtpu
def test_maps_of_small_batches_are_not_copied_around_convolutions(tmp_path):
    output = tmp_path / "figures.json"
    done = command("--topology=v5e:2x2", "--chips=1", "--case=conv", "--batch=4", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(output.read_text())["cost"]["by_kind"]) == ["convolution"]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["rpn", "proposals", "box_head", "mask_head"])
def test_parts_of_a_prediction_take_the_shapes_that_the_model_gives_them(case, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    compile_for, growth = (importlib.import_module(name) for name in ("compile_for", "growth"))
    fields = {"compute.dtype": "bfloat16", "input.test_min_size": 128, "input.test_max_size": 128}
    config = growth.narrow(0.1, **fields)
    function, arguments = compile_for.program(case, jax.devices()[:1], 2, (128, 128), config, {})
    found = jax.tree.leaves(jax.eval_shape(function, *arguments))
    anchors = 3 * sum(side**2 for side in (32, 16, 8, 4, 2))
    first = {
        "rpn": (2, anchors), "proposals": (2, 1000, 4), "box_head": (2000, 81), "mask_head": (200, 28, 28),
    }  # fmt: skip
    assert found[0].shape == first[case]


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize(("topology", "case"), [("v5e:2x2", "train"), ("v4:2x2x1", "detect")])
def test_a_small_model_is_compiled_for_tpus(topology, case, tmp_path):
    output = tmp_path / "figures.json"
    done = command(
        f"--topology={topology}", f"--case={case}", "--batch=1", "--size=128,128", "--width=0.1",
        f"--output={output}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["cost"]["cycles"] > 1e5 and found["temporaries"] > 0 and found["arguments"] > 0
    reduced = found["cost"]["collectives"].get("all-reduce", [0, 0])
    assert (reduced[1] > 1e6) == (case == "train")  # the gradients
    assert f"{case}, 1 images a chip, 4 TPU" in done.stdout
    assert "ops/" in done.stdout  # source lines
