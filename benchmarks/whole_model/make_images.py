"""Images of many shapes out of a few photographs, for comparing whole models.

    python benchmarks/whole_model/make_images.py PHOTOGRAPHS DIRECTORY

PHOTOGRAPHS is a folder of pictures; the first eight by name are used. PNG, so that every library
decodes the same pixels, but for the one whose orientation is in its EXIF data.
"""

import argparse
from pathlib import Path

from PIL import Image

# Height and width. Where the short side is 97 or 161, torchvision makes 799 of 800; 1080 x 1920 is limited
# by the long side and padded to an odd multiple of 32; the photograph of 3000 x 4000 is shrunk a lot; for
# the last strip torchvision infers other RoI scales than 1/4 to 1/32.
SHAPES = [
    (480, 640), (640, 427), (1080, 1920), (3000, 4000), (64, 1333), (1333, 64), (97, 161), (833, 833),
    (612, 612), (375, 500), (2, 300), (1024, 683),
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    suffixes = {".jpg", ".jpeg", ".png"}
    paths = [p for p in sorted(arguments.photographs.iterdir()) if p.suffix.lower() in suffixes][:8]
    photographs = [Image.open(path).convert("RGB") for path in paths]
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for i, (height, width) in enumerate(SHAPES):
        picture = _filled(photographs[i % len(photographs)], height, width)
        picture.save(arguments.directory / f"{height}x{width}.png")
    first = photographs[0]
    first.convert("L").save(arguments.directory / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    first.save(arguments.directory / "turned.jpg", exif=exif, quality=95)


def _filled(photograph, height: int, width: int):
    """The photograph enlarged or shrunk to cover the size, and cut at its centre."""
    scale = max(height / photograph.height, width / photograph.width)
    size = (max(width, round(photograph.width * scale)), max(height, round(photograph.height * scale)))
    picture = photograph.resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return picture.crop((left, top, left + width, top + height))


if __name__ == "__main__":
    main()
