"""Where the libraries publish their weights, and what the names of the files say about their content.

An address that begins with the ``prefix`` of a host follows its convention, whether it is a row's of the
registry or was copied from a config file. None of the hosts publishes a list of hashes; the start of one is
in the names.
"""

import re
from typing import NamedTuple


class Checksum(NamedTuple):
    """The start of a file's hash.

    Attributes:
        algorithm: By hashlib's name, "sha256" or "md5".
        start: Its first hexadecimal digits, in lower case; all of them if the whole is known.
    """

    algorithm: str
    start: str

    @property
    def title(self) -> str:
        """The algorithm's usual spelling."""
        return {"sha256": "SHA-256", "md5": "MD5"}[self.algorithm]


class Host(NamedTuple):
    """A place where weights are published.

    Attributes:
        prefix: How its addresses begin.
        algorithm: The hash whose start is in the names of its files; empty if there is none in them.
        pattern: Finds that start, as its first group.
        source: Where the library says so.
    """

    prefix: str
    algorithm: str
    pattern: str
    source: str


# torch.hub checks the part between the hyphen and the suffix, and torchvision asks it to.
TORCHVISION = Host(
    "https://download.pytorch.org/models/",
    "sha256",
    r"-([0-9a-f]{8})\.pth$",
    "torchvision/models/_api.py, WeightsEnum.get_state_dict(check_hash=True)",
)
# The weights of whole detectors have it; those of ImageNet backbones have plain names.
DETECTRON2 = Host(
    "https://dl.fbaipublicfiles.com/detectron2/",
    "md5",
    r"_([0-9a-f]{6}|[0-9a-f]{32})\.pkl$",
    "MODEL_ZOO.md: the file name contains the md5 prefix",
)
DETECTRON1 = Host("https://dl.fbaipublicfiles.com/detectron/", "", "", "detectron2/checkpoint/catalog.py")
MMDET = Host(
    "https://download.openmmlab.com/",
    "sha256",
    r"-([0-9a-f]{8})\.pth$",
    "tools/model_converters/publish_model.py",
)
# The files of its releases have plain names.
MATTERPORT = Host("https://github.com/matterport/Mask_RCNN/releases/download/", "", "", "mrcnn/utils.py")
SWIN = Host(
    "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/",
    "",
    "",
    "configs/swin of MMDetection",
)
HOSTS = (TORCHVISION, DETECTRON2, DETECTRON1, MMDET, MATTERPORT, SWIN)


def host_of(address: str) -> Host | None:
    """The host of an address, or None if it is not one of the libraries'.

    Args:
        address: An address with its scheme.

    Example:
        >>> host_of("https://download.pytorch.org/models/resnet50-0676ba61.pth") == TORCHVISION
        True
    """
    return next((host for host in HOSTS if address.startswith(host.prefix)), None)


def published_checksum(address: str) -> Checksum | None:
    """The start of a file's hash that its library puts into its name.

    Args:
        address: The published address of the file.

    Returns:
        The hash, or None if the name has none or the address is not one of the libraries'.

    Example:
        >>> published_checksum("https://download.pytorch.org/models/resnet50-0676ba61.pth")
        Checksum(algorithm='sha256', start='0676ba61')
    """
    host = host_of(address)
    found = re.search(host.pattern, address) if host and host.algorithm else None
    return Checksum(host.algorithm, found[1]) if host and found else None
