"""RoIAlign over one feature map or a pyramid (Mask R-CNN, section 3).

`reference.py` is the definition, to be read first. `api.py` has the public functions and chooses among the
fast versions: `gather.py` takes pixels tap by tap or all at once, `tiles_cpu.py` and `tiles_batched.py`
multiply tiles of pixels with matrices. `levels.py` assigns boxes to pyramid levels, `axis.py` gives the
pixels of a bin on one axis, and `regions.py` lists regions of several maps and images.
"""

from jaxmaskrcnn.ops.roi_align.api import multilevel_roi_align, roi_align
from jaxmaskrcnn.ops.roi_align.levels import assign_levels

__all__ = ["assign_levels", "multilevel_roi_align", "roi_align"]
