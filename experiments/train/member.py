"""One of several processes that train a run together: ``python -m experiments.train.member``."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from experiments.train import attempt


def take_part(arguments: list[str]) -> NoReturn:
    """Train as one of the processes, and end without the group's threads.

    Gloo's threads may still run when a process ends by itself; C++ then aborts it now and then, and
    a finished training would count as failed.
    """
    code = attempt.main(arguments)
    if code != 0:  # leave slowly: the process that failed first is to be seen first
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    take_part(sys.argv[1:])
