"""The command that trains one run, the same wherever it goes."""

from __future__ import annotations

from experiments.launch.launcher import Inputs, Resources
from experiments.machine import search_path
from experiments.plan.plan import PlannedRun
from experiments.store.store import Store

#: glibc gives large freed blocks back to the system and takes fresh, zeroed pages for the next
#: operation; keeping them saves up to a sixth of a training step on a CPU, for some memory, and
#: huge pages a thirtieth more
KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
MODULE = "experiments.train.attempt"
#: the folder in which frozen networks keep features (ssa/backbones/frozen.py)
FEATURES = "SSA_FEATURES"


def command(run: PlannedRun, inputs: Inputs, resources: Resources) -> tuple[str, ...]:
    """The training module and its arguments. Equal arguments give equal commands.

    Args:
        run: to be trained.
        inputs: what it reads, and the root of its results.
        resources: what it is given.
    """
    folder = Store(inputs.results).folder(run.spec.run_id)
    words = [MODULE, str(folder.path), "--data", str(inputs.data)]
    words += ["--weights", str(inputs.weights)] if inputs.weights else []
    words += [word for each in inputs.registry for word in ("--registry", str(each))]
    words += ["--device", resources.device, "--threads", str(resources.threads)]
    words += ["--remake"] if run.state == "remade" else []
    words += ["--workers", str(resources.loading.workers)]
    words += ["--checkpoint-every", str(resources.checkpoint_every_s)]
    words += ["--cache-images"] if resources.loading.cache_images else []
    words += ["--packed", str(resources.packed)] if resources.packed else []
    words += ["--processes", str(resources.processes)] if resources.processes > 1 else []
    return tuple(words)


def variables(resources: Resources) -> dict[str, str]:
    """What a training process needs in its environment beside what is there."""
    threads = str(resources.threads)
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's: nothing here multiplies with it
        "PYTHONPATH": search_path(),
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",  # what is killed leaves its last words in the log
        "PYTHONFAULTHANDLER": "1",
        **KEEP_PAGES,
        **({FEATURES: str(resources.features)} if resources.features else {}),
    }
