"""Damaged and generated inputs at every door: each is read, or refused in a sentence.

Each door gets the same inputs at every run. ``-m slow`` gives many more; ``python tests/fuzz`` any number.
"""

import os

import pytest
from fuzz.attempts import FAULTS
from fuzz.campaign import Tally, run_campaign
from fuzz.doors import DOORS
from fuzz.generated import GENERATED

FEW = 1  # inputs of a door in the default suite
MANY = int(os.environ.get("FUZZ_INPUTS", 500))


def jobs(count, fewest, seed):
    """The jobs of all doors, damaged files and generated ones."""
    for name, door in DOORS.items():
        if door.missing:
            continue
        number = max(door.number(count), fewest)
        yield [name, "damaged", seed, 0, number]
        if name in GENERATED:
            yield [name, "generated", seed, 0, number]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """What became of a few inputs of every door."""
    tally = Tally()
    run_campaign(jobs(FEW, FEW, 0), tmp_path_factory.mktemp("fuzz"), tally)
    return tally


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_a_few_inputs(door, few):
    if package := DOORS[door].missing:
        pytest.skip(f"{package} is not installed, which this door needs")
    faults = [str(fault) for fault in few.faults if fault.door == door]
    assert not faults, "\n\n".join(faults)
    assert few.counts[door].total() >= FEW and not few.counts[door].keys() & set(FAULTS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 3))
def test_many_inputs(seed, tmp_path):
    tally = Tally()
    run_campaign(jobs(MANY, 1, seed), tmp_path, tally)
    assert not tally.faults, "\n\n".join(map(str, tally.faults))
