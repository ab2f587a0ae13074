"""Convolutions with bias, shortcut and ReLU in one operation.

`api.py` has the operation and the table of implementations, which are in `xla.py`, `products.py`,
`in_groups.py` and `winograd.py`; `epilogue.py` adds bias and shortcut and applies the ReLU. `dilated.py` has
dilated convolutions.
"""

from jaxmaskrcnn.ops.convolution.api import convolution, winograd_is_faster
from jaxmaskrcnn.ops.convolution.dilated import dilated_convolution
from jaxmaskrcnn.ops.convolution.epilogue import finish
from jaxmaskrcnn.ops.convolution.products import product

__all__ = ["convolution", "dilated_convolution", "finish", "product", "winograd_is_faster"]
