"""Signals that end a run: what is saved, and what goes on afterwards."""

import contextlib
import functools
import json
import os
import signal

import pytest
from detectors import random_model
from small_runs import CountingStep, GivenScores, run_tiny, tiny_config

from jaxmaskrcnn.evaluation.evaluate import Stopped
from jaxmaskrcnn.training import setup

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(autouse=True)
def handled_signals():
    """The handlers of a program in a terminal: a test that runs in the background ignores SIGINT."""
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def make_config(tmp_path_factory):
    return functools.partial(tiny_config, tmp_path_factory.mktemp("cache"), train__pictures=0)


def signalled(*signals):
    """Sends signals to this process before every step."""

    step = CountingStep()

    def run(*arguments):
        for number in signals:
            os.kill(os.getpid(), number)
        return step(*arguments)

    return lambda _: run


def saved_steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.mark.parametrize(
    "name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGINT", "SIGHUP"))]
)
def test_a_signal_saves_and_ends_the_run(make_config, tmp_path, caplog, name):
    number = getattr(signal, name)
    handler = signal.getsignal(number)
    ends = pytest.raises(KeyboardInterrupt) if name == "SIGINT" else contextlib.nullcontext()
    with caplog.at_level("INFO", "jaxmaskrcnn"), ends:
        assert run_tiny(make_config(), tmp_path, evaluator=GivenScores(), around_step=signalled(number)) == {}
    assert signal.getsignal(number) is handler
    assert saved_steps(tmp_path) == [1]
    assert f"Stopped by {name} after step 1; the same command continues." in caplog.text


def test_the_second_ctrl_c_ends_the_run_at_once(make_config, tmp_path, capfd):
    with pytest.raises(KeyboardInterrupt):
        run_tiny(
            make_config(),
            tmp_path,
            evaluator=GivenScores(),
            around_step=signalled(signal.SIGINT, signal.SIGINT),
        )
    assert saved_steps(tmp_path) == []
    assert "Press Ctrl-C again to stop at once" in capfd.readouterr().err


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored(make_config, tmp_path):
    """As SIGHUP under nohup, and SIGINT in the background jobs of a shell script."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_tiny(
            make_config(), tmp_path, evaluator=GivenScores(), around_step=signalled(signal.SIGHUP)
        )
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert saved_steps(tmp_path)[-1] == 6


def evaluated(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "eval/mask_AP" in line]


class BrokenOff(GivenScores):
    """Gets a signal within the first evaluation."""

    def run(self, *states, stop):
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        raise Stopped


@pytest.mark.slow
def test_an_evaluation_is_broken_off_and_made_up_for(make_config, tmp_path):
    # Evaluated after step 3, where no checkpoint is due: the state is saved all the same.
    config = make_config(train__eval_every=3, train__checkpoint_every=100)
    assert run_tiny(config, tmp_path, evaluator=BrokenOff(), around_step=signalled()) == {}
    assert saved_steps(tmp_path) == [3]
    assert not evaluated(tmp_path)
    run_tiny(config, tmp_path, evaluator=GivenScores([0.25, 0.5]), around_step=signalled())
    assert evaluated(tmp_path) == [3, 6]


@pytest.mark.slow
def test_the_evaluator_asks_between_two_batches_whether_to_stop(make_config, tmp_path):
    config = make_config()
    source, _ = setup.prepare_sources(config, tmp_path)
    model = random_model(setup.to_model_config(config.model, source.categories))
    made = setup.make_setup(config, tmp_path, model=model)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(Stopped):
        made.evaluator.run(made.state["params"], made.state["rest"], stop=stop)
    assert len(asked) == 2
