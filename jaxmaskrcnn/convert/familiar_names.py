"""Names of older files, translated to those of the libraries that are read."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxmaskrcnn.names import benchmark, caffe2
from jaxmaskrcnn.names.prefixes import without_compilers_marks


class Familiar(NamedTuple):
    """Arrays by names that the libraries know.

    Attributes:
        arrays: The arrays.
        older: The older library whose names they had, or "".
    """

    arrays: dict[str, np.ndarray]
    older: str


def familiar_names(arrays: Mapping[str, np.ndarray]) -> Familiar:
    """Translate the names of a file if they are an older library's.

    Args:
        arrays: Arrays by their names in the file.

    Returns:
        The arrays, in the libraries' order of axes and classes, and the library they come from. Others are
        unchanged, but for the marks of torch.compile.

    Example:
        >>> familiar_names({"conv1_w": np.zeros((64, 3, 7, 7))}).older
        'Detectron'
    """
    if caffe2.is_caffe2(arrays):
        return Familiar(caffe2.rename(arrays), "Detectron")
    plain = without_compilers_marks(arrays)
    if benchmark.is_benchmark(plain):
        return Familiar(benchmark.rename(plain), "maskrcnn-benchmark")
    return Familiar(plain, "")
