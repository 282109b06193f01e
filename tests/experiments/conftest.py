"""Single training processes, and a small disk that can be filled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, Trainer, made_once, mounted

from experiments.store.records import Record


@pytest.fixture(scope="session")
def trainer() -> Iterator[Trainer]:
    server = Trainer()
    yield server
    server.end()


@pytest.fixture(scope="session")
def undisturbed(trained: Lab, trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of the profile ``long``'s softmax run, trained in one go."""

    def make(folder: Path) -> None:
        lab = trained.blank(folder)
        spec = lab.plan("baseline", profile="long")
        assert trainer.train(lab, spec) == 0, lab.store.folder(spec.run_id).log.read_text()

    folder = made_once(tmp_path_factory, "undisturbed", make)
    return Lab(folder, trained.registry).record("softmax")


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own with ``request.param`` bytes."""
    place = tmp_path / "disk"
    try:
        with mounted(place, request.param):
            yield place
    except PermissionError as error:
        pytest.skip(
            f"no small file system can be mounted here (in a container: docker run --privileged): "
            f"{error}"
        )
