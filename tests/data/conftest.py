"""What the tests of batches share."""

import pytest

from jaxmaskrcnn.data import train_iterator


@pytest.fixture
def batches():
    """Makes training iterators and closes them."""
    made = []

    def make(*args, **kwargs):
        made.append(train_iterator(*args, **({"seed": 0} | kwargs)))
        return made[-1]

    yield make
    for iterator in made:
        iterator.close()
