"""Devices by name, as predictors take them."""

import jax

from jaxmaskrcnn.errors import UserError


def device_name(device: jax.Device | str) -> str:
    """A name of a device that another process can look up.

    Args:
        device: A device, or a name such as "cpu" or "gpu:1".

    Returns:
        The name that was given, or the platform and the number of the device.

    Raises:
        UserError: There is no such device.
    """
    if not isinstance(device, str):
        return f"{device.platform}:{device.local_hardware_id or 0}"
    find_device(device)
    return device


def find_device(name: str) -> jax.Device:
    """Finds a device of this process.

    Args:
        name: A platform, such as "cpu", "gpu" or "tpu", and after a colon the number of the device, from 0.

    Raises:
        UserError: There is no such device.

    Example:
        >>> find_device("cpu").platform
        'cpu'
    """
    platform, _, number = name.partition(":")
    try:
        devices = jax.local_devices(backend=platform)
    except RuntimeError:
        raise UserError(
            f"device is {name!r}, and JAX has no devices of that platform here; give one of "
            f"{', '.join(sorted({d.platform for d in jax.local_devices()} | {'cpu'}))}."
        ) from None
    if not (number or "0").isdecimal() or int(number or 0) >= len(devices):
        raise UserError(
            f"device is {name!r}, and JAX has {len(devices)} of that platform here; give {platform}:0 to "
            f"{platform}:{len(devices) - 1}."
        )
    return devices[int(number or 0)]
