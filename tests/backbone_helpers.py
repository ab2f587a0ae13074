"""Detectors on other backbones beside what their library recorded (`goldens/record_*_backbones.py`)."""

import dataclasses
import functools
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from folders import GOLDENS
from golden_helpers import check, relative
from goldens.seeded_weights import sampled, seeded_polygons, seeded_scene
from training_helpers import check_gradients, flat, gradient_function

from jaxmaskrcnn.config import ModelConfig
from jaxmaskrcnn.convert.libraries import LIBRARIES
from jaxmaskrcnn.convert.state_dict import from_state_dict, to_state_dict
from jaxmaskrcnn.convert.structure import config_structure
from jaxmaskrcnn.data.preprocess import make_batch
from jaxmaskrcnn.models.features import Pass


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded:
    """A case of a golden file, with this library's words for what the script says to the other one."""

    library: str
    case: str
    config: ModelConfig
    seeded: Callable[[str, tuple[int, ...]], np.ndarray]  # the weights
    file: str = "backbones"  # what follows the library in the golden file's name

    @functools.cached_property
    def arrays(self):
        with np.load(GOLDENS / f"{self.library}_{self.file}.npz") as arrays:
            whole = {k: v for k, v in arrays.items() if k.startswith((f"{self.case}/", "scenes"))}
        return {k.removeprefix(f"{self.case}/"): v for k, v in whole.items()}

    @functools.cached_property
    def scenes(self):
        return [seeded_scene(*scene) for scene in json.loads(str(self.arrays["scenes"]))]

    @functools.cached_property
    def weights(self):
        names = json.loads(str(self.arrays["names"]))
        return {name: self.seeded(name, tuple(shape)) for name, shape in names.items()}

    @functools.cached_property
    def model(self):
        return from_state_dict(self.weights, self.config, self.library)

    def batch(self, targets=False):
        given = None
        if targets:
            kind = "polygons" if self.library == "detectron2" else "masks"
            given = [
                {
                    "boxes": s["boxes"],
                    "labels": s["labels"],
                    kind: seeded_polygons(s["boxes"]) if kind == "polygons" else s["masks"],
                }
                for s in self.scenes
            ]
        images = [scene["image"] for scene in self.scenes]
        return make_batch(self.config, images, given, max_objects=5 if targets else 0)

    def check_maps(self, wider=(35, 34)):
        """The backbone's maps, of images on a larger canvas, which changes nothing inside.

        ``wider``: By how many rows and columns it is larger.
        """
        batch = self.batch()

        def run(model, images, extents):
            wide = jnp.pad(images, ((0, 0), (0, wider[0]), (0, wider[1]), (0, 0)))
            return model.backbone(wide, Pass(extents))

        maps = jax.jit(run)(self.model, batch.images, batch.extents)
        prefix = "maps/"
        names = sorted({k.split("/")[1] for k in self.arrays if k.startswith(prefix)})
        assert len(names) == len(maps)
        for name, ours in zip(names, maps, strict=True):
            theirs, (n, h, w, channels) = (self.arrays[f"{prefix}{name}/{x}"] for x in ("values", "shape"))
            assert ours.shape[1] > h and ours.shape[2] > w
            inside = np.asarray(ours)[:, :h, :w]
            assert inside.shape == (n, h, w, channels)
            check(
                f"{self.case}, {name}, relative", relative(sampled(name, inside, len(theirs)), theirs), 1e-4
            )

    def check_detections(self, wider=(0, 0)):
        """The whole model's: the same in the same order.

        ``wider``: By how many rows and columns the canvas is larger, which changes nothing.
        """
        batch = self.batch()
        pad = ((0, 0), (0, wider[0]), (0, wider[1]), (0, 0))
        batch = batch._replace(images=np.pad(batch.images, pad))
        found = jax.jit(lambda model, batch: model.detect(batch))(self.model, batch)
        for i in range(len(self.scenes)):
            theirs = {k: self.arrays[f"{i}/{k}"] for k in ("labels", "scores", "boxes")}
            n = len(theirs["labels"])
            assert found.valid[i].sum() == n
            np.testing.assert_array_equal(found.labels[i, :n], theirs["labels"])
            check(f"{self.case}, scores", np.abs(found.scores[i, :n] - theirs["scores"]), 1e-5)
            check(f"{self.case}, boxes, px", np.abs(found.boxes[i, :n] - theirs["boxes"]), 1e-2)
            if self.config.mask is not None:
                masks = self.arrays[f"{i}/masks"]
                check(f"{self.case}, masks", np.abs(found.masks[i, :n] - masks), 1e-3)

    def check_training(self):
        """Losses, and the gradient of every parameter."""
        run, params = gradient_function(self.model)
        gradient, losses = run(params, self.batch(targets=True))
        names = {k.removeprefix("train/") for k in self.arrays if k.startswith("train/")}
        assert set(losses) == names
        for name, ours in losses.items():
            check(f"{self.case}, {name}", abs(float(ours) / self.arrays[f"train/{name}"] - 1), 1e-4)
        prefix = "gradient/"
        golden = {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}
        weights = {name: value for name, value in self.weights.items() if name in golden}
        table = LIBRARIES[self.library].table(self.config)
        ours = flat(gradient)
        for name in [n for n in self.weights if n.endswith("conv_mask.bias") or "neck.fpn_convs.4." in n]:
            if name in golden:
                continue
            # A softmax does not change when all of its logits do; and where no anchor of an HRNet's coarsest
            # level is sampled, nothing is recorded.
            path, _ = table.translate(name)
            check(f"{self.case}, {path}", np.abs(ours.pop(path)), 1e-5)
        check_gradients(self.case, ours, golden, weights, table)

    def check_names(self):
        """Every array comes back bit by bit, and the arrays show the structure."""
        back = to_state_dict(self.model, self.library)
        counters = {k for k in self.weights if k.endswith("num_batches_tracked")}
        assert back.keys() - counters == self.weights.keys() - counters
        for name in back.keys() - counters:
            np.testing.assert_array_equal(back[name], self.weights[name])
        assert LIBRARIES[self.library].structure(self.weights) == config_structure(self.config)
