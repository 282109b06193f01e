"""A real Slurm of one node on the loopback address: munged, slurmctld, slurmd."""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
#: Debian keeps the daemons where only root's path looks
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
INSTALL = "apt-get install -y slurm-wlm munge"

CONFIGURATION = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SchedulerParameters=sched_min_interval=0,sched_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=lab Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What keeps a cluster from being started here, with the command that mends it."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if absent:
        return f"there is no {', '.join(absent)}: {INSTALL}"
    if importlib.util.find_spec("submitit") is None:
        return "there is no submitit: .venv/bin/pip install 'submitit>=1.5'"
    return ""


@dataclass(frozen=True)
class Cluster:
    """A running Slurm."""

    folder: Path

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of a process that is to find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}

    def say(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        said = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | self.variables, check=True
        )
        return said.stdout.strip()

    def state(self, job: str) -> str:
        """PENDING, RUNNING, …; empty: it has left the queue."""
        said = subprocess.run(
            ["squeue", "--noheader", "--array", "-o", "%i %T"],
            capture_output=True, text=True, env=os.environ | self.variables, check=True,
        )  # fmt: skip
        return dict(line.split() for line in said.stdout.splitlines()).get(job, "")

    def start_soon(self, job: str) -> None:
        """Let a job that was queued again start in three seconds; Slurm would wait two minutes.

        Its node refuses what was allowed before the former life's end, to the second.
        """
        self.say("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-10:])
            for path in sorted(self.folder.glob("*.log"))
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start a cluster and end all of it."""
    if reason := missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="ssa-seg-lab-slurm-"))  # a socket's path must be short
    folder.chmod(0o711)  # munged wants its socket to be reached by all
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    text = CONFIGURATION.format(
        folder=folder, host=host, user=getpass.getuser(),
        controller_port=_free_port(), node_port=_free_port(),
    )  # fmt: skip
    (folder / "slurm.conf").write_text(text)
    cluster = Cluster(folder)
    daemons: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.said.log").open("wb") as log:
            daemons.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | cluster.variables,
                    start_new_session=True,
                )
            )

    try:
        start(
            "munged", "--foreground", "--force", f"--socket={folder}/munge.socket",
            f"--key-file={key}", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
        )  # fmt: skip
        wait_until((folder / "munge.socket").exists, "munged")
        start("slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        start("slurmd", "-D", "-f", str(folder / "slurm.conf"), "-N", host)
        _wait_for_node(cluster, daemons)
        yield cluster
    finally:
        _end(cluster, daemons)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_node(cluster: Cluster, daemons: list[subprocess.Popen[bytes]]) -> None:
    late = time.monotonic() + 60
    while True:
        said = subprocess.run(
            ["sinfo", "--noheader", "-o", "%t"],
            capture_output=True, text=True, env=os.environ | cluster.variables, check=False,
        )  # fmt: skip
        if said.stdout.strip() == "idle":
            return
        ended = any(daemon.poll() is not None for daemon in daemons)
        if ended or time.monotonic() > late:
            raise AssertionError(said.stderr + cluster.logs())
        time.sleep(0.2)


def _end(cluster: Cluster, daemons: list[subprocess.Popen[bytes]]) -> None:
    subprocess.run(
        ["scancel", "--quiet", "--full", "--name=ssa-seg-lab"],
        capture_output=True, env=os.environ | cluster.variables, check=False, timeout=60,
    )  # fmt: skip
    late = time.monotonic() + 15
    while len(daemons) == 3 and time.monotonic() < late:
        said = subprocess.run(
            ["squeue", "--noheader"],
            capture_output=True, text=True, env=os.environ | cluster.variables, check=False,
        )  # fmt: skip
        if not said.stdout.strip():
            break
        time.sleep(0.3)
    for daemon in reversed(daemons):
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
