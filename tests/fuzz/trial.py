"""An input of a door by its number: the same number gives the same input on every machine."""

import functools
import random
import shutil
import tempfile
from pathlib import Path

from .attempts import Outcome, attempt
from .doors import DOORS
from .mutations import mutated


class Place:
    """A folder in which the inputs of one door are laid out, one after the other.

    Args:
        door: Its name.
        root: An existing folder; nothing outside of it is written.
    """

    def __init__(self, door: str, root: Path):
        self.door, self.name = DOORS[door], door
        self.root = Path(tempfile.mkdtemp(prefix="door-", dir=root))
        self.valid = self.root / "valid"
        self.door.write(self.valid)
        found = [path for pattern in self.door.targets for path in sorted(self.valid.rglob(pattern))]
        self.targets = [path.relative_to(self.valid) for path in found if path.is_file()]
        if not self.targets:
            raise ValueError(f"the door {door} has no files to damage")
        self.data = {path: (self.valid / path).read_bytes() for path in self.targets}

    def untouched(self) -> Outcome:
        """What becomes of the valid files."""
        folder = self._fresh()
        outcome = attempt(lambda: self.door.call(folder, folder / self.targets[0], random.Random(1)))
        return outcome._replace(kind="read") if outcome.kind == self.door.valid else outcome

    def damaged(self, seed: int, index: int) -> Outcome:
        """What becomes of one damaged input."""
        rng = random.Random(f"{self.name}/{seed}/{index}")
        path = rng.choice(self.targets)
        data = mutated(self.data[path], rng, list(self.data.values()))
        return self.given(path, data, rng)

    def given(self, path: Path, data: bytes, rng: random.Random) -> Outcome:
        """What becomes of the valid files with other content in one of them."""
        folder = self._fresh()
        (folder / path).write_bytes(data)
        return attempt(functools.partial(self.door.call, folder, folder / path, rng))

    def remove(self) -> None:
        """Removes all of its files."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _fresh(self) -> Path:
        folder = self.root / "now"
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self.valid, folder / "set"))
