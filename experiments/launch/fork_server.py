"""Processes that start at once: forked from one that has imported the libraries already.

Importing torch, mmengine and mmsegmentation costs a run five seconds, and a table trains dozens of
runs. One process a call imports them and is forked for each run. It holds nothing of ours: a run
reads the project's code when it starts, as if it were started by itself, so that what it credits
its numbers to is what made them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.imports import import_mmengine
from experiments.machine import START, module_command

#: what a training process imports and is not ours
LIBRARIES = (
    "mmseg.models",
    "mmseg.datasets",
    "mmseg.engine",
    "mmseg.evaluation",
    "mmseg.visualization",
    "mmengine.visualization.visualizer",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "torch._inductor.config",
    "pydantic",
    "setuptools",
)
OURS = ("analysis", "experiments", "ssa")
REAP_S = 0.05  # how often the server looks for processes that have ended
LOST = -signal.SIGTERM  # what a process gets when the server is gone (train/attempt.py)


class ForkedProcess:
    """A process of a :class:`ForkServer`, with what the launcher needs of ``subprocess.Popen``."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self._server, self._number = server, number
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, -N where signal N ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.code_of(self._number)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(START), timeout)
            time.sleep(REAP_S)
        return code

    def terminate(self) -> None:
        """Send SIGTERM, if it still runs."""
        self._server.send_signal(self._number, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""
        self._server.send_signal(self._number, signal.SIGKILL)


class ForkServer:
    """A process that imports :data:`LIBRARIES` once and becomes as many runs as are asked for.

    Only on Linux, and not where a library might open a GPU on import: CUDA does not survive a fork.

    Args:
        environment: of the server; what the C libraries read when they are loaded is taken from it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair()
        command = module_command("experiments.launch.fork_server", str(os.getpid()))
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=dict(environment)
            )
        self._started, self._codes, self._rest, self._open = 0, dict[int, int](), b"", True

    @property
    def pid(self) -> int:
        """The parent of the processes."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still start processes."""
        self._listen()
        return self._open

    def start(
        self, module: str, words: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> ForkedProcess:
        """Run ``python -m module words`` with its output added to the file ``log``."""
        self._started += 1
        request = {
            "number": self._started,
            "module": module,
            "words": list(words),
            "environment": dict(environment),
            "log": str(log),
        }
        self._say(request)
        return ForkedProcess(self, self._started)

    def send_signal(self, number: int, which: signal.Signals) -> None:
        """Send a signal to a process that still runs; else nothing happens."""
        self._say({"number": number, "signal": int(which)})

    def code_of(self, number: int) -> int | None:
        """The exit code of a process; None while it runs."""
        self._listen()
        return self._codes.get(number, None if self._open else LOST)

    def close(self) -> None:
        """End the server, and with it what still runs."""
        self._channel.close()
        self._open = False
        self._process.kill()  # its processes have asked to end with it
        self._process.wait()

    def _say(self, message: Mapping[str, object]) -> None:
        with contextlib.suppress(OSError):  # the server is gone: poll() says so
            self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> None:
        while self._open and select.select([self._channel], [], [], 0)[0]:
            try:
                heard = self._channel.recv(1 << 16)
            except OSError:
                heard = b""
            self._open = bool(heard)
            *lines, self._rest = (self._rest + heard).split(b"\n")
            for line in lines:
                number, code = json.loads(line)
                self._codes[number] = code


def can_fork(device: str) -> bool:
    """Whether runs on ``device`` may be forked from a process that has imported the libraries."""
    return sys.platform == "linux" and device == "cpu"


def serve(launcher: int) -> str:
    """Fork a process for each request on standard input until it is closed.

    Returns: in a forked process, the module that it is to run. The server itself never returns.

    Args:
        launcher: process at the other end of standard input.
    """
    # a terminal sends these to all; the launcher ends its processes itself
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGHUP)}
    channel = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with contextlib.suppress(Exception):
        import_mmengine()
    for name in LIBRARIES:
        with contextlib.suppress(Exception):  # what is missing is the run's own to say, in its log
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection in each process copies all pages
    children: dict[int, int] = {}
    rest = b""
    while os.getppid() == launcher:
        heard = b""
        if select.select([channel], [], [], REAP_S if children else 1.0)[0]:
            heard = channel.recv(1 << 16)
            if not heard:
                break
        *lines, rest = (rest + heard).split(b"\n")
        for line in lines:
            request = json.loads(line)
            number = request["number"]
            if "signal" in request:
                if number in children:
                    os.kill(children[number], request["signal"])
                continue
            children[number] = os.fork()
            if children[number] == 0:
                channel.close()
                for which, handler in before.items():
                    signal.signal(which, handler)
                return _become(request)
        for number, pid in list(children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del children[number]
                code = os.waitstatus_to_exitcode(status)
                channel.sendall(json.dumps([number, code]).encode() + b"\n")
    sys.stdout.flush()
    os._exit(0)


def _become(request: dict[str, object]) -> str:
    """Take on the environment, output and arguments of a request; the module to run."""
    module, words = str(request["module"]), request["words"]
    environment = request["environment"]
    assert isinstance(words, list)
    assert isinstance(environment, dict)
    log = os.open(str(request["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    if len(os.listdir("/proc/self/task")) > 1 or _num_threads_of(os.getppid()) > 1:  # noqa: PTH208
        command = module_command(module, *words)  # a library's threads do not survive a fork
        os.execve(command[0], command, environment)
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    sys.argv[1:] = words
    return module


def _num_threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208


if __name__ == "__main__":
    runpy.run_module(serve(int(sys.argv[1])), run_name="__main__", alter_sys=True)
