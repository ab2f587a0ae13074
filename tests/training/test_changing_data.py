"""Images and jsons that change while they are prepared, and while a run uses them."""

import json
import shutil

import jax
import numpy as np
import pytest
from data_helpers import annotation, content, write
from killable_run import quick_step
from quick_training import recorded, train

from jaxmaskrcnn.checkpoints.directory import load_model
from jaxmaskrcnn.convert.state_dict import variables_by_path
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.data.images import decode_image
from jaxmaskrcnn.data.records import coco_instances
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.coco import GroundTruth

pytestmark = pytest.mark.usefixtures("quick_compilation")
RECIPE = """
from small_runs import tiny_config


def get_config():
    small = {"backbone.depth": 18, "backbone.freeze_at": 0}
    return tiny_config("", small, train__steps=2, train__eval_every=2, train__checkpoint_every=1,
                       train__log_every=1, data__source="coco")
"""


def data_set(folder):
    """Four images with an object in each; returns the settings that name them."""
    folder.mkdir()
    path, images = write(folder, content([annotation(i + 1, i + 1) for i in range(4)], [(32, 40)] * 4))
    settings = {"train_annotations": path, "eval_annotations": path}
    settings |= {"train_images": images, "eval_images": images}
    return path, images, [f"--config.data.{name}={value}" for name, value in settings.items()]


@pytest.mark.slow
def test_a_run_has_its_own_copy_of_the_data(tmp_path):
    """Files that are emptied, changed or removed after the start make no difference to it."""
    (tmp_path / "coco.py").write_text(RECIPE)
    path, images, settings = data_set(tmp_path / "data")
    assert train(tmp_path / "coco.py", tmp_path / "whole", *settings) == 0

    def step(*arguments):
        path.write_text("[")
        shutil.rmtree(images, ignore_errors=True)
        return quick_step(*arguments)

    assert train(tmp_path / "coco.py", tmp_path / "changed", *settings, step=step) == 0
    assert recorded(tmp_path / "changed") == recorded(tmp_path / "whole") == ([1, 2], [2])
    a, b = (variables_by_path(load_model(tmp_path / name / "model")) for name in ("whole", "changed"))
    jax.tree.map(np.testing.assert_array_equal, {n: x[...] for n, x in a.items()}, {n: b[n][...] for n in b})


def test_scores_are_those_of_the_json_at_the_start(tmp_path):
    path, images, _ = data_set(tmp_path / "data")
    truth = GroundTruth.of_source(prepare(path, images, tmp_path / "cache"))
    found = [{"image_id": i, "category_id": 1, "score": 0.9, "bbox": [2, 2, 18, 16]} for i in range(1, 5)]
    before = truth.score(found, ("bbox",))["box_AP"]
    path.write_text("[")
    assert truth.score(found, ("bbox",))["box_AP"] == before > 0.99


@pytest.mark.parametrize("what", ["the json", "an image"])
def test_records_are_not_made_of_data_that_change_meanwhile(what, tmp_path, monkeypatch):
    """They would be taken for those of the data before the change, which their name stands for."""
    path, images, _ = data_set(tmp_path / "data")
    read = coco_instances.readable_images

    def changing(*arguments, **options):
        for number, item in enumerate(read(*arguments, **options)):
            if number == 2 and what == "the json":
                path.write_text(json.dumps(json.loads(path.read_text()) | {"info": {"changed": 1}}))
            elif number == 2:
                shutil.copy(images / "1.png", images / "4.png")
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(coco_instances, "readable_images", changing)  # nothing else is certain to be in time
        with pytest.raises(UserError, match="has changed while it was read; run the command again"):
            prepare(path, images, tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache" / "coco_instances").iterdir() if p.is_dir()]
    source = prepare(path, images, tmp_path / "cache")
    same = (source[3].pixels() == decode_image(images / "4.png")).all()
    assert len(source) == 4 and same
