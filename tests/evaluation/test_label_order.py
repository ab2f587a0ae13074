"""Labels that follow the annotations' list of categories and not its ids, as MMDetection's do."""

import json

import jax.numpy as jnp
import pytest
from data_helpers import annotation, content, write
from detectors import Oracle, random_model, small_config
from flax import nnx

from jaxmaskrcnn.checkpoints.directory import load_model, save_model
from jaxmaskrcnn.cli.main import main
from jaxmaskrcnn.config import DataConfig, ModelConfig
from jaxmaskrcnn.data.records.prepare import prepare
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.evaluation.evaluate import Evaluator
from jaxmaskrcnn.inference.categories import match_categories, name_classes
from jaxmaskrcnn.structures import Category

# The list of a json whose ids do not ascend.
DOG, CAT, EEL = Category(7, "dog"), Category(3, "cat"), Category(5, "eel")
LISTED = (DOG, CAT, EEL)
ASCENDING = (CAT, EEL, DOG)


def listed(names=(), **changes):
    categories = tuple(Category(i, name) for i, name in enumerate(names))
    return ModelConfig(label_order="list", background="last", categories=categories, **changes)


def test_labels_without_names_follow_the_list():
    config = listed(num_classes=3)
    assert match_categories(config, ASCENDING, listed=LISTED) == LISTED
    assert match_categories(config.replace(label_order="id"), ASCENDING, listed=LISTED) == ASCENDING
    with pytest.raises(UserError, match="3 classes without names, but the annotations have 2 categories"):
        match_categories(config, ASCENDING[:2], listed=LISTED[:2])


def test_names_choose_from_the_list_and_do_not_order_it(caplog):
    config = listed(("eel", "dog"), num_classes=2)
    assert match_categories(config, ASCENDING, listed=LISTED) == (DOG, EEL)
    assert "its classes eel, dog, but the order of the annotations' list is dog, eel" in caplog.text
    caplog.clear()
    assert match_categories(listed(("dog", "eel"), num_classes=2), ASCENDING, listed=LISTED) == (DOG, EEL)
    assert not caplog.records
    with pytest.raises(UserError, match="annotations x.json lack newt, but .* eel, newt, .*7 .dog., 3 .cat."):
        match_categories(listed(("eel", "newt"), num_classes=2), ASCENDING, "x.json", listed=LISTED)
    twice = (*LISTED, Category(9, "dog"))
    with pytest.raises(UserError, match="have several categories of one name"):
        match_categories(config, tuple(sorted(twice)), listed=twice)


def test_a_named_model_knows_its_ids():
    model = random_model(small_config(num_classes=3, categories=(), label_order="list"))
    name_classes(model, ASCENDING, listed=LISTED)
    assert (model.config.categories, model.config.label_order) == (LISTED, "id")
    name_classes(model, ASCENDING, listed=ASCENDING)
    assert model.config.categories == LISTED


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three images with an object each, of three classes."""
    folder = tmp_path_factory.mktemp("data")
    entries = [
        annotation(i + 1, i + 1, category_id=category.id, bbox=[2, 2, 20, 20], area=400,
                   segmentation=[[2, 2, 22, 2, 22, 22, 2, 22]])
        for i, category in enumerate(LISTED)
    ]  # fmt: skip
    categories = [category._asdict() for category in LISTED]
    return write(folder, content(entries, ((64, 64),) * 3, categories))


@pytest.mark.slow
def test_an_oracle_with_labels_in_list_order_scores_one(data, tmp_path):
    source = prepare(*data, tmp_path)
    scores = {}
    for order in ("list", "id"):
        config = small_config(num_classes=3, categories=(), label_order=order)
        oracle = Oracle(config, source)
        # Labels as MMDetection numbers them: places in the json's list.
        place = jnp.array([LISTED.index(category) for category in source.categories])
        oracle.labels[...] = place[oracle.labels[...].astype(int)].astype(float)
        graphdef, state = nnx.split(oracle)
        evaluator = Evaluator(config, graphdef, source, DataConfig(eval_batch_size=1), progress=False)
        scores[order] = evaluator.run(state)[0]["box_AP"]
    assert scores["list"] == pytest.approx(1) and scores["id"] == 0


@pytest.mark.slow
def test_predictions_are_written_with_the_ids_of_the_list(data, tmp_path):
    annotations, images = data
    model = random_model(small_config(num_classes=3, categories=(), label_order="list"))
    save_model(model, tmp_path / "model")
    assert load_model(tmp_path / "model").config.label_order == "list"
    arguments = [f"--checkpoint={tmp_path / 'model'}", "--format=json", "--score_threshold=0"]
    found = {}
    for name, more in (("labels", []), ("ids", [f"--annotations={annotations}"])):
        output = tmp_path / name
        assert main(["predict", str(images), *arguments, f"--output={output}", *more]) == 0
        found[name] = json.loads((output / "predictions.json").read_text())
    assert [c["name"] for c in found["ids"]["categories"]] == ["dog", "cat", "eel"]
    first = found["labels"]["categories"][0]["id"]
    labels, ids = ([entry["category_id"] for entry in found[name]["annotations"]] for name in found)
    assert ids == [LISTED[label - first].id for label in labels] and len(set(ids)) > 1
