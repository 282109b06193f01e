"""What Slurm says of our jobs, asked of its own commands and kept for some seconds.

``sacct`` needs accounting, which small clusters lack; ``squeue`` and ``scontrol`` always answer.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.errors import SsaError

JOB_NAME = "ssa-seg-lab"
ANSWER_S = 60.0  # that a command is given
FRESH_S = 1.0  # that an answer counts at first
STALE_S = 10.0  # and later: a queue changes slowly, and its controller serves all
#: states in which a job has processes
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"})


class SlurmError(SsaError):
    """Slurm does not answer, or refuses."""


@dataclass(frozen=True)
class QueuedJob:
    """A job that waits or runs."""

    job: str  # its id; of an array the task's, 12_3
    state: str  # PENDING, RUNNING, …
    node: str  # on which it runs; empty while it waits
    left: str  # of its time limit, as Slurm writes it
    why: str  # it waits

    @property
    def runs(self) -> bool:
        """Whether it has processes."""
        return self.state in RUNNING


@dataclass(frozen=True)
class JobEnd:
    """How a job ended, as long as the controller remembers it."""

    state: str  # COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL, OUT_OF_MEMORY, …
    code: int
    signal: int


class SlurmQueue:
    """The jobs of this project that wait or run, of whichever user."""

    def __init__(self) -> None:
        self._jobs: dict[str, QueuedJob] = {}
        self._began = time.monotonic()
        self._asked: float | None = None

    def jobs(self) -> dict[str, QueuedJob]:
        """The jobs by id, at most some seconds old.

        Raises:
            SlurmError: the controller does not answer.
        """
        now = time.monotonic()
        keep_s = min(STALE_S, FRESH_S + 0.05 * (now - self._began))
        if self._asked is None or now - self._asked >= keep_s:
            said = _ask(
                "squeue", "--noheader", "--array", "--name", JOB_NAME, "-o", "%i|%T|%N|%L|%r"
            )
            self._jobs = {job.job: job for job in map(_parsed, said.splitlines()) if job}
            self._asked = time.monotonic()
        return self._jobs

    def forget(self) -> None:
        """Ask anew next time: something was submitted or cancelled."""
        self._asked = None


def _parsed(line: str) -> QueuedJob | None:
    fields = [field.strip() for field in line.split("|")]
    return QueuedJob(*fields) if len(fields) == 5 else None


def end_of(job: str) -> JobEnd | None:
    """How a job ended; None: the controller no longer knows it, or has never known it."""
    try:
        said = _ask("scontrol", "--oneliner", "show", "job", job)
    except SlurmError:
        return None
    state = re.search(r"\bJobState=(\S+)", said)
    codes = re.search(r"\bExitCode=(\d+):(\d+)", said)
    if state is None or codes is None:
        return None
    return JobEnd(state[1], int(codes[1]), int(codes[2]))


def cancel_jobs(jobs: Sequence[str]) -> None:
    """End these jobs, waiting or running.

    Raises:
        SlurmError: Slurm refuses.
    """
    if jobs:
        _ask("scancel", *jobs)


def cluster_name() -> str:
    """The cluster's own name; empty if it does not say.

    Raises:
        SlurmError: the controller does not answer.
    """
    named = re.search(r"^ClusterName\s*=\s*(\S+)", _ask("scontrol", "show", "config"), re.M)
    return named[1] if named else ""


def _ask(*command: str) -> str:
    if shutil.which(command[0]) is None:
        raise SlurmError(
            f"--launcher slurm needs Slurm's commands, and there is no {command[0]} here: give the "
            "command on a login node of the cluster, or leave --launcher out to train here."
        )
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"Slurm's controller did not answer `{command[0]}` within {ANSWER_S:.0f} s; "
            "`scontrol ping` says whether it is up. The same command goes on."
        ) from None
    if said.returncode:
        raise SlurmError(
            f"`{' '.join(command[:2])}` failed: {' '.join(said.stderr.split())[:300]} "
            "(`scontrol ping` says whether the controller is up)."
        )
    return said.stdout
