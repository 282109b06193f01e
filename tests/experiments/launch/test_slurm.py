"""Runs on a real Slurm: cancelled, killed, queued again, attached to; the table stays the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PATIENCE_S, Lab, assert_clear, environment, finished, heeding_interrupts, wait_until
from slurm_cluster import Cluster, running_cluster

from experiments.launch.slurm import read_submission
from experiments.store.folder import RunFolder
from experiments.store.records import Record

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ON_CLUSTER = ("--launcher", "slurm", "--slurm", "partition=lab", "--jobs", "2")
TABLE = ("table8", "--seeds", "1")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as started:
        yield started


def call(lab: Lab, cluster: Cluster, *words: str, profile: str = "smoke") -> str:
    said = finished(lab.command(*words, profile=profile), **cluster.variables)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def begin(lab: Lab, cluster: Cluster, *words: str, profile: str = "smoke") -> subprocess.Popen[str]:
    with heeding_interrupts():
        return subprocess.Popen(
            lab.command(*words, profile=profile),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment() | cluster.variables,
        )  # fmt: skip


def runs_of(lab: Lab) -> list[RunFolder]:
    return lab.runs if lab.store.runs.exists() else []


def jobs_of(lab: Lab) -> dict[str, str]:
    """Run → its job, of the runs that have one."""
    given = {folder.path.name: read_submission(folder) for folder in runs_of(lab)}
    return {name: job for name, job in given.items() if job}


def trainer_of(folder: RunFolder) -> int | None:
    """The training process of a run, which runs on this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"experiments.train.attempt" in words and str(folder.path).encode() in words:
            return int(path.parent.name)
    return None


def words_of(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""


def events(folder: RunFolder) -> list[dict[str, object]]:
    return [json.loads(line) for line in folder.jobs.read_text().splitlines()]


def exported(lab: Lab) -> dict[str, bytes]:
    """Every exported file, byte for byte, but for when, how long and with how much memory."""
    written = lab.exports()
    assert {"table08-smoke.csv", "table08-smoke.md", "table08-smoke.tex"} <= set(written)
    return written


def test_table_8_comes_out_as_here_whatever_happens_to_its_jobs(
    trained: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    """The call is ended, given anew, one run cancelled, one killed and queued again."""
    here, there = trained.blank(tmp_path / "here"), trained.blank(tmp_path / "there")
    expected = call(here, cluster, *TABLE)

    first = begin(there, cluster, *TABLE, *ON_CLUSTER)
    wait_until(lambda: len(jobs_of(there)) == len(here.runs), "the jobs")
    jobs = jobs_of(there)
    wait_until(lambda: "RUNNING" in map(cluster.state, jobs.values()), "a running job")
    watched = call(there, cluster, "status", "--watch", "--seeds", "1")
    assert "running" in watched
    assert "queued" in watched
    print(watched)
    folders = {folder.path.name: folder for folder in there.runs}

    def trainers() -> dict[str, int]:
        running = [name for name, job in jobs.items() if cluster.state(job) == "RUNNING"]
        given = {name: trainer_of(folders[name]) for name in running}
        return {name: pid for name, pid in given.items() if pid}

    wait_until(trainers, "a training process")
    killed, pid = next(iter(trainers().items()))
    os.kill(pid, signal.SIGKILL)
    cancelled = [name for name, job in jobs.items() if cluster.state(job) == "PENDING"][-1]
    cluster.say("scancel", jobs[cancelled])
    for name, end in {killed: "ended by SIGKILL", cancelled: "was cancelled"}.items():
        wait_until(lambda log=folders[name].log, end=end: end in words_of(log), f"the word: {end}")
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=PATIENCE_S)
    said = " ".join(err.split())
    assert first.returncode == 130, out + err
    assert (
        f"Its job {jobs[cancelled]} was cancelled; the same command submits the run again." in said
    )
    assert "ended by SIGKILL; the same command resumes it" in said
    assert said.count("failed ") == 2, "the others go on"
    assert "in Slurm" in said
    assert "the same command attaches to them" in said
    assert any(map(cluster.state, jobs.values())), "the jobs stay"

    cluster.say("scontrol", "requeue", jobs[killed])
    second = begin(there, cluster, *TABLE, *ON_CLUSTER)
    wait_until(lambda: jobs_of(there)[cancelled] != jobs[cancelled], "a new job")
    cluster.start_soon(jobs[killed])
    out, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, out + err
    kept = {name: job for name, job in jobs_of(there).items() if name != cancelled}
    assert kept == {name: job for name, job in jobs.items() if name != cancelled}, "no second job"
    assert [event["event"] for event in events(folders[killed])] == ["began", "ended"] * 2

    again = call(there, cluster, *TABLE, *ON_CLUSTER)
    assert [*map(table_of, (again, out))] == [table_of(expected)] * 2
    assert exported(there) == exported(here)
    for folder in there.runs:
        node = events(folder)[-1]["node"]
        record = there.store.read(folder.path.name)
        assert record is not None
        assert record.environment.host.split(".")[0] == node
        assert (there.results / "slurm" / jobs_of(there)[folder.path.name]).is_dir(), "its output"


def table_of(said: str) -> str:
    """What is printed without the paths of the exported files."""
    return "\n".join(line for line in said.splitlines() if "/tables/" not in line)


@pytest.mark.parametrize("warning", ["USR2", "TERM"])
def test_preemption_keeps_the_checkpoint_and_queues_the_run_again(
    trained: Lab, undisturbed: Record, cluster: Cluster, tmp_path: Path, warning: str
) -> None:
    """As Slurm warns before a time limit, or before it gives the node to another."""
    lab = trained.blank(tmp_path)
    process = begin(lab, cluster, "one", *ON_CLUSTER, profile="long")
    folder = lab.store.folder(undisturbed.run_id)
    wait_until(folder.checkpoint.exists, "the first checkpoint")
    (job,) = jobs_of(lab).values()
    cluster.say("scancel", f"--signal={warning}", job)
    wait_until(lambda: cluster.state(job) == "PENDING", "the job to be queued again")
    assert not folder.owner.exists()
    cluster.start_soon(job)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    record = lab.record("softmax")
    assert record.result_digest == undisturbed.result_digest
    assert record.resumed_at
    assert [(event["event"], event["restarts"]) for event in events(folder)] == [
        ("began", 0), ("queued again", 0), ("began", 1), ("ended", 1),
    ]  # fmt: skip


def test_what_slurm_refuses_is_a_sentence_a_run(
    trained: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    lab = trained.blank(tmp_path)
    words = ("one", "--launcher", "slurm", "--slurm", "partition=nowhere", "--jobs", "1")
    said = finished(lab.command(*words), **cluster.variables)
    assert_clear(said, 1, "Slurm does not take the job", "partition", "`sinfo` shows")
    assert not jobs_of(lab)


def test_cancel_ends_the_jobs_of_an_item(trained: Lab, cluster: Cluster, tmp_path: Path) -> None:
    lab = trained.blank(tmp_path)
    process = begin(lab, cluster, "pair", *ON_CLUSTER, profile="long")
    wait_until(lambda: len(jobs_of(lab)) == 2, "the jobs")
    jobs = jobs_of(lab).values()
    said = finished(lab.command("cancel", "pair", profile="long"), **cluster.variables)
    assert_clear(said, 0, "2 jobs cancelled")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, out + err
    assert " ".join(err.split()).count("was cancelled; the same command submits the run again") == 2
    assert not any(map(cluster.state, jobs))
