"""Copy-paste: objects of one image put over another (Ghiasi et al. 2021, Simple Copy-Paste).

The rules are those of torchvision's reference ``SimpleCopyPaste`` without blending, which the paper
found to make no difference.

Shape legend: h, w the image; G objects.
"""

import numpy as np

from jaxmaskrcnn.data.augment import Piece, tighten
from jaxmaskrcnn.data.scene import Scene


def choose_pasted(crowd: np.ndarray, seed: int) -> np.ndarray:
    """Which objects are pasted: as many draws with replacement as there are objects, each taken once.

    Args:
        crowd: bool [G]; crowd regions are never pasted.
        seed: Of the draws.

    Returns:
        int [chosen], ascending; empty where there is nothing to paste.
    """
    candidates = np.flatnonzero(~crowd)
    if not len(candidates):
        return candidates
    draws = np.random.default_rng(seed).integers(len(candidates), size=len(candidates))
    return candidates[np.unique(draws)]


def paste(scene: Scene, other: Scene, chosen: np.ndarray) -> Scene:
    """Puts objects of another scene over this one.

    What they cover is taken out of the masks below; an object of which nothing remains is dropped,
    and one that loses pixels gets the tight box of what remains. Pasted objects come last and may
    overlap each other, as in torchvision.

    Args:
        scene: Of any size, with masks.
        other: Not larger than ``scene``, with masks; both begin in the same corner.
        chosen: int [chosen], the objects of ``other`` to paste.

    Returns:
        The new scene; the given ones are not changed.
    """
    if not len(chosen):
        return scene
    height, width = other.image.shape[:2]
    cover = np.zeros(scene.image.shape[:2], bool)
    for g in chosen:
        cover[_place(other.pieces[g])] |= other.pieces[g].pixels
    image = scene.image.copy()
    np.copyto(image[:height, :width], other.image, where=cover[:height, :width, None])
    boxes, pieces, kept = scene.boxes.copy(), [], []
    for g, piece in enumerate(scene.pieces):
        covered = cover[_place(piece)] & piece.pixels
        if covered.any():
            piece = tighten(piece.top, piece.left, piece.pixels & ~covered)
            if piece is None:
                continue
            boxes[g] = piece.box
        pieces.append(piece)
        kept.append(g)
    return Scene(
        image=image,
        boxes=np.concatenate([boxes[kept], other.boxes[chosen]]),
        labels=np.concatenate([scene.labels[kept], other.labels[chosen]]),
        crowd=np.concatenate([scene.crowd[kept], other.crowd[chosen]]),
        pieces=(*pieces, *(other.pieces[g] for g in chosen)),
    )


def _place(piece: Piece) -> tuple[slice, slice]:
    left, top, right, bottom = piece.box
    return slice(top, bottom), slice(left, right)
