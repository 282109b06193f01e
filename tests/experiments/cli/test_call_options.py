"""Seeds, jobs, devices and items as a user may give them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from experiments.cli.app import app, expand
from experiments.cli.options import choose_device, choose_jobs
from experiments.declare.figure import Figure
from experiments.declare.load import load_registry
from experiments.errors import NotYetError, UnknownNameError
from experiments.launch.local import LocalOptions
from experiments.machine import cpu_count, may_have_gpu
from experiments.plan.request import Request, parse_seeds
from experiments.store.workspace import Workspace

REGISTRY = load_registry()
QUICK = REGISTRY.profile("quick")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        (None, tuple(range(QUICK.seeds))),
        ("1", (0,)),
        ("3", (0, 1, 2)),
        ("0,2,7", (0, 2, 7)),
        ("5,", (5,)),
        ("7,2,7", (7, 2)),
    ],
)
def test_seeds(text: str | None, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text, QUICK) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "", "a", "1.5", "1,,2", ",1", "1-3", "0, 1", "1,a"])
def test_what_is_no_list_of_seeds_is_quoted_back(text: str) -> None:
    with pytest.raises(ValueError, match=r"--seeds takes a number .* not ''?"):
        parse_seeds(text, QUICK)


@given(st.lists(st.integers(0, 10**6), min_size=2))
def test_a_list_of_seeds_is_taken_as_it_stands(seeds: list[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds)), QUICK) == tuple(dict.fromkeys(seeds))


def test_jobs() -> None:
    assert choose_jobs(5, "cpu") == 5
    assert choose_jobs(None, "cpu") == min(cpu_count(), 8)


@pytest.mark.parametrize("jobs", [1, 2, 64])
def test_threads_are_divided_by_the_jobs(jobs: int) -> None:
    threads = LocalOptions(jobs=jobs).threads
    assert threads >= 1
    assert threads == 1 or threads * jobs <= cpu_count()


@pytest.mark.parametrize(
    ("files", "possible"),
    [
        (["null", "nvme0", "tty"], False),
        (["nvidiactl", "nvidia0"], True),
        (["dxg"], True),
        (["kfd", "dri"], True),
    ],
)
def test_torch_is_asked_for_a_gpu_only_where_there_may_be_one(
    tmp_path: Path, files: list[str], possible: bool
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert may_have_gpu(tmp_path) == possible or not sys.platform.startswith("linux")
    assert may_have_gpu(tmp_path / "unreadable"), "who cannot look asks torch"
    assert may_have_gpu() or not torch.cuda.is_available()


def test_devices() -> None:
    there = torch.cuda.is_available()
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if there else "cpu")
    if there:
        assert choose_device("cuda") == "cuda"
    else:
        with pytest.raises(ValueError, match="no CUDA device; try --device cpu"):
            choose_device("cuda")


@pytest.fixture
def call(tmp_path: Path) -> Request:
    return Request(REGISTRY, QUICK, (0,), Workspace(results=tmp_path), 1, "cpu")


def test_items(call: Request) -> None:
    assert [table.name for table in call.tables("table8")] == ["table8"]
    assert [table.name for table in call.tables("all")] == [
        name for name, table in REGISTRY.tables.items() if table.is_for("quick")
    ]
    with pytest.raises(UnknownNameError, match="Did you mean 'table8'"):
        call.tables("tabel8")


@pytest.mark.parametrize("item", [i for i in REGISTRY.paper.items if i not in REGISTRY.tables])
def test_an_item_of_the_paper_that_is_not_there_yet_says_what_is(call: Request, item: str) -> None:
    with pytest.raises(NotYetError) as caught:
        call.tables(item)
    assert f"{item} is a {item.rstrip('0123456789')} of the paper" in str(caught.value)
    assert "table8" in str(caught.value)


def test_results_are_not_compared_with_themselves(tmp_path: Path) -> None:
    reference = Workspace(results=tmp_path, reference=tmp_path)
    assert Request(REGISTRY, QUICK, (0,), reference, 1, "cpu").reference is None


@pytest.mark.parametrize(
    ("given_", "expanded"),
    [
        (["table8"], ["run", "table8"]),
        (["all", "--jobs", "2"], ["run", "all", "--jobs", "2"]),
        (["plan", "table8"], ["plan", "table8"]),
        (["list"], ["list"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_an_item_alone_means_run(given_: list[str], expanded: list[str]) -> None:
    assert expand(given_) == expanded


@pytest.mark.parametrize(
    ("words", "trained", "drawn", "code"),
    [
        (["all"], 0, 0, 0),
        (["all"], 0, 3, 3),
        (["all"], 3, 0, 3),
        (["all"], 3, 1, 1),
        (["all"], 1, 3, 1),
        (["all", "--dry-run"], 0, None, 0),
        (["all", "--rows", "full"], 3, None, 3),
        (["table8"], 0, None, 0),
    ],
)
def test_all_draws_the_figures_and_the_worse_code_is_kept(
    words: list[str],
    trained: int,
    drawn: int | None,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def draw(_call: Request, figures: list[Figure], *_: Any, **how: Any) -> int:
        assert how == {"only_new": True}
        asked.extend(figure.name for figure in figures)
        assert drawn is not None, "figures are not part of this call"
        return drawn

    monkeypatch.setattr("experiments.draw.draw.draw_stored", draw)
    monkeypatch.setattr("experiments.cli.verbs.run", lambda *_, **__: trained)
    monkeypatch.setattr("experiments.cli.verbs.show_plan", lambda *_, **__: trained)
    said = CliRunner().invoke(app, ["run", *words, "--results", str(tmp_path)])
    assert said.exit_code == code, said.output
    assert asked == ([] if drawn is None else list(REGISTRY.figures))


@pytest.mark.parametrize("joined", [False, True])
def test_a_users_table_is_an_item_too(registry_folder: Path, joined: bool) -> None:
    name = str(registry_folder)
    words = [f"--registry={name}"] if joined else ["--registry", name]
    assert expand(["pair", *words]) == ["run", "pair", *words]


def test_what_is_neither_proposes_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'doctor'"):
        expand(["docter"])
