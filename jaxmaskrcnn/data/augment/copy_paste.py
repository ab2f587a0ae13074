"""Copy-paste: pastes objects of one image onto another (Ghiasi et al. 2021, Simple Copy-Paste).

The rules are those of torchvision's reference ``SimpleCopyPaste`` without blending, which the paper
found to make no difference.

Shape legend: h, w the image; G objects.
"""

import numpy as np

from jaxmaskrcnn.data.augment.scene import Scene


def choose_pasted(crowd: np.ndarray, seed: int) -> np.ndarray:
    """Chooses the objects to paste: as many draws with replacement as there are objects, without duplicates.

    Args:
        crowd: bool [G]; crowd regions are never pasted.
        seed: Seed of the draws.

    Returns:
        int [chosen], ascending; empty where there is nothing to paste.
    """
    candidates = np.flatnonzero(~crowd)
    if not len(candidates):
        return candidates
    draws = np.random.default_rng(seed).integers(len(candidates), size=len(candidates))
    return candidates[np.unique(draws)]


def paste(scene: Scene, other: Scene, chosen: np.ndarray) -> Scene:
    """Pastes objects of another scene onto this one.

    The pixels that they cover are removed from the masks below; an object of which nothing remains is
    dropped, and one that loses pixels gets the tight box of what remains. Pasted objects come last and may
    overlap each other, as in torchvision.

    Args:
        scene: A scene of any size, with masks.
        other: A scene with masks that is not larger than ``scene``; their top left corners coincide.
        chosen: int [chosen], the objects of ``other`` to paste.

    Returns:
        The new scene; the given ones are not changed.
    """
    if not len(chosen):
        return scene
    pasted = other.objects.take(chosen)
    height, width = other.image.shape[:2]
    cover = np.zeros(scene.image.shape[:2], bool)
    for piece in pasted.fields["masks"].pieces:
        cover[piece.place] |= piece.pixels
    image = scene.image.copy()
    np.copyto(image[:height, :width], other.image, where=cover[:height, :width, None])
    return Scene(image, scene.objects.hide(cover).join(pasted))
