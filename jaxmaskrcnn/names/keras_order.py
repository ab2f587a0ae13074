"""The order of layers in files of matterport's Mask R-CNN, by which Keras can load them without names."""

import re

_BLOCK = re.compile(r"(res|bn)(\d)([a-z])_branch(2a|2b|2c|1)")
# The shortcut's layers come between those of the block's last convolution.
_IN_BLOCK = tuple("res2a bn2a res2b bn2b res2c res1 bn2c bn1".split())
_LAYERS = (
    "conv1", "bn_conv1", "blocks", "fpn_c5p5", "fpn_c4p4", "fpn_c3p3", "fpn_c2p2", "fpn_p5", "fpn_p2",
    "fpn_p3", "fpn_p4", "rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred", "mrcnn_class_conv1",
    "mrcnn_class_bn1", "mrcnn_class_conv2", "mrcnn_class_bn2", "mrcnn_class_logits", "mrcnn_bbox_fc",
    *(f"mrcnn_mask_{kind}{i}" for i in range(1, 5) for kind in ("conv", "bn")), "mrcnn_mask_deconv",
    "mrcnn_mask",
)  # fmt: skip
_KINDS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def place_in_file(name: str) -> tuple:
    """Return a key to sort arrays by.

    Args:
        name: Layer and kind, such as "conv1/kernel".

    Example:
        >>> sorted(["mrcnn_mask/bias", "bn_conv1/beta", "conv1/bias", "conv1/kernel"], key=place_in_file)
        ['conv1/kernel', 'conv1/bias', 'bn_conv1/beta', 'mrcnn_mask/bias']
    """
    layer, _, kind = name.partition("/")
    within: tuple = ()
    if match := _BLOCK.fullmatch(layer):
        kind_of_layer, stage, block, branch = match.groups()
        layer, within = "blocks", (stage, block, _IN_BLOCK.index(f"{kind_of_layer}{branch}"))
    known = _LAYERS.index(layer) if layer in _LAYERS else len(_LAYERS)
    return known, within, layer, _KINDS.index(kind) if kind in _KINDS else len(_KINDS), kind
