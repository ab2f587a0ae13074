"""Positions and labels of the ticks of an axis."""

import math


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that divide an axis.

    Args:
        low: Start of the axis.
        high: End of the axis, greater than ``low``.
        count: About how many ticks there should be, at least 2.

    Returns:
        Multiples of 1, 2 or 5 times a power of ten, from ``low`` to ``high``.

    Example:
        >>> ticks(0, 1, 5)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Rounded, because 0.1 * 3 would be written 0.30000000000000004.
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(i * step, digits) + 0.0 for i in range(first, last + 1)]


def label(value: float) -> str:
    """A tick's text: short, with k and M for large numbers.

    Example:
        >>> label(0.2), label(1500.0), label(90000.0), label(0.00002)
        ('0.2', '1.5k', '90k', '2e-5')
    """
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e3:
        return f"{value / 1e3:g}k"
    if value and abs(value) < 1e-3:
        digits, exponent = f"{value:.6e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:g}"
