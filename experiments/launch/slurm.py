"""Runs on a cluster: jobs of Slurm, submitted through submitit, that outlive the call.

The run's folder says which job has it (``submission.json``). A second call attaches to jobs that
wait or run instead of submitting again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shlex
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.declare.profile import Profile
from experiments.errors import SsaError
from experiments.files import parsed_json, read_bounded, write_atomically
from experiments.launch.command import command, variables
from experiments.launch.launcher import Ended, Inputs, Resources
from experiments.launch.needs import SETTABLE, Needs, hours_of, needs_of, with_given
from experiments.launch.slurm_job import TrainingJob
from experiments.launch.slurm_queue import (
    JOB_NAME,
    SlurmError,
    SlurmQueue,
    cancel_jobs,
    cluster_name,
    end_of,
)
from experiments.machine import module_command, search_path
from experiments.plan.plan import PlannedRun
from experiments.store.folder import RunFolder
from experiments.store.lock import run_lock
from experiments.store.records import now
from experiments.store.store import Store

#: times that a job may reach its time limit and be queued again
RESTARTS = 50
WARNING_S = 90  # before the time limit, in which a job writes nothing more and is queued again
VISIBLE_S = 10.0  # after which what another host has written is seen here (NFS keeps attributes)
_MOST_BYTES = 1 << 16  # of a run's submission.json
_MOST_OF_A_HISTORY = 1 << 24  # of its jobs.jsonl: a line has some 150 bytes
SUBMITTING_S = 120.0  # that another call may take to submit
MOST = 100_000  # runs that a call gives to Slurm, which keeps the queue

#: what a call may say to sbatch: our name → submitit's
PASSED = {
    name: name
    for name in ("partition", "account", "qos", "constraint", "gres", "exclude", "nodelist")
}


@dataclass(frozen=True)
class SlurmOptions:
    """How a call uses a cluster."""

    profile: Profile
    jobs: int  # of an array that run at once
    device: str
    gpus: int = 1  # that train one run together, where ``device`` is cuda
    packed: Path | None = None
    features: Path | None = None
    given: Mapping[str, str] | None = None  # --slurm KEY=VALUE
    checkpoint_every_s: float = 60.0


@dataclass(frozen=True)
class _Ask:
    """What an array of jobs has in common."""

    gpus: int
    processors: int
    memory_gb: float
    hours: float


def read_submission(folder: RunFolder, cluster: str = "") -> str | None:
    """The id of the job that was given the run last; None: none was, or nobody can read which.

    Args:
        folder: of the run.
        cluster: whose job it is to be: on another one the same id is another job. Empty: any.
    """
    try:
        document = parsed_json(read_bounded(folder.submission, _MOST_BYTES))
        job, given_to = document["job"], document.get("cluster", "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(job, str) or (cluster and given_to and given_to != cluster):
        return None
    return job


def cancel(folders: Sequence[RunFolder]) -> list[str]:
    """End the jobs that wait or run for these runs; their ids.

    Raises:
        SlurmError: Slurm does not answer.
    """
    if not any(read_submission(folder) for folder in folders):
        return []
    queued, cluster = SlurmQueue().jobs(), cluster_name()
    given = [read_submission(folder, cluster) for folder in folders]
    jobs = [job for job in given if job in queued and job is not None]
    cancel_jobs(jobs)
    return jobs


class SlurmHandle:
    """A run that a job has, or will have once its array is submitted."""

    def __init__(self, folder: RunFolder, launcher: SlurmLauncher, job: str | None) -> None:
        self.folder, self.job = folder, job
        self.began = False
        self.refused: Ended | None = None
        self.over = False
        self._launcher = launcher
        self._since: float | None = None  # it was first seen running
        self._gone: float | None = None  # it was first not in the queue

    def poll(self) -> Ended | None:
        """How the job ended; None while it waits or runs, or while Slurm does not answer."""
        self._launcher.flush()
        if self.refused is not None:
            self.over = True
            return self.refused
        assert self.job is not None
        try:
            queued = self._launcher.queue.jobs().get(self.job)
        except SlurmError:
            return None  # a controller that restarts loses no job
        if queued is not None:
            self._gone = None
            if queued.runs and not self.began:
                self.began, self._since = True, time.monotonic()
            return None
        ended = self._ended(self.job)
        self.over = ended is not None
        return ended

    def cancel(self) -> None:
        """End the job, waiting or running.

        Raises:
            SlurmError: Slurm refuses.
        """
        if self.job is not None:
            cancel_jobs([self.job])
            self._launcher.queue.forget()

    def _ended(self, job: str) -> Ended | None:
        """How a job ended that has left the queue; None: what it wrote may not be seen here yet."""
        self._gone = self._gone or time.monotonic()
        seconds = None if self._since is None else self._gone - self._since
        noted, end = noted_code(self.folder, job), end_of(job)
        if end is not None and end.state.startswith("CANCELLED"):
            return Ended(None, None, _cancelled(job), seconds)
        well = noted == 0 or (noted is None and (end is None or end.state == "COMPLETED"))
        if well and time.monotonic() - self._gone < VISIBLE_S:
            with contextlib.suppress(OSError):
                list(self.folder.path.iterdir())  # makes NFS look again
            if not self.folder.record.exists():
                return None
        code = noted if noted is not None else end.code if end else None
        if end is not None and end.signal and code in (0, None):
            return Ended(None, end.signal, _told(job, end.state), seconds)
        reason = "" if noted is not None else _told(job, end.state if end else None)
        if noted is None and end is None and not _events_of(self.folder, job):
            reason = _cancelled(job)  # Slurm forgets a task of an array that has never begun
        return Ended(code, None, reason, seconds)


def _told(job: str, state: str | None) -> str:
    how = f"ended as {state}" if state else "is no longer known to Slurm, and wrote no end"
    return f"Its job {job} {how}; the same command resumes the run."


def _cancelled(job: str) -> str:
    return f"Its job {job} was cancelled; the same command submits the run again."


def _events_of(folder: RunFolder, job: str) -> list[dict[str, object]]:
    """What a job wrote about itself."""
    try:
        lines = read_bounded(folder.jobs, _MOST_OF_A_HISTORY).splitlines()
    except (OSError, ValueError):
        return []
    return [event for event in map(_event, lines) if event.get("job") == job]


def noted_code(folder: RunFolder, job: str) -> int | None:
    """The exit code that a job wrote as its last word; None: it wrote none, or nobody can read it.

    Args:
        folder: of the run.
        job: its id.
    """
    events = _events_of(folder, job)
    code = events[-1].get("code") if events and events[-1].get("event") == "ended" else None
    return code if type(code) is int else None


def _event(line: bytes) -> dict[str, object]:
    """A line of ``jobs.jsonl``; nothing of one that was cut short or is no such line."""
    try:
        event = parsed_json(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


class SlurmLauncher:
    """Gives runs to Slurm as arrays of jobs, one array for each thing that is asked for.

    Args:
        options: how the cluster is used.
        store: where the runs are; on a file system that the nodes share.

    Raises:
        SlurmError: submitit or Slurm is missing.
    """

    full = ""

    def __init__(self, options: SlurmOptions, store: Store) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise SlurmError(
                "--launcher slurm needs submitit: `.venv/bin/pip install submitit` installs it."
            )
        self.queue = SlurmQueue()
        self._cluster = cluster_name()
        self._options, self._store = options, store
        self._handles: list[SlurmHandle] = []
        self._waiting: list[tuple[SlurmHandle, _Ask, TrainingJob]] = []

    @property
    def capacity(self) -> int:
        """Everything: Slurm keeps the queue, and the array's limit holds back what is too much."""
        return MOST

    def submit(self, run: PlannedRun, inputs: Inputs) -> SlurmHandle:
        """Attach to the run's job if it has one; else it goes into the next array.

        Raises:
            SlurmError: the controller does not answer.
        """
        folder = Store(inputs.results).folder(run.spec.run_id)
        job = read_submission(folder, self._cluster)
        handle = SlurmHandle(folder, self, job if job in self.queue.jobs() else None)
        if handle.job is None:
            needs = with_given(needs_of(self._options.profile, run.spec.model), self._given)
            resources = self._resources(needs)
            words = module_command(*command(run, inputs, resources))
            work = TrainingJob(words, variables(resources), str(folder.path))
            hours = needs.hours if "hours" in self._given else hours_of(run, needs)
            self._waiting.append((handle, _ask_of(needs, resources, hours), work))
        self._handles.append(handle)
        return handle

    @property
    def _given(self) -> Mapping[str, str]:
        return self._options.given or {}

    def _resources(self, needs: Needs) -> Resources:
        options = self._options
        return Resources(
            device=options.device,
            processes=options.gpus if options.device == "cuda" else 1,
            threads=needs.threads,
            loading=options.profile.loading,
            packed=options.packed,
            features=options.features,
            checkpoint_every_s=options.checkpoint_every_s,
        )

    def flush(self) -> None:
        """Submit what has been collected since the last time, an array for each kind of need."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        try:
            with self._alone():
                self._submit_all(waiting)
        except SsaError as error:
            for handle, _, _ in waiting:
                if handle.job is None and handle.refused is None:
                    handle.refused = Ended(None, None, str(error))
        self.queue.forget()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One call submits at a time, so that none submits what another has just submitted."""
        late = time.monotonic() + SUBMITTING_S
        while True:
            with run_lock(RunFolder(self._store.root / "slurm")) as mine:
                if mine:
                    yield
                    return
            if time.monotonic() > late:
                raise SlurmError(
                    f"Another call has been submitting for {SUBMITTING_S:.0f} s "
                    f"({self._store.root / 'slurm' / 'owner.json'} says which); end it, or give "
                    "the same command again later."
                )
            time.sleep(0.5)

    def _submit_all(self, waiting: Sequence[tuple[SlurmHandle, _Ask, TrainingJob]]) -> None:
        self.queue.forget()
        queued = self.queue.jobs()
        arrays: dict[_Ask, list[tuple[SlurmHandle, TrainingJob]]] = defaultdict(list)
        for handle, ask, work in waiting:
            if (job := read_submission(handle.folder, self._cluster)) in queued:
                handle.job = job  # another call has submitted it meanwhile
            else:
                arrays[ask].append((handle, work))
        for ask, members in arrays.items():
            try:
                jobs = self._submit_array(ask, [work for _, work in members])
            except SlurmError as error:  # this array's own
                for handle, _ in members:
                    handle.refused = Ended(None, None, str(error))
                continue
            for (handle, _), job in zip(members, jobs):
                handle.job = job
                self._write(handle.folder, job, ask)

    def _submit_array(self, ask: _Ask, works: Sequence[TrainingJob]) -> list[str]:
        """The ids of the jobs that now have this work.

        Raises:
            SlurmError: sbatch refuses it.
        """
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = submitit.SlurmExecutor(
            str(self._store.root / "slurm" / "%j"), max_num_timeout=RESTARTS
        )
        executor.update_parameters(
            job_name=JOB_NAME,
            time=max(2, round(60 * ask.hours)),
            cpus_per_task=ask.processors,
            mem=f"{max(1, round(1024 * ask.memory_gb))}M",
            signal_delay_s=WARNING_S,
            array_parallelism=self._options.jobs,
            stderr_to_stdout=True,
            srun_args=["--cpus-per-task", str(ask.processors)],  # srun ignores sbatch's since 22.05
            setup=[f"export PYTHONPATH={shlex.quote(search_path())}", "export PYTHONSAFEPATH=1"],
            additional_parameters={"requeue": True},
            **({"gpus_per_node": ask.gpus} if ask.gpus and "gres" not in self._given else {}),
            **{PASSED[name]: value for name, value in self._given.items() if name in PASSED},
        )
        try:
            with executor.batch():
                jobs = [executor.submit(work) for work in works]
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            lines = [line for line in str(error).splitlines() if "sbatch:" in line]
            said = " ".join(" ".join(lines or [str(error)]).split())[:300]
            raise SlurmError(
                f"Slurm does not take the job: {said} (--slurm KEY=VALUE sets "
                f"{', '.join([*PASSED, *SETTABLE])}; `sinfo` shows the partitions.)"
            ) from None
        return [str(job.job_id) for job in jobs]

    def _write(self, folder: RunFolder, job: str, ask: _Ask) -> None:
        document = {
            "job": job,
            "cluster": self._cluster,
            "submitted": now(),
            "asked": asdict(ask),
            "output": str(self._store.root / "slurm" / job),
        }
        write_atomically(folder.submission, json.dumps(document, indent=1))

    def close(self) -> str:
        """Leave the jobs to Slurm; a sentence on what goes on without this call."""
        left = [handle.job for handle in self._handles if handle.job and not handle.over]
        if not left:
            return ""
        return (
            f"{len(left)} {'job goes' if len(left) == 1 else 'jobs go'} on in Slurm "
            f"({', '.join(left[:3])}{', …' if len(left) > 3 else ''}): the same command attaches "
            "to them, `./run_all.sh cancel ITEM` ends them."
        )

    def hurry(self) -> None:
        """There is nothing that the call waits for."""


def _ask_of(needs: Needs, resources: Resources, hours: float) -> _Ask:
    each = resources.threads + resources.loading.workers
    return _Ask(
        gpus=resources.processes if resources.device == "cuda" else 0,
        processors=resources.processes * each,
        memory_gb=resources.processes * needs.memory_gb,
        hours=hours,
    )
