"""What a job of Slurm does: it trains one run, and hands it on when it has to leave its node.

It runs on the node in a process of submitit's, which has unpickled it; it imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

GRACE_S = 20.0  # that the training process is given to end
BUSY = 75  # experiments/train/exit_codes.py: another process has the run
BUSY_S = 300.0  # longer than a dead owner on another node is waited for (store/owner.py)
POLL_S = 0.2


class TrainingJob:
    """Runs the training command; submitit calls it on the node.

    Slurm warns before the time limit, and before preemption if asked, by SIGUSR2 (submitit's; NCCL
    takes SIGUSR1); ``scancel`` and preemption with a grace time send SIGTERM. In each case the
    training process is ended, which leaves its checkpoint, and unless the job was cancelled it is
    queued again.

    Args:
        command: of the training process.
        variables: for its environment, beside what the job has: the accelerators that it sees are
            Slurm's.
        folder: of the run.
    """

    def __init__(self, command: list[str], variables: dict[str, str], folder: str) -> None:
        self.command, self.variables, self.folder = command, variables, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._leaving = False  # asked to end, or queued again: Slurm's further signals say nothing

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_process": None, "_leaving": False}

    def __call__(self) -> int:
        """Train; leaves by the training process's exit code (128 + n where signal n ended it)."""
        signal.signal(signal.SIGTERM, self._asked_to_end)
        self._note("began")
        late = time.monotonic() + BUSY_S
        while (code := self._trained()) == BUSY and time.monotonic() < late:
            time.sleep(10.0)
        if code == 128 + signal.SIGTERM:
            time.sleep(1.0)  # Slurm's own SIGTERM may still be under way to us
        self._note("ended", code=code)
        if code:
            sys.exit(code)
        return code

    def _trained(self) -> int:
        """The training process's exit code; 128 + n where signal n ended it."""
        own = [signal.SIGUSR1, signal.SIGUSR2]  # Slurm sends them to every process of the job

        def ignore() -> None:
            for number in own:
                signal.signal(number, signal.SIG_IGN)

        with (Path(self.folder) / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self.variables,
                preexec_fn=ignore,
            )
        while (code := self._process.poll()) is None:
            time.sleep(POLL_S)  # not wait(): a signal's handler could not wait beside it
        return code if code >= 0 else 128 - code

    def checkpoint(self) -> DelayedSubmission:
        """End the training process; what is to be queued again. submitit calls it."""
        from submitit.core.utils import DelayedSubmission

        self._leaving = True
        self._end()
        self._note("queued again")
        return DelayedSubmission(self)

    def _asked_to_end(self, _number: int, _frame: FrameType | None) -> None:
        if self._leaving:
            return
        self._leaving = True
        self._end()
        said = subprocess.run(
            ["squeue", "--noheader", "-j", job_id(), "-o", "%T"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if said.stdout.strip() == "RUNNING":  # nobody has cancelled it: it is preempted
            signal.raise_signal(signal.SIGUSR2)
        self._note("ended", code=128 + signal.SIGTERM)
        os._exit(128 + signal.SIGTERM)

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _note(self, event: str, **more: int) -> None:
        """Add a line to the run's ``jobs.jsonl``: which job on which node did what."""
        line = {
            "job": job_id(),
            "node": os.environ.get("SLURMD_NODENAME", ""),
            "restarts": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            "event": event,
            **more,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        }
        with (
            contextlib.suppress(OSError),
            (Path(self.folder) / "jobs.jsonl").open("a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(line) + "\n")


def job_id() -> str:
    """The id of the job that this process belongs to, of an array the task's."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
