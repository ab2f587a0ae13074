"""Disks that are really full or read-only: small file systems in memory, which only root can mount."""

import subprocess
import sys

import pytest
from quick_training import recorded, train

from jaxmaskrcnn.cli.main import main as command

# Of Orbax, where it gives up.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quick_compilation"),
    pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


def mounted(*words) -> bool:
    return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A small file system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or not mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs", folder):
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def change(disk, options):
    assert mounted("-o", f"remount,{options}", disk)


def hidden(folder):
    """Names of temporary files and folders."""
    return [p.name for p in folder.rglob("*") if p.name.startswith(".") and p.suffix not in (".lock", ".json")
            or "tmp" in p.name or ".building" in p.name]  # fmt: skip


@pytest.mark.parametrize("kilobytes", [0, 60, 300, 700, 1100, 1500, 1900])
def test_a_training_goes_on_once_a_full_disk_has_room(kilobytes, disk, tmp_path, capfd):
    recipe, filler = tmp_path / "tiny.py", disk / "filler"
    free = 64 * 1024 - kilobytes
    with open(filler, "wb") as file:
        for _ in range(free // 4):
            file.write(bytes(4096))
    code = train(recipe, disk / "run")
    said = capfd.readouterr().err
    assert code in (0, 2) and "Traceback" not in said
    if code == 2:
        last = [line for line in said.splitlines() if line.startswith("jaxmaskrcnn train: ")]
        assert len(last) == 1 and str(disk / "run") in last[0] and "No space left on device" in last[0]
    assert not hidden(disk)
    filler.unlink()
    assert train(recipe, disk / "run") == 0
    assert recorded(disk / "run") == ([1, 2], [2])


def test_a_read_only_disk(disk, tmp_path, capfd):
    recipe = tmp_path / "tiny.py"
    assert train(recipe, disk / "run", "--config.train.steps=1") == 0
    before = {p: p.read_bytes() for p in disk.rglob("*") if p.is_file()}
    change(disk, "ro")
    calls = {
        "train": lambda: train(recipe, disk / "run"),
        "train ": lambda: train(recipe, disk / "other"),
        "plot": lambda: command(["plot", str(disk / "run")]),
    }
    for name, call in calls.items():
        capfd.readouterr()
        assert call() == 2
        said = capfd.readouterr().err
        assert "Read-only file system" in said and str(disk) in said and "Traceback" not in said, name
    assert {p: p.read_bytes() for p in disk.rglob("*") if p.is_file()} == before
    change(disk, "rw")
    assert train(recipe, disk / "run") == 0 and recorded(disk / "run")[0] == [1, 2]
