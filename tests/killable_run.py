"""A small training run that sends itself a signal.

    python tests/killable_run.py WORKDIR CACHE KIND SIGNAL MOMENT COUNT SECONDS

KIND is "real", or "quick" for a step and an evaluation that take no compilation. The signal is sent some
seconds after a moment of `MOMENTS` has come for the COUNT-th time; COUNT 0 is never. The last line of the
output is "finished" if the run has ended and "stopped" if it was asked to stop.
"""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from detectors import random_model
from small_runs import GivenScores, run_tiny, tiny_config

from jaxmaskrcnn.evaluation.evaluate import Stopped
from jaxmaskrcnn.training.lock import hold_workdir
from jaxmaskrcnn.training.run_config import to_model_config
from jaxmaskrcnn.training.setup import prepare_sources
from jaxmaskrcnn.utils import compilation_cache

# Moments in the order in which they come: what Python is about to do to which path, or a name of `reached`.
MOMENTS = {
    "images are generated": ("os.mkdir", r"\.shapes-\w+$"),
    "records are written": ("os.mkdir", r"\.building-.*incomplete"),
    "records are complete": ("os.rename", r"\.building-"),
    "a step": ("reached", "step"),
    "a checkpoint begins": ("os.mkdir", r"checkpoints/\d+\.orbax-checkpoint-tmp$"),
    "a checkpoint is complete": ("os.rename", r"checkpoints/\d+\.orbax-checkpoint-tmp$"),
    "an evaluation": ("reached", "evaluation"),
    "the best model is written": ("os.mkdir", r"/\.best\.\w+$"),
    "detections are written": ("open", r"/\.detections\.\w+\.json$"),
    "the metrics are written": ("os.rename", r"/\.metrics\.\w+\.json$"),
    "the last model is written": ("os.mkdir", r"/\.model\.\w+$"),
    "the end": ("reached", "end"),
}
_listening = []


def reached(name):
    """Says that a moment has come that Python's audit events do not show."""
    for listen in _listening:
        listen("reached", name)


def send_at(number, moment, count, seconds):
    """Arranges for a signal to this process."""
    wanted, pattern = MOMENTS[moment]
    come = 0

    def listen(event, path):
        nonlocal come
        if event != wanted or not re.search(pattern, path):
            return
        come += 1
        if come == count:
            print("sent", flush=True)  # or will be
            if seconds:
                threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
            else:
                os.kill(os.getpid(), number)

    def hook(event, arguments):
        if event in ("open", "os.mkdir", "os.rename") and isinstance(arguments[0], str | os.PathLike):
            listen(event, os.fspath(arguments[0]))

    _listening.append(listen)
    sys.addaudithook(hook)


def config(cache, kind):
    """Twelve steps with all the state that a run can have."""
    return tiny_config(
        cache, train__steps=12, train__eval_every=4 if kind == "quick" else 0, train__checkpoint_every=2,
        train__pictures=2, train__log_every=1, data__min_sizes=(48, 64), optimizer__ema_decay=0.9,
        optimizer__groups=("*.bias:2:0",), data__repeat_threshold=0.9,
    )  # fmt: skip


def quick_step(state, batch, key):
    """Moves the parameters by what step, key, images and state say, in a way that does not commute."""
    draw = jax.random.uniform(jax.random.fold_in(key, state["step"]))
    memory = sum(jnp.mean(x) for x in jax.tree.leaves(state["opt_state"])) / 1000
    push = draw + batch.index.sum() + batch.image_sizes.sum() / 64 + memory
    state = {
        **state,
        "step": state["step"] + 1,
        "params": jax.tree.map(lambda x: 0.5 * x + push, state["params"]),
        "opt_state": jax.tree.map(lambda x: (0.7 * x + push).astype(x.dtype), state["opt_state"]),
    }
    metrics = {"loss": push, "learning_rate": jnp.float32(0), "finite": jnp.array(True)}
    return state, metrics


class QuickEvaluator(GivenScores):
    """A score that depends on the parameters, after as long as a small evaluation takes."""

    def run(self, *states, stop=None):
        reached("evaluation")
        for _ in range(20):
            time.sleep(0.02)
            if stop():
                raise Stopped
        total = sum(float(jnp.mean(x)) for x in jax.tree.leaves(states[0]))
        self._scores = iter([abs(total) % 1])
        return super().run()


def run(workdir, cache, kind):
    """Train; returns the metrics, which are empty if the run was asked to stop."""
    settings, model, parts = config(cache, kind), None, {}
    Path(workdir).mkdir(parents=True, exist_ok=True)
    with hold_workdir(workdir):
        if kind == "quick":
            source, _ = prepare_sources(settings, Path(workdir))
            model = random_model(to_model_config(settings.model, source.categories))
            parts = {"evaluator": QuickEvaluator()}

        def counted(step):
            step = quick_step if kind == "quick" else step

            def one(state, batch, key):
                reached("step")
                return step(state, batch, key)

            return one

        metrics = run_tiny(settings, Path(workdir), model=model, around_step=counted, **parts)
        reached("end")
    return metrics


if __name__ == "__main__":
    folder, records, sort, name, moment, times, wait = sys.argv[1:]
    # As in a terminal: a process in the background of a script ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if int(times):
        send_at(signal.Signals[name], moment, int(times), float(wait))
    jax.config.update("jax_disable_most_optimizations", True)
    compilation_cache.enable(os.environ["JAX_COMPILATION_CACHE_DIR"])
    print("finished" if run(folder, records, sort) else "stopped", flush=True)
