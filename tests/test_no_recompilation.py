"""Neither the number of objects nor that of detections changes a shape, so nothing compiles again."""

import jax
import numpy as np
import pytest
from detectors import Stub

from jaxmaskrcnn.config import DataConfig
from jaxmaskrcnn.data import eval_batches, prepare, train_iterator, write_shapes
from jaxmaskrcnn.inference.predictor import Predictor
from jaxmaskrcnn.presets import model_config


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shapes")
    return prepare(*write_shapes(directory, 12, 64, seed=0), directory)


@pytest.mark.parametrize(
    "preset", ["jaxmaskrcnn/shapes", "torchvision/maskrcnn_resnet50_fpn"], ids=["polygons", "bitmaps"]
)
def test_batches_of_a_canvas_have_one_shape(preset, source):
    """Images of one to five objects, and with one to the end of an epoch's batches."""
    assert len(set(source.object_counts.tolist())) >= 4
    config = model_config(preset, num_classes=3, test_min_size=64, test_max_size=64)
    data = DataConfig(batch_size=2, eval_batch_size=5, min_sizes=(64,), max_size=64)
    program = jax.jit(lambda batch: jax.tree.map(lambda x: x.sum(), batch))
    batches, found = train_iterator(source, config, data, seed=0), set()
    for _ in range(9):
        batch = next(batches)
        program(batch)
        found |= set(batch.targets.valid.sum(1).tolist())
    batches.close()
    assert len(found) >= 4 and program._cache_size() == 1
    program.clear_cache()
    valid = []
    for batch in eval_batches(source, config, data):
        program(batch)
        valid.append(int(batch.valid.sum()))
    assert valid == [5, 5, 2] and program._cache_size() == 1


def test_the_predictor_compiles_once_for_a_canvas():
    config = model_config("jaxmaskrcnn/shapes", num_classes=3, test_min_size=64, test_max_size=96)
    found, predictors = [], []
    for threshold in (0.0, 0.45, 0.99):
        predictor = Predictor(Stub(config), threshold, batch_size=2)
        for count, value in ((1, 0), (2, 90), (5, 255)):
            images = [np.full((48, 60 + i, 3), value, np.uint8) for i in range(count)]
            found += [len(out["boxes"]) for out in predictor(images)]
        predictors.append(predictor)
    assert len(set(found)) >= 3 and 0 in found
    assert [predictor._detect.__wrapped__._cache_size() for predictor in predictors] == [1, 1, 1]
