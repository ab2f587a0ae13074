"""Instance masks: packing into bits, targets of the mask head, and pasting of predictions into the image."""

from jaxmaskrcnn.ops.masks.packing import pack_masks, unpack_masks
from jaxmaskrcnn.ops.masks.paste import paste_mask_window, paste_mask_windows, paste_masks
from jaxmaskrcnn.ops.masks.runs import MaskRuns, RunWindows, mask_runs
from jaxmaskrcnn.ops.masks.targets import mask_targets

__all__ = [
    "MaskRuns",
    "RunWindows",
    "mask_runs",
    "mask_targets",
    "pack_masks",
    "paste_mask_window",
    "paste_mask_windows",
    "paste_masks",
    "unpack_masks",
]
