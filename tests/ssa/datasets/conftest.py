"""One small scenes folder for all data tests, and the shared CamVid where it is."""

from pathlib import Path

import pytest

from ssa.datasets import ScenesParameters
from ssa.datasets.scenes import ensure

SMALL = ScenesParameters(seed=3, train=21, val=6, height=60, width=72)


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory):
    return ensure(tmp_path_factory.mktemp("data"), SMALL)


@pytest.fixture(scope="session")
def camvid_root():
    root = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "camvid"
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    return root.resolve()
