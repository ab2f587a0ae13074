"""The train step and the evaluation on eight virtual devices; run by test_parallel.py.

    python tests/eight_devices.py RESULT.json CASE...

A process of its own, as the number of devices is fixed when JAX starts. Prints nothing; the file
gets, for every case, what the test compares.
"""

import os
import sys

from xla_flags import QUICK

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {QUICK}"

import functools
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax
from data_helpers import random_set
from detectors import Stub, random_model, small_config
from flax import nnx
from small_runs import compilations
from training.test_train_step import arrays, make_batch, start

from jaxmaskrcnn import trainable
from jaxmaskrcnn.checkpoints.run import Checkpoints
from jaxmaskrcnn.config import DataConfig
from jaxmaskrcnn.data import prepare
from jaxmaskrcnn.evaluation.evaluate import Evaluator
from jaxmaskrcnn.parallel.layout import Layout
from jaxmaskrcnn.structures import Batch, Targets
from jaxmaskrcnn.training.compiled_step import make_train_step
from jaxmaskrcnn.training.step import init_state
from jaxmaskrcnn.utils import compilation_cache

SIDE, IMAGES = 64, 8


def scene(seed: int, step: int) -> Batch:
    """Eight images with rectangles; every image of another size, one without objects, one not valid."""
    rng = np.random.default_rng([seed, step])
    sizes = rng.integers(40, SIDE + 1, (IMAGES, 2)).astype(np.int32)
    images = np.zeros((IMAGES, SIDE, SIDE, 3), np.uint8)
    boxes, masks = np.zeros((IMAGES, 3, 4), np.float32), np.zeros((IMAGES, 3, SIDE, SIDE), bool)
    for i, (h, w) in enumerate(sizes):
        images[i, :h, :w] = rng.integers(0, 256, (h, w, 3))
        for g in range(3):
            y, x = rng.integers(0, (h - 20, w - 20))
            boxes[i, g] = x, y, x + rng.integers(8, 20), y + rng.integers(8, 20)
            x1, y1, x2, y2 = boxes[i, g].astype(int)
            masks[i, g, y1:y2, x1:x2] = True
            images[i, y1:y2, x1:x2] = rng.integers(0, 256, 3)
    objects = np.arange(3) < rng.integers(1, 4, (IMAGES, 1))
    objects[3] = False
    targets = Targets(
        boxes=boxes, labels=rng.integers(0, 3, (IMAGES, 3)).astype(np.int32),
        masks=np.packbits(masks, axis=-1), crowd=np.zeros((IMAGES, 3), bool), valid=objects,
    )  # fmt: skip
    extents = (-(-sizes // 32) * 32).astype(np.int32)
    index = np.arange(IMAGES, dtype=np.int32)
    return Batch(images, sizes, extents, sizes, index, index != 5, targets)


@functools.cache
def detector(dtype: str, norm: str):
    config = small_config(
        **{
            "compute.dtype": dtype,
            "backbone.norm": norm,
            "backbone.depth": 18,
            "rpn.pre_nms_train": 40,
            "rpn.post_nms_train": 20,
            "rpn.batch_size": 16,
            "regions.batch_size": 8,
            "regions.positive_fraction": 0.5,
            "box.fc_dim": 8,
            "backbone.freeze_at": 0,
        }
    )
    return random_model(config)


def run(mode: str, devices: int, steps: int, device_batch: int, dtype: str, norm: str) -> dict:
    """Losses of every step and the variables after the last one."""
    model = detector(dtype, norm)
    optimizer = optax.sgd(0.01, momentum=0.9)
    graphdef, optimizer, state = init_state(model, trainable(model), lambda params: optimizer)
    layout = Layout(mode, jax.devices()[:devices])
    step = make_train_step(
        graphdef, optimizer, lambda step: 0.01, layout, batch_size=IMAGES, device_batch=device_batch
    )
    state, key = layout.place_state(state), layout.replicate(jax.random.key(5))
    losses = []
    for i in range(steps):
        state, metrics = step(state, layout.place_batch(scene(0, i)), key)
        losses.append({name: float(value) for name, value in metrics.items()})
    variables = nnx.to_flat_state(nnx.merge_state(state["params"], state["rest"]))
    return {
        "losses": losses,
        "variables": {".".join(map(str, path)): np.asarray(v[...]).tolist() for path, v in variables},
    }


def stand_in(mode: str, devices: int, device_batch: int) -> dict:
    """Three steps of the stand-in of test_train_step.py, sixteen images each."""
    parts, state = start()
    layout = Layout(mode, jax.devices()[:devices])
    step = make_train_step(**parts, layout=layout, batch_size=16, device_batch=device_batch)
    state, key = layout.place_state(state), layout.replicate(jax.random.key(3))
    losses = []
    with compilations() as compiled:
        for i in range(3):
            state, metrics = step(state, layout.place_batch(make_batch(i, 16)), key)
            losses.append({name: float(value) for name, value in metrics.items()})
    # The running mean is of a slice, by design.
    kept = {"params": state["params"], "opt_state": state["opt_state"]}
    if not device_batch:
        kept["rest"] = state["rest"]
    return {
        "losses": losses,
        "variables": {str(i): a.tolist() for i, a in enumerate(arrays(kept))},
        "compilations": sum(name in ("train_step", "_fun", "run") for name in compiled),  # pmap calls it _fun
    }


def checkpoint(saved: int, read: int) -> dict:
    """Two steps on some devices, a checkpoint, and one more on others; what each device holds."""
    model = detector("float64", "frozen_bn")
    optimizer = optax.sgd(0.01, momentum=0.9)
    graphdef, optimizer, first = init_state(model, trainable(model), lambda params: optimizer)
    iterator, states, held = Position(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for devices, steps in ((saved, range(2)), (read, range(2, 3))):
            layout = Layout("sharded", jax.devices()[:devices])
            step = make_train_step(graphdef, optimizer, lambda step: 0.01, layout, batch_size=IMAGES)
            state, key = layout.place_state(first), layout.replicate(jax.random.key(5))
            with Checkpoints(folder) as checkpoints:
                if checkpoints.latest is not None:
                    state = checkpoints.restore(state, iterator)
                    states.append(state)
                for i in steps:
                    state, _ = step(state, layout.place_batch(scene(0, i)), key)
                checkpoints.save(state, iterator)
                states.append(state)
            leaves = jax.tree.leaves((state["params"], state["opt_state"]))
            shares = sum(x.addressable_shards[0].data.size for x in leaves)
            held.append(shares / sum(x.size for x in leaves))
    written, restored, last = ([x.tolist() for x in arrays(state)] for state in states)
    return {"same": written == restored, "held": held, "variables": {str(i): x for i, x in enumerate(last)}}


class Position:
    """A data iterator of which a checkpoint keeps the position."""

    def get_state(self):
        return {"step": 2}

    def set_state(self, state):
        assert state == {"step": 2}


def detections(devices: int, batch_size: int) -> dict:
    """Eleven images of two canvases, evaluated with a stub; how often each was asked for."""
    with tempfile.TemporaryDirectory() as folder:
        source = prepare(*random_set(Path(folder), [(64, 48), (40, 64)] * 5 + [(64, 64)]), folder)
        config = small_config(**{"detections.score_threshold": 0.1})
        graphdef, state = nnx.split(Stub(config))
        layout = Layout("auto", jax.devices()[:devices])
        data = DataConfig(eval_batch_size=batch_size, max_canvases=2)
        evaluator = Evaluator(config, graphdef, source, data, layout=layout, progress=False)
        found = evaluator.detect(state)
        return {"found": found, "images": [d["image_id"] for d in found]}


def main() -> None:
    results = {}
    for case in sys.argv[2:]:
        begin = time.monotonic()
        name, *fields = case.split(",")
        values = [int(f) if f.isdigit() else f for f in fields]
        jax.config.update("jax_enable_x64", values[-2] == "float64" if name == "run" else True)
        results[case] = {
            "run": run,
            "stand_in": stand_in,
            "detections": detections,
            "checkpoint": checkpoint,
        }[name](*values)
        print(case, round(time.monotonic() - begin, 1), file=sys.stderr)
    with open(sys.argv[1], "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        compilation_cache.enable()
    main()
