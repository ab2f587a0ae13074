"""Comparing a stage of a detector with what another library recorded of its own."""

import numpy as np


def check(stage, errors, limit):
    """No error above the limit; ``pytest -s`` shows the largest."""
    worst = float(np.max(errors))
    print(f"{stage}: {worst:.1e} (limit {limit:.0e})")
    assert worst <= limit, stage


def relative(ours, theirs):
    """Errors relative to the largest value."""
    return np.abs(ours - theirs) / np.abs(theirs).max()
