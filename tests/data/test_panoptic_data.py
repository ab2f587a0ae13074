"""Panoptic jsons: what is counted of their stuff, and mistakes in them."""

import copy
import json
import shutil

import pytest

from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.inspection.inspect import inspect_annotations
from jaxmaskrcnn.data.inspection.report import as_text
from jaxmaskrcnn.data.landscapes import write_landscapes
from jaxmaskrcnn.errors import UserError


@pytest.fixture(scope="module")
def landscapes(tmp_path_factory):
    return write_landscapes(tmp_path_factory.mktemp("landscapes"), 3, 32, seed=1)


def changed(landscapes, folder, change):
    """A copy of the json that `change` has changed, beside a copy of its pictures; and the images."""
    path, images = landscapes
    content = json.loads(path.read_text())
    change(content)
    shutil.copytree(path.with_suffix(""), folder / "set")
    (folder / "set.json").write_text(json.dumps(content))
    return folder / "set.json", images


def test_stuff_is_counted(landscapes):
    content = json.loads(landscapes[0].read_text())
    found = inspect_annotations(*landscapes)
    stuff = found.summary["stuff"]
    for entry in stuff["classes"]:
        own = [
            s for a in content["annotations"] for s in a["segments_info"] if s["category_id"] == entry["id"]
        ]
        assert entry["images"] == len(own)  # a landscape has at most one segment of each
        assert entry["share"] == pytest.approx(sum(s["area"] for s in own) / (3 * 32 * 32), abs=1e-6)
    area = sum(s["area"] for a in content["annotations"] for s in a["segments_info"])
    assert stuff["not_annotated"] == pytest.approx(1 - area / (3 * 32 * 32), abs=1e-6)
    text = as_text(found)
    assert all(entry["name"] in text for entry in stuff["classes"])


def test_a_second_annotation_is_the_only_problem(landscapes, tmp_path):
    paths = changed(
        landscapes, tmp_path, lambda c: c["annotations"].append(copy.deepcopy(c["annotations"][0]))
    )
    found = inspect_annotations(*paths)
    assert [problem.reason for problem in found.problems] == ["bad segments"]
    assert "is its second one" in found.problems[0].message
    assert found.summary["images"] == 2


def test_a_first_annotation_without_segments(landscapes, tmp_path):
    paths = changed(landscapes, tmp_path, lambda c: c["annotations"][0].pop("segments_info"))
    found = inspect_annotations(*paths)
    assert [problem.reason for problem in found.problems] == ["bad segments"]
    assert "has no list 'segments_info'" in found.problems[0].message
    source = prepare(*paths, tmp_path / "cache", "skip")
    assert len(source) == 2 and source.stuff is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"][4].update(name="water"), "name 'water', which is empty or also another"),
        (lambda c: c["categories"][4].update(name=" "), "name ' ', which is empty"),
        (
            lambda c: c["categories"].extend(
                {"id": 10 + i, "name": str(i), "isthing": 0} for i in range(254)
            ),
            "has 257 classes of stuff, and a label of pixels is one of at most 254",
        ),
    ],
)  # fmt: skip
def test_stuff_that_cannot_be_learned(landscapes, tmp_path, change, message):
    paths = changed(landscapes, tmp_path, change)
    with pytest.raises(UserError, match=message):
        prepare(*paths, tmp_path / "cache")
