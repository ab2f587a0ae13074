"""Instance masks: packing into bits, the head's last layer and its targets, and pasting into the image."""

from jaxmaskrcnn.ops.masks.own_class import own_class_maps, select_channel
from jaxmaskrcnn.ops.masks.packing import pack_masks, unpack_masks
from jaxmaskrcnn.ops.masks.paste import paste_mask_window, paste_mask_windows, paste_masks
from jaxmaskrcnn.ops.masks.runs import MaskRuns, RunWindows, mask_runs
from jaxmaskrcnn.ops.masks.targets import mask_targets

__all__ = [
    "MaskRuns",
    "RunWindows",
    "mask_runs",
    "mask_targets",
    "own_class_maps",
    "pack_masks",
    "paste_mask_window",
    "paste_mask_windows",
    "paste_masks",
    "select_channel",
    "unpack_masks",
]
