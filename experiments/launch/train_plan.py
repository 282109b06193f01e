"""The missing runs of a plan, trained where the request says."""

from __future__ import annotations

from functools import partial

from experiments.declare.profile import DataChoice
from experiments.declare.run_spec import RunSpec
from experiments.launch.crew import Outcome, Watcher, launch
from experiments.launch.launcher import Inputs, Launcher
from experiments.launch.local import LocalLauncher, LocalOptions
from experiments.machine import num_devices
from experiments.plan.data import locate
from experiments.plan.plan import Plan
from experiments.plan.request import Request
from ssa.datasets.base import DataError


def train_plan(request: Request, plan: Plan, watcher: Watcher) -> list[Outcome]:
    """Train the missing runs of a plan; the watcher is told how far they are.

    Raises:
        SsaError: the cluster that the request names cannot be used.
    """
    launcher = launcher_of(request)
    return launch(plan.to_do, request.store, partial(inputs_of, request), launcher, watcher)


def launcher_of(request: Request) -> Launcher:
    """Where the runs of a request go.

    Raises:
        SsaError: the cluster that it names cannot be used.
    """
    loading = request.profile.loading
    packed = request.workspace.cache / "packed" if loading.packed else None
    features = request.workspace.cache / "features"
    if request.launcher == "slurm":
        from experiments.launch.slurm import SlurmLauncher, SlurmOptions

        cluster = SlurmOptions(
            profile=request.profile,
            jobs=request.jobs,
            device=request.device,
            gpus=request.gpus,
            packed=packed,
            features=features,
            given=dict(request.cluster),
        )
        return SlurmLauncher(cluster, request.store)
    options = LocalOptions(
        jobs=request.jobs,
        device=request.device,
        num_devices=num_devices(request.device),
        loading=loading,
        processes=request.gpus,
        packed=packed,
        features=features,
    )
    return LocalLauncher(options)


def inputs_of(request: Request, spec: RunSpec) -> Inputs:
    """What a run reads, looked at again: a plan may be hours old when its run begins.

    Raises:
        SsaError: it is gone, or no longer what the plan said.
    """
    choice = DataChoice(name=spec.dataset, settings=spec.dataset_settings)
    data = locate(choice, request.workspace, anew=True)
    if data.digest != spec.dataset_digest:
        raise DataError(
            f"The files of the data set {spec.dataset} in {data.root} have changed since this call "
            "began; give the same command again, which plans the runs with what is there now."
        )
    weights = None
    if spec.weights is not None:
        from ssa.released.manifest import require_weights

        weights = require_weights(spec.weights, request.workspace.weights)
    return Inputs(data.root, weights, request.registry.folders)
