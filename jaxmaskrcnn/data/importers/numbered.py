"""Pictures whose values are numbers of objects.

Shape legend: H, W height and width of the picture in pixels.
"""

from typing import Any

import numpy as np

from jaxmaskrcnn.data.rle import uncompressed_to_counts


def encode_values(values: np.ndarray) -> dict[int, dict[str, Any]]:
    """Compressed RLE of the pixels of each value but 0, as `encode` gives it, in one pass over the picture.

    Args:
        values: Whole numbers [H, W].

    Returns:
        The RLE by value, in ascending order.

    Example:
        >>> list(encode_values(np.array([[0, 7], [2, 2]])))
        [2, 7]
    """
    height, width = values.shape
    flat = values.T.reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])[: len(flat)])
    ends = np.append(starts[1:], len(flat))
    found = flat[starts]
    order = np.argsort(found, kind="stable")
    kinds, firsts = np.unique(found[order], return_index=True)
    rles = {}
    for kind, runs in zip(kinds.tolist(), np.split(order, firsts[1:]), strict=True):
        if kind != 0:
            edges = np.stack([starts[runs], ends[runs]], 1).reshape(-1)
            counts = np.diff(edges, prepend=0, append=len(flat)).tolist()
            encoded = uncompressed_to_counts(counts, height, width) or b""
            rles[kind] = {"size": [height, width], "counts": encoded.decode("ascii")}
    return rles
