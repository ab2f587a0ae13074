"""Several prepared data sets as one, for training.

Shape legend: N images of all of them.
"""

from collections.abc import Sequence

import numpy as np

from jaxmaskrcnn.data.records.source import Example, Source
from jaxmaskrcnn.errors import UserError


class JoinedSource:
    """The images of several sources one after the other; see `Source` for its attributes.

    Ids of images can occur twice, as each json has its own.

    Args:
        sources: Two or more, with the same categories in the same order.
        weights: How often the images of each come in an epoch, on average.

    Attributes:
        weights: float64 [N], the weight of each image.

    Raises:
        UserError: Categories or keypoints differ.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]):
        first = sources[0]
        for other in sources[1:]:
            for name, what in (
                ("categories", "categories"),
                ("skeleton", "keypoints"),
                ("stuff", "stuff"),
                ("extra", "extra ground truth"),
            ):
                if getattr(other, name) != getattr(first, name):
                    raise UserError(
                        f"{other.annotations} has other {what} than {first.annotations}; give both the same, "
                        "with the same ids, as one model learns from them."
                    )
        self._sources = tuple(sources)
        self._starts = np.cumsum([0, *map(len, sources)])
        self.annotations = " and ".join(source.annotations for source in sources)
        self.categories, self.skeleton, self.stuff = first.categories, first.skeleton, first.stuff
        self.extra = first.extra
        self.has_masks = all(source.has_masks for source in sources)
        self.file_names = sum((source.file_names for source in sources), ())
        for name in ("image_ids", "sizes", "object_counts", "crowd_counts"):
            setattr(self, name, np.concatenate([getattr(source, name) for source in sources]))
        self.counts = {
            name: np.concatenate([source.counts[name] for source in sources]) for name in first.counts
        }
        self.image_labels = self._moved("image_labels")
        self.learned_labels = self._moved("learned_labels")
        self.weights = np.repeat(np.asarray(weights, np.float64), list(map(len, sources)))

    def _moved(self, name: str) -> np.ndarray:
        """Pairs of a position and a label, with positions among all images."""
        moved = [
            getattr(source, name) + np.array([[start, 0]], np.int32)
            for source, start in zip(self._sources, self._starts, strict=False)
        ]
        return np.concatenate(moved)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __repr__(self) -> str:
        return f"JoinedSource({len(self)} images of {self.annotations})"

    def statements(self) -> list[str]:
        """What has to be known before the data are used: sentences without a full stop."""
        return [sentence for source in self._sources for sentence in source.statements()]

    def largest_counts(self) -> dict[str, int]:
        """The largest value of each figure in ``counts``."""
        return {name: int(values.max(initial=0)) for name, values in self.counts.items()}

    def __getitem__(self, index: int) -> Example:
        """Reads one record, as `Source` does; its position is that among all images."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        example = self._sources[number][int(index) - int(self._starts[number])]
        return example._replace(index=int(index))
