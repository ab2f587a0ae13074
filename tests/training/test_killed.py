"""Runs whose process is killed, at moments of every kind."""

import pytest
from killable_run import MOMENTS
from kills import ORDER, Kill, differences, killed_run, plan, start


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody has killed, of each kind."""
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = folder / "whole"
            assert start(made[kind], made[kind] / "cache", kind) == (0, "finished")
        return made[kind]

    return make


def test_the_plan_has_every_moment_and_every_signal():
    kills = [kill for run in plan(8, 4, seed=0) for kill in run]
    assert len(kills) == 32 and {kill.moment for kill in kills} == set(ORDER) == set(MOMENTS)
    counts = {name: sum(kill.signal == name for kill in kills) for name in ("SIGKILL", "SIGTERM", "SIGINT")}
    assert counts["SIGKILL"] >= 20 and counts["SIGTERM"] >= 3 and counts["SIGINT"] >= 3


@pytest.mark.slow
def test_a_killed_run_ends_bit_for_bit_the_same(whole, tmp_path):
    """With a step that needs no compilation; ``python tests/kills.py`` tries more."""
    for i, kills in enumerate(plan(3, 4, seed=1)):
        workdir = tmp_path / str(i)
        ends = killed_run(workdir, workdir / "cache", "quick", kills)
        assert all(came != "finished" for _, came in ends[:-1])  # every signal came in time
        assert not differences(whole("quick"), workdir)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_run_with_the_real_step_ends_bit_for_bit_the_same(whole, seed, tmp_path):
    kills = [
        Kill("a step", 2 + seed, 0.0, "SIGKILL"), Kill("a checkpoint begins", 2, 0.01, "SIGKILL"),
        Kill("a step", 3, 0.2, ("SIGTERM", "SIGINT")[seed]),
        Kill("the last model is written", 1, 0.0, "SIGKILL"),
    ]  # fmt: skip
    killed_run(tmp_path / "killed", tmp_path / "killed" / "cache", "real", kills)
    assert not differences(whole("real"), tmp_path / "killed")
