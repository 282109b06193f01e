"""A small table trained once for all tests, and what figures need of its runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from lab import Lab, assert_clear, made_once, write_registry

from experiments.imports import import_mmengine
from ssa.classifiers.base import CLASSIFIERS
from ssa.datasets.base import DATASETS

import_mmengine()  # as runs do: every worker would import two large packages more

# A machine may be slow or shared: how long an example takes says nothing about the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the workers share the processors


@pytest.fixture(scope="module", autouse=True)
def registries_as_before() -> Iterator[None]:
    """What a module of tests registers is gone after it, so that no other meets it."""
    registries = (CLASSIFIERS, DATASETS)
    before = [set(registry) for registry in registries]
    yield
    for registry, names in zip(registries, before):
        for name in set(registry) - names:
            del registry._things[name]


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Fails where a file has been added meanwhile."""
    before = set(folder.rglob("*"))
    yield
    added = set(folder.rglob("*")) - before
    assert not added, f"a test has written to what all share: {sorted(map(str, added))[:3]}"


@pytest.fixture(scope="session")
def registry_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        write_registry(folder)

    return made_once(tmp_path_factory, "registry", make)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, registry_folder: Path) -> Iterator[Lab]:
    """The table ``pair`` in the smoke profile, as the command line made it. Do not write to it."""

    def make(folder: Path) -> None:
        made = Lab(folder / "results", registry_folder).call("pair")
        assert made.returncode == 0, made.stdout + made.stderr

    lab = Lab(made_once(tmp_path_factory, "trained", make) / "results", registry_folder)
    with unchanged(lab.results):
        yield lab


@pytest.fixture(scope="session")
def extracted(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The same with an inspection beside each record. Do not write to it."""

    def make(folder: Path) -> None:
        said = trained.copy(folder / "results").call("extract", "pair")
        assert_clear(said, 0, "extracted")

    lab = Lab(made_once(tmp_path_factory, "extracted", make) / "results", trained.registry)
    with unchanged(lab.results):
        yield lab
