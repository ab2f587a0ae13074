"""The arrays of a model directory: written by Orbax, with a checksum for each that is kept elsewhere."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxmaskrcnn.errors import UserError
from jaxmaskrcnn.utils.checksums import array_checksum

log = logging.getLogger(__name__)


def write_arrays(folder: Path, arrays: dict[str, jax.Array]) -> dict[str, str]:
    """Write arrays to a new folder; in a run of several processes all of them must call it.

    Args:
        folder: An absolute path that does not exist.
        arrays: The arrays by path in the model.

    Returns:
        The checksum of each array as it is in memory.
    """
    ocp.save(folder, {name: _writable(x) for name, x in arrays.items()})
    return {name: array_checksum(x) for name, x in arrays.items()}


def _writable(x: jax.Array) -> jax.Array | np.ndarray:
    # With several processes, Orbax refuses a jax.Array that only one process can address. All processes
    # hold the same values, and Orbax lets the first one write NumPy arrays.
    return x if jax.process_count() > 1 and not x.is_fully_addressable else np.asarray(x)


def read_arrays(
    folder: Path, listed: dict[str, jax.ShapeDtypeStruct], checksums: dict[str, Any]
) -> dict[str, jax.Array]:
    """Read arrays onto the first device.

    Args:
        folder: Absolute path of the folder.
        listed: Shape and dtype of each array.
        checksums: The checksum of each array; an array without one, from before there were any, is not
            checked.

    Returns:
        The arrays, by the names in ``listed``.

    Raises:
        UserError: The folder cannot be read, or an array has another checksum.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    targets = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device) for name, x in listed.items()}
    try:
        arrays = ocp.load(folder, targets)
    # Orbax and its storage library raise many types of exceptions for damaged files.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{folder} is damaged and cannot be read ({reason}); save the model again.") from None
    if problem := changed_arrays(arrays, checksums):
        raise UserError(
            f"{folder} is damaged: {problem}; take a copy that is intact, or save the model again."
        )
    return arrays


def changed_arrays(arrays: dict[str, Any], checksums: dict[str, Any]) -> str | None:
    """Compare arrays with their checksums.

    Args:
        arrays: The arrays by name.
        checksums: The checksums by name; names without one are not checked.

    Returns:
        A clause that names the first array that differs, or None.
    """
    other = [name for name in arrays if name in checksums and array_checksum(arrays[name]) != checksums[name]]
    if not other:
        return None
    more = f" and {len(other) - 1} more differ" if len(other) > 1 else " differs"
    return f"its array {other[0]}{more} from what was saved, by the checksum"


def warn_of_nonfinite(arrays: dict[str, Any], source: object) -> None:
    """Log a warning if arrays hold NaN or infinite values, with which a model detects nothing.

    Args:
        arrays: The arrays by name.
        source: Where they come from, for the message.
    """
    # A sum shows both and is ten times as fast as a look at every value, but can overflow without them.
    # On the host, because JAX would compile a sum for each shape.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = {name: np.sum(np.asarray(x), dtype=np.float32) for name, x in arrays.items()}
    suspicious = [name for name, total in sums.items() if not np.isfinite(total)]
    names = [name for name in suspicious if not np.isfinite(np.asarray(arrays[name], np.float64)).all()]
    if names:
        more = f" and {len(names) - 1} more arrays" if len(names) > 1 else ""
        log.warning(
            "%s has NaN or infinite values in %s%s; its detections will be missing or wrong. Train it "
            "again from a model without them.", source, names[0], more,
        )  # fmt: skip
