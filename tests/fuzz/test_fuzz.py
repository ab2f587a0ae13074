"""Damaged and generated inputs at every door: each is read, or refused in a sentence.

Each door gets the same inputs at every run. ``-m slow`` gives many more; ``python tests/fuzz`` any number.
"""

import os

import pytest
from fuzz.attempts import FAULTS
from fuzz.campaign import Tally, run_campaign
from fuzz.doors import DOORS
from fuzz.generated import GENERATED

FEW, FEWER = 8, 2  # inputs of a door in the default suite; fewer where an input takes a second
MANY = int(os.environ.get("FUZZ_INPUTS", 500))


def jobs(count, fewer, seed):
    """The jobs of all doors, damaged files and generated ones."""
    for door in DOORS:
        number = fewer if door == "model directory" else count
        yield [door, "damaged", seed, 0, number]
        if door in GENERATED:
            yield [door, "generated", seed, 0, number]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """What became of a few inputs of every door."""
    tally = Tally()
    run_campaign(jobs(FEW, FEWER, 0), tmp_path_factory.mktemp("fuzz"), tally)
    return tally


@pytest.mark.parametrize("door", DOORS)
def test_a_few_inputs(door, few):
    faults = [str(fault) for fault in few.faults if fault.door == door]
    assert not faults, "\n\n".join(faults)
    assert few.counts[door].total() >= FEWER and not few.counts[door].keys() & set(FAULTS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 3))
def test_many_inputs(seed, tmp_path):
    tally = Tally()
    run_campaign(jobs(MANY, max(MANY // 20, 1), seed), tmp_path, tally)
    assert not tally.faults, "\n\n".join(map(str, tally.faults))
