"""Several processes that train one run together: started, watched and ended as one.

The processes are torchrun's (``torch.distributed.launcher``): one a GPU, each on its share of every
batch. This one holds the run's lock and turns whatever ends one of them into one sentence.
"""

from __future__ import annotations

import signal
import sys

from experiments.files import write_atomically
from experiments.machine import START
from experiments.store.folder import RunFolder
from experiments.store.records import Failure
from experiments.store.store import Store


def supervise(folder: RunFolder, store: Store, arguments: list[str], processes: int) -> int:
    """Run the training module in ``processes`` processes; 0 if all of them ended well, else 1.

    When one fails or is killed, the others are ended. The caller holds the run's lock.

    Args:
        folder: of the run.
        store: where it is.
        arguments: of ``python -m experiments.train.attempt``, handed on as they are.
        processes: how many.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if "--remake" not in arguments and store.read(folder.path.name) is not None:
        return 0
    folder.failure.unlink(missing_ok=True)
    logs = folder.path / "work" / "processes"  # torchrun wants one; what is said goes to our log
    logs.mkdir(parents=True, exist_ok=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=folder.path.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)(str(START), "experiments.train.member", *arguments)
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        _explain(folder, rank, processes, first.exitcode)
        return 1
    except SignalException as ended:
        return 128 + ended.sigval
    return 0


def _explain(folder: RunFolder, rank: int, processes: int, code: int) -> None:
    """Write why the run ended, unless the failed process could do so itself."""
    from experiments.store.records import now

    if code < 0:  # what the others then say is only the echo
        how = f"was ended by {signal.Signals(-code).name}"
    elif not folder.failure.exists():
        how = f"ended with code {code}"
    else:
        return
    sentence = (
        f"Process {rank + 1} of the {processes} that train this run {how}, and the others with "
        f"it; the same command resumes it (log: {folder.log})."
    )
    print(sentence, file=sys.stderr)
    failure = Failure(run_id=folder.path.name, sentence=sentence, traceback="", time=now())
    write_atomically(folder.failure, failure.model_dump_json(indent=1))
