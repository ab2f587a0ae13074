"""MMDetection's detectors with the seesaw loss, beside what MMDetection computed.

That is in `goldens/mmdet_seesaw.npz` (see `record_mmdet_seesaw.py`). ``pytest -s`` prints the largest errors.
"""

import jax
import numpy as np
import optax
import pytest
from backbone_helpers import Recorded
from flax import nnx
from golden_helpers import check
from goldens.seeded_weights import seeded_mmdet_seesaw_weight

from jaxmaskrcnn.checkpoints.directory import load_model, save_model
from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.config_files import config_from_file
from jaxmaskrcnn.convert.export import export_settings
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.models.freezing import trainable
from jaxmaskrcnn.training.step import init_state, jit_train_step
from jaxmaskrcnn.zoo.lookup import model_config

pytestmark = pytest.mark.usefixtures("highest_precision")

SMALL = {
    "backbone.depth": 18, "backbone.width": 8, "backbone.freeze_at": 0, "neck.channels": 16,
    "rpn.pre_nms_train": 70, "rpn.post_nms_train": 80, "rpn.pre_nms_test": 40, "rpn.post_nms_test": 30,
    "rpn.batch_size": 64, "rpn.anchors.sizes": ((10.0,), (20.0,), (40.0,), (80.0,), (160.0,)),
    "regions.batch_size": 100, "regions.positive_fraction": 0.5, "input.test_min_size": 94,
    "input.test_max_size": 126, "detections.per_image": 20, "box.fc_dim": 32, "mask.convs": 1, "mask.dim": 16,
}  # fmt: skip
CASES = {
    case: Recorded(
        "mmdet",
        case,
        model_config(f"mmdet/{preset}", num_classes=3, **SMALL),
        seeded_mmdet_seesaw_weight,
        "seesaw",
    )
    for case, preset in (
        ("mask", "mask-rcnn_r50_fpn_seesaw-loss-normed-mask_random-ms-2x_lvis-v1"),
        ("cascade", "cascade-mask-rcnn_r101_fpn_seesaw-loss_random-ms-2x_lvis-v1"),
    )
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.slow
@cases
def test_detections(case):
    case.check_detections()


@pytest.mark.slow
@cases
def test_losses_and_gradients(case):
    case.check_training()


@pytest.mark.slow
@cases
def test_counts_of_two_steps(case):
    """The second step's losses depend on the counts of the first; a validation leaves them as they are."""
    model, batch = nnx.clone(case.model), case.batch(targets=True)

    def counts():
        heads = model.box_head if isinstance(model.box_head, nnx.List) else [model.box_head]
        return [np.asarray(head.seen.counts[...]) for head in heads]

    losses = nnx.jit(lambda model, batch: model.losses(batch, None))
    for step in ("train", "second"):
        found = losses(model, batch)
        for name, ours in found.items():
            check(f"{case.case}, {step}, {name}", abs(float(ours) / case.arrays[f"{step}/{name}"] - 1), 1e-4)
        prefix = f"counts/{step}/"
        expected = [v for k, v in sorted(case.arrays.items()) if k.startswith(prefix)]
        np.testing.assert_array_equal(counts(), expected)
    before = counts()
    nnx.jit(lambda model, batch: model.loss_terms(batch, None, train=False))(model, batch)
    np.testing.assert_array_equal(counts(), before)


@cases
def test_names_go_both_ways(case):
    case.check_names()


@cases
def test_config_file(case, tmp_path):
    """MMDetection's own config, changed as recorded, is the config of these tests; so is what is written."""
    (tmp_path / "config.py").write_text(str(case.arrays["config"]))
    assert config_from_file(tmp_path / "config.py") == case.config
    text, differences = export_settings(case.config, "mmdet")
    assert differences == ()
    (tmp_path / "written.py").write_text(text)
    assert config_from_file(tmp_path / "written.py") == case.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("num_classes=3", "num_classes=4"), "loss_cls.num_classes is 3; supported: the same as"),
        (("tempearture=20.0", "tempearture=20.0, power=2"), "predictor_cfg.power is 2; supported: 1.0"),
        (("'SeesawLoss'", "'FocalLoss'"), "loss_cls.type is 'FocalLoss'; supported: 'CrossEntropyLoss' or"),
        (("p=0.8", "p=0.8, eps=0.1"), "loss_cls.eps is 0.1; supported: 0.01"),
    ],
    ids=["classes", "power", "loss", "epsilon"],
)
def test_other_losses_are_refused(change, message, tmp_path):
    text, _ = export_settings(CASES["mask"].config, "mmdet")
    assert change[0] in text
    (tmp_path / "config.py").write_text(text.replace(*change, 1))
    with pytest.raises(UserError, match=message):
        config_from_file(tmp_path / "config.py")


@pytest.mark.parametrize("library", ["torchvision", "detectron2", "matterport"])
@pytest.mark.parametrize("path", ["box.cosine_scale", "mask.cosine_scale"])
def test_no_other_library_has_them(library, path):
    config = ModelConfig().replace({**LIBRARIES[library].convention, path: 20.0})
    with pytest.raises(UserError, match=r"cannot express this model: .*a head computes cosines"):
        export_settings(config, library)


@pytest.mark.slow
def test_counts_belong_to_the_state_of_a_run_and_to_a_model_directory(tmp_path):
    """Two steps count their regions, once each; and a model that is stored has them."""
    case = CASES["mask"]
    model, batch = nnx.clone(case.model), case.batch(targets=True)
    graphdef, optimizer, state = init_state(model, trainable(model), lambda params: optax.sgd(0.0))
    step = jit_train_step(graphdef, optimizer, lambda step: 0.0)
    before = np.asarray(model.box_head.seen.counts[...])
    for _ in range(2):
        state, metrics = step(state, batch, jax.random.key(0))
        assert metrics["finite"] and metrics["loss_classifier_objectness"] > 0
    counts = np.asarray(dict(nnx.to_flat_state(state["rest"]))["box_head", "seen", "counts"][...])
    added = counts - before
    assert (added >= 0).all() and added[:3].sum() > 0 and 2 * 100 < added.sum() <= 2 * 2 * 100
    model.box_head.seen.counts[...] = counts
    save_model(model, tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").box_head.seen.counts[...], counts)
