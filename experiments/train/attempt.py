"""The training process of one run: ``python -m experiments.train.attempt RUN_FOLDER --data DIR``.

With ``--processes N`` it starts N members that share every batch (train/processes.py). It
holds the run's lock, trains (or resumes), scores and writes the record. Exit codes:
0 the record is there; 1 it failed (failure.json says why); 74 it failed and could not even write
why; 75 another process holds the run; 128 + n it was ended by signal n.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import experiments.train.listening  # noqa: F401  before all else of ours
from experiments.declare.extensions import own_line, take_up_for
from experiments.declare.run_spec import RunSpec
from experiments.errors import RegistryError, SsaError, StoreError, sentence_of
from experiments.files import disk_sentence, write_atomically
from experiments.imports import import_mmengine
from experiments.store.folder import RunFolder
from experiments.store.loaded import watch
from experiments.store.lock import run_lock
from experiments.store.notice import tell
from experiments.store.progress import read_progress
from experiments.store.provenance import remember_code
from experiments.store.records import Failure, now
from experiments.store.store import Store, read_spec
from experiments.store.tensors import read_data_alone, read_tensors
from experiments.train.exit_codes import BUSY, UNWRITABLE
from experiments.train.memory import is_exhausted, memory_sentence
from experiments.train.same_data import SameDataStore
from experiments.train.trainer import train

if TYPE_CHECKING:
    from types import FrameType

    from experiments.train.config import Surroundings

_PR_SET_PDEATHSIG = 1
SPARE_BYTES = 4 << 20  # kept back for the sentence that says that memory is exhausted
#: what a checkpoint holds, and what resuming takes up
STATE = frozenset(
    {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers", "curve", "attempts"}
)


class _Ended(BaseException):
    """This process was asked to end: nothing of what it runs is to catch that."""


def _end(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # who asks twice does not wait for our last words
    raise _Ended(number)


def _is_member(folder: RunFolder) -> bool:
    """Whether this is one of several processes, which train/processes.py has started."""
    return os.environ.get("TORCHELASTIC_RUN_ID") == folder.path.name


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the run whose folder is given; see the module's text for the exit codes."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.train.attempt", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="results/runs/<run id>, with its spec.json")
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--weights", type=Path, help="pretrained file")
    parser.add_argument(
        "--registry", type=Path, action="append", default=[], help="a user's own registry folder"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="loading processes")
    parser.add_argument("--cache-images", action="store_true", help="keep images in memory")
    parser.add_argument("--packed", type=Path, help="folder of memory-mapped copies of the images")
    parser.add_argument("--processes", type=int, default=1, help="that share every batch")
    parser.add_argument("--parent", type=int, help="process that started this one")
    parser.add_argument("--remake", action="store_true", help="though there is a record")
    parser.add_argument("--checkpoint-every", type=float, default=60.0, help="seconds")
    options = parser.parse_args(arguments)
    folder = RunFolder(options.folder.resolve())
    signal.signal(signal.SIGTERM, _end)
    read_data_alone()
    try:
        return _attempt(folder, options, list(sys.argv[1:] if arguments is None else arguments))
    except (KeyboardInterrupt, _Ended) as ended:
        return _last_words(folder, ended.args[0] if ended.args else signal.SIGINT)


def _attempt(folder: RunFolder, options: argparse.Namespace, given: list[str]) -> int:
    _die_with_parent(None if _is_member(folder) else options.parent)
    remember_code(options.registry)
    watch([each / "classifiers" for each in options.registry])
    store = Store(folder.path.parent.parent)
    if options.processes > 1 and _is_member(folder):  # whoever started us holds the lock
        return _guarded(folder, store, options)
    with run_lock(folder) as mine:
        if not mine:
            return BUSY
        folder.progress.unlink(missing_ok=True)  # of an attempt before
        if options.processes > 1:
            from experiments.train.processes import supervise

            return _explained(folder, lambda: supervise(folder, store, given, options.processes))
        return _guarded(folder, store, options)


def _guarded(folder: RunFolder, store: Store, options: argparse.Namespace) -> int:
    def trained() -> int:
        spec = spec_of(folder)
        if not options.remake and store.read(spec.run_id) is not None:
            return 0  # another process finished it while we started
        import_mmengine()
        take_up_for(spec, options.registry, options.data)
        _check_description(spec)
        around = _surroundings(folder, options)
        if around.processes > 1:
            _join(around)
        train(spec, SameDataStore(store.root, options.data), around)
        return 0

    return _explained(folder, trained)


def spec_of(folder: RunFolder) -> RunSpec:
    """What is to be run.

    Raises:
        StoreError: the folder's spec is damaged, or another run's.
    """
    try:
        spec = read_spec(folder)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StoreError(
            f"{folder.spec} is damaged ({reason}); give the same command again, which writes it."
        ) from None
    if spec.run_id != folder.path.name:
        raise StoreError(
            f"{folder.spec} is that of {spec.run_id}; give the same command again, which writes it."
        )
    return spec


def _check_description(spec: RunSpec) -> None:
    """Refuse a data set whose file says something else now than when the run was planned.

    Raises:
        RegistryError: it does.
    """
    from ssa.datasets import DATASETS
    from ssa.datasets.folder import own_settings

    now_described = own_settings(DATASETS[spec.dataset])
    if now_described and now_described != spec.dataset_settings:
        raise RegistryError(
            f"The data set {spec.dataset} is described otherwise now than when this run was "
            "planned; give the same command again, which plans it as it is described now."
        )


def _explained(folder: RunFolder, attempt: Callable[[], int]) -> int:
    """Try; whatever goes wrong is written down with a sentence, and is nobody else's problem."""
    spare = bytearray(SPARE_BYTES)
    try:
        return attempt()
    except (KeyboardInterrupt, _Ended):
        raise
    except BaseException as error:  # noqa: BLE001  the process's own boundary: recorded, then over
        if not is_exhausted(error):
            return _fail(folder, _reason(error, folder))
        del spare
        traceback.clear_frames(error.__traceback__)  # what fills the memory hangs on them
        return _fail(folder, _too_large(folder))


def _reason(error: BaseException, folder: RunFolder) -> str:
    if isinstance(error, SsaError):
        return sentence_of(error)
    if isinstance(error, OSError):
        return disk_sentence(error, Path(error.filename or folder.path))
    if isinstance(error, SystemExit):  # a user's code may say so: this process has its own codes
        return f"{own_line(error)}The code left the training process by sys.exit()."
    text = " ".join(str(error).split())[:300]
    return f"{own_line(error)}{type(error).__name__}: {text}"


def _too_large(folder: RunFolder) -> str:
    """What of this run did not fit into memory."""
    try:
        spec = read_spec(folder)
    except (OSError, ValueError):
        return "Memory is exhausted; give the same command again with `--jobs 1`."
    return memory_sentence(spec.training, int(os.environ.get("WORLD_SIZE", "1")))


def _last_words(folder: RunFolder, number: int) -> int:
    """Say in the log what ended the run and where; returns the exit code."""
    progress = read_progress(folder.progress)
    at = f" at iteration {progress.iteration} of {progress.iterations}" if progress else ""
    name = signal.Signals(number).name
    with contextlib.suppress(OSError):
        print(f"{now()} ended by {name}{at}; the same command resumes it.", file=sys.stderr)
    return 128 + number


def _surroundings(folder: RunFolder, options: argparse.Namespace) -> Surroundings:
    warnings.filterwarnings("ignore", message=".*MultiScaleDeformableAttention.*")
    import torch

    from experiments.train.config import Surroundings

    torch.set_num_threads(options.threads)
    resume = folder.checkpoint.exists() and is_whole(folder.checkpoint)
    first = os.environ.get("RANK", "0") == "0"  # of several processes one says so
    if first and folder.checkpoint.exists() and not resume:
        tell(folder, f"{folder.checkpoint} is damaged; the run starts anew.")
    return Surroundings(
        work=folder.path / "work",
        data=options.data,
        progress=folder.progress,
        checkpoint=folder.checkpoint,
        weights=options.weights,
        device=options.device,
        workers=options.workers,
        processes=options.processes,
        cache_images=options.cache_images,
        packed=options.packed,
        checkpoint_every_s=options.checkpoint_every,
        resume=resume,
    )


def _join(around: Surroundings) -> None:
    """Meet the other processes of this run; on GPUs, take the one of this process."""
    import torch

    if around.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if around.device == "cuda" else "gloo")


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is as it was written: its checksums, and that it is data alone."""
    from mmengine.runner.checkpoint import get_torch_safe_globals

    try:
        state = read_tensors(checkpoint, get_torch_safe_globals(), mapped=True)
    except (OSError, ValueError):
        return False
    return isinstance(state, dict) and state.keys() >= STATE


def _fail(folder: RunFolder, sentence: str) -> int:
    with contextlib.suppress(OSError):  # the log lies on the same disk
        traceback.print_exc()
        print(sentence, file=sys.stderr)
    if _is_member(folder) and folder.failure.exists():
        return 1  # another process failed first, and this one only because of it
    failure = Failure(
        run_id=folder.path.name, sentence=sentence, traceback=traceback.format_exc(), time=now()
    )
    try:
        write_atomically(folder.failure, failure.model_dump_json(indent=1))
    except SsaError:
        return UNWRITABLE
    return 1


def _die_with_parent(parent: int | None) -> None:
    """Ask Linux to end this process when its launcher dies, so that no orphan trains on.

    Args:
        parent: the launcher, which may have died during our imports; None: whoever it is now.
    """
    if sys.platform == "linux":
        parent = os.getppid() if parent is None else parent
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
