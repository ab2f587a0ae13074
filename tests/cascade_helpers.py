"""Cascades of other libraries: stages on the library's own inputs and feature maps, without a backbone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from golden_helpers import check, relative
from goldens.seeded_weights import sampled

from jaxmaskrcnn.models.detections import select_detections
from jaxmaskrcnn.models.heads.box_stages import refine_boxes
from jaxmaskrcnn.structures import Detections, Proposals

STAGES = range(3)


class GivenLevels(nnx.Module):
    """Feature maps, as parameters, in the place of a backbone."""

    def __init__(self, maps):
        self.maps = nnx.List([nnx.Param(jnp.asarray(x, jnp.float32)) for x in maps])

    def __call__(self, images, pass_=None):
        return tuple(x[...] for x in self.maps)


def given_levels(golden):
    """The recorded maps, P2 to P6."""
    return GivenLevels([golden[f"levels/p{i}"] for i in range(2, 7)])


def images_of(golden, count):
    """What each image has, padded to the same length with zeros and stacked, and the numbers of them."""
    found, counts = {}, {}
    names = {key.split("/")[1] for key in golden if key.startswith("0/")}
    for name in sorted(names):
        values = [golden[f"{i}/{name}"] for i in range(count)]
        counts[name] = np.array([len(x) for x in values])
        longest = max(counts[name])
        found[name] = np.stack(
            [np.pad(x, ((0, longest - len(x)), *((0, 0),) * (x.ndim - 1))) for x in values]
        )
    return found, counts


@jax.jit
def run_stages(model, batch, images, valid):
    """Each stage's output from the library's own input of it."""
    config, out = model.config, {}
    pooler = model.pooler(batch, model.backbone(batch.images))
    boxes = jnp.concatenate([images[f"boxes{k}"] for k in STAGES], 1)  # pooled at once, to compile it once
    shape = (config.box.pool.size, config.box.pool.size, config.region_channels)
    pooled = pooler(boxes, config.box.pool).reshape(len(boxes), len(STAGES), -1, *shape)
    stages = []
    for k in STAGES:
        count = images[f"boxes{k}"].shape[:2]
        logits, deltas = model.box_head[k](pooled[:, k].reshape(-1, *pooled.shape[3:]))
        out[f"logits{k}"] = logits.reshape(*count, -1)
        out[f"deltas{k}"] = deltas.reshape(*count, -1)
        own = functools.partial(refine_boxes, stage=k, classes=config.classes, box=config.box)
        stages.append(images[f"logits{k}"])
        deltas = images[f"deltas{k}"].reshape(*count, -1, 4)
        if k < 2:
            out[f"boxes{k + 1}"] = jax.vmap(own)(
                images[f"boxes{k}"], images[f"logits{k}"], deltas, batch.image_sizes
            )[0]
    select = functools.partial(
        select_detections, classes=config.classes, box=config.box, config=config.detections
    )
    proposals = Proposals(images["boxes2"], jnp.zeros(count), valid["boxes2"])
    out["detections"] = jax.vmap(select)(jnp.stack(stages, 1), deltas, proposals, batch.image_sizes)
    found = Detections(images["boxes"], images["scores"], images["labels"], None, valid["boxes"])
    if model.mask_head is not None:
        out["masks"] = model.mask_head.predict(pooler, found)["masks"]
    return out


def results(model, batch, golden):
    """What `run_stages` returns, what was recorded, and which of its rows are in use."""
    images, counts = images_of(golden, len(batch.images))
    valid = {name: np.arange(x.shape[1]) < counts[name][:, None] for name, x in images.items() if x.ndim > 1}
    inputs = {name: x for name, x in images.items() if name not in ("size", "proposals")}
    return jax.tree.map(np.asarray, run_stages(model, batch, inputs, valid)), images, valid


def check_detections(what, found, images, valid, *, scores, boxes):
    """Counts, order and labels are equal, scores and boxes within the limits, of all images."""
    for i, used in enumerate(valid["boxes"]):
        n = used.sum()
        assert found.valid[i].sum() == n
        np.testing.assert_array_equal(found.labels[i, :n], images["labels"][i, :n])
        check(f"{what}, scores", np.abs(found.scores[i, :n] - images["scores"][i, :n]), scores)
        check(f"{what}, boxes, px", np.abs(found.boxes[i, :n] - images["boxes"][i, :n]), boxes)


def check_losses(case, losses, golden):
    """Of the recorded names."""
    prefix = f"{case}/loss"
    names = {key.removeprefix(f"{case}/") for key in golden if key.startswith(prefix)}
    assert set(losses) == names
    for name, ours in losses.items():
        check(f"{case}, {name}", abs(float(ours) / golden[f"{case}/{name}"] - 1), 1e-4)


def check_map_gradients(gradient, golden):
    """Of the feature maps P2 to P5."""
    for i in range(4):
        *theirs, norm = golden[f"heads/gradient/p{i + 2}"]
        ours = gradient.pop(f"backbone.maps.{i}")
        if not norm:
            assert not ours.any()
            continue
        check(f"P{i + 2}, norm of the gradient", abs(np.linalg.norm(ours) / norm - 1), 1e-3)
        mine = sampled(f"p{i + 2}", ours, len(theirs))
        check(f"P{i + 2}, gradient, relative", relative(mine, np.array(theirs)), 1e-3)
    gradient.pop("backbone.maps.4")
