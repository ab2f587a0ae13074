"""What an import does not bring along."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "statement", ["from jaxmaskrcnn import MaskRCNN", "import jaxmaskrcnn.models.mask_rcnn"]
)
def test_the_model_needs_neither_pictures_nor_annotations(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "jaxmaskrcnn.models.mask_rcnn" in loaded
    others = ("PIL", "pycocotools", "cv2", "jaxmaskrcnn.data")
    assert [name for name in loaded if name.startswith(others)] == []
