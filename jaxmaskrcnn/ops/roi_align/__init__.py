"""RoIAlign over one feature map or a pyramid (Mask R-CNN, section 3).

`reference.py` is the definition, to be read first. `api.py` has the public functions and chooses among the
fast implementations. A tap is a pixel that a bin reads, with its weight. `gather.py` reads the taps one after
the other or all at once, `tiles_cpu.py`, `tiles_batched.py` and `tiles_tpu.py` multiply tiles of pixels by
matrices of weights, and `gather_or_tiles.py` does one or the other. `levels.py` assigns boxes to pyramid
levels, `axis.py` gives the taps of a bin on one axis, and `regions.py` lists regions of several maps and
images. `corners.py` is another pooling on the same taps, and `windows.py` reads the cells around single cells
with them.
"""

from jaxmaskrcnn.ops.roi_align.api import multilevel_roi_align, roi_align
from jaxmaskrcnn.ops.roi_align.corners import crop_and_resize
from jaxmaskrcnn.ops.roi_align.levels import assign_levels

__all__ = ["assign_levels", "crop_and_resize", "multilevel_roi_align", "roi_align"]
