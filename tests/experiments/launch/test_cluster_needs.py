"""What is asked of a cluster, and what is said where there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from samples import make_spec

from experiments.cli.options import choose_on_cluster, parse_cluster
from experiments.declare.load import load_registry
from experiments.errors import SsaError
from experiments.launch.needs import (
    MODELS,
    PROFILES,
    STEPS_H,
    Needs,
    hours_of,
    needs_of,
    with_given,
)
from experiments.launch.slurm import cancel
from experiments.launch.slurm_queue import SlurmQueue
from experiments.plan.plan import PastCosts, PlannedRun
from experiments.show.watch import RunWatch
from experiments.store.store import Store

REGISTRY = load_registry()


@pytest.mark.parametrize("name", sorted(REGISTRY.profiles))
def test_every_shipped_profile_declares_its_needs(name: str) -> None:
    assert name in PROFILES
    assert needs_of(REGISTRY.profile(name)).device in ("cpu", "cuda")


def test_needs_are_of_models_there_are_and_no_smaller_than_their_profiles() -> None:
    assert set(MODELS) <= set(REGISTRY.models)
    for model in MODELS:
        needs = needs_of(REGISTRY.profile("paper"), model)
        assert needs.memory_gb >= PROFILES["paper"].memory_gb
        assert needs_of(REGISTRY.profile("smoke"), model) == PROFILES["smoke"], "a small network"


@pytest.mark.parametrize(
    ("expected_s", "hours"), [(None, 8.0), (60.0, 0.5), (3600.0, 4.0), (1e6, 556.0)]
)
def test_hours_come_from_the_past_with_a_margin(expected_s: float | None, hours: float) -> None:
    run = PlannedRun(make_spec(), "missing", "", None, expected_s)
    asked = hours_of(run, Needs(hours=5.0))
    assert asked == hours
    assert asked in STEPS_H or asked > STEPS_H[-1]
    assert expected_s is None or asked * 3600 > 1.5 * expected_s


def test_a_caller_may_say_otherwise() -> None:
    given = {"memory_gb": "1.5", "threads": "4", "partition": "gpu"}
    assert with_given(Needs(), given) == Needs(memory_gb=1.5, threads=4)
    for wrong in ({"hours": "soon"}, {"threads": "1.5"}, {"memory_gb": "0"}, {"hours": "nan"}):
        with pytest.raises(SsaError, match=f"--slurm {next(iter(wrong))}=.* is no"):
            with_given(Needs(), wrong)


def test_options_of_a_cluster() -> None:
    assert parse_cluster(["partition=gpu", "gres=gpu:a100:1"], "slurm") == (
        ("partition", "gpu"),
        ("gres", "gpu:a100:1"),
    )
    for wrong in ("partition", "partition=", "colour=red"):
        with pytest.raises(ValueError, match="--slurm takes partition=…"):
            parse_cluster([wrong], "slurm")
    with pytest.raises(ValueError, match="without --launcher slurm"):
        parse_cluster(["partition=gpu"], "local")
    paper, smoke = REGISTRY.profile("paper"), REGISTRY.profile("smoke")
    assert choose_on_cluster("auto", None, 4, paper) == ("cuda", 16), "whatever torch sees here"
    assert choose_on_cluster("auto", 3, 1, smoke) == ("cpu", 3)
    with pytest.raises(ValueError, match="--gpus 2 was given, but the profile smoke"):
        choose_on_cluster("auto", None, 2, smoke)


def test_without_slurm_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SsaError, match=r"there is no squeue here.* login node"):
        SlurmQueue().jobs()


def write_commands(folder: Path, cluster: str) -> None:
    """Slurm's commands as of a cluster on which the job 7_1 runs; scancel says what it ended."""
    said = {
        "squeue": "echo '7_1|RUNNING|n1|1:00|None'",
        "scontrol": f"echo 'ClusterName = {cluster}'",
        "scancel": f'echo "$@" >>"{folder}/cancelled"',
    }
    for name, line in said.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)


@pytest.mark.parametrize(("cluster", "ours"), [("here", True), ("there", False), ("", True)])
def test_a_job_of_another_cluster_with_the_same_id_is_another_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str, ours: bool
) -> None:
    """Two clusters may see one folder, and a store may be copied from one to the other."""
    write_commands(tmp_path, "here")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    store = Store(tmp_path / "results")
    folder = store.write_spec(make_spec())
    folder.submission.write_text(json.dumps({"job": "7_1", "cluster": cluster}))
    (watched,) = RunWatch(store, PastCosts([])).look()
    assert (watched.state == "running") is ours
    assert cancel([folder]) == (["7_1"] if ours else [])
    assert (tmp_path / "cancelled").exists() is ours
