"""Training processes forked from one that has imported everything already: seconds saved on each.

Reads one JSON line a job from standard input, ``{"arguments": […], "log": path, "dies_in": n}``;
answers with the process id at once and with its wait status at its end. With ``dies_in`` the
process is ended by SIGKILL when its n-th evaluation begins.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys

from experiments.imports import import_mmengine
from experiments.launch.fork_server import LIBRARIES
from experiments.train import attempt


def serve() -> None:
    with contextlib.redirect_stdout(sys.stderr):  # which libraries print to as they are imported
        import_mmengine()
        for name in LIBRARIES:
            importlib.import_module(name)
    from experiments.store import provenance  # noqa: F401
    from experiments.train import trainer  # noqa: F401
    from experiments.train.components import register_components

    register_components()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become_trainer(job)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


def become_trainer(job: dict) -> None:
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if job["dies_in"]:
        die_in_evaluation(job["dies_in"])
    sys.exit(attempt.main(job["arguments"]))


def die_in_evaluation(number: int) -> None:
    from experiments.train.loops import StatelessValLoop

    evaluate, begun = StatelessValLoop.run, []

    def run(loop: StatelessValLoop) -> dict[str, float]:
        begun.append(1)
        if len(begun) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return evaluate(loop)

    StatelessValLoop.run = run  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    serve()
