"""A finished run scored anew under another evaluation protocol, beside its record.

::

    results/runs/<run id>/evaluations/<protocol>.json   scores and where they came from, sealed
                                      <protocol>.npz    areas per image and class

The network is not trained again: the weights kept beside the record are scored by the loop and the
metric that scored them in training. ``stock`` is mmsegmentation's own test pipeline; ``released``
is that of SSA-Seg's configurations, which resize ADE20K's images (and all of ViT-Adapter's) to a
multiple of 32.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments.declare.profile import DataChoice
from experiments.declare.protocol import NoProtocolError, settings_of
from experiments.declare.registry import ExperimentRegistry
from experiments.declare.run_spec import RunSpec
from experiments.declare.training import Evaluation, ProtocolName
from experiments.errors import CorruptRecordError, SsaError, UnknownNameError
from experiments.files import read_bounded, write_atomically
from experiments.plan.data import locate
from experiments.store.areas import ImageAreas, per_class_iou, scores
from experiments.store.records import Environment, Record, Scores, Stored, seal, unseal
from experiments.store.store import MOST_OF_A_RECORD, Store
from experiments.store.workspace import Workspace
from ssa.released.manifest import sha256_of

RESCORE_VERSION = 1
#: to what the release's file for ADE20K resizes
MULTIPLE = 32
#: the profile whose protocols are the released ones
RELEASED_PROFILE = "paper"
#: what those share
RELEASED_BASE = "released"


class RescoreError(SsaError):
    """A run that cannot be scored anew."""


class Rescore(Stored):
    """The scores of one run under one protocol."""

    version: int
    run_id: str
    result_digest: str  # of the record whose network this is
    protocol: str
    evaluation: Evaluation  # the protocol in full
    scores: Scores
    per_class_iou: tuple[float | None, ...]  # percent; None where the class never occurs
    num_images: int
    per_image_sha256: str  # of the npz beside it
    areas_digest: str  # sha256 of names and counts
    dataset_digest: str
    weights_sha256: str  # of the trained network's file
    evaluate_s: float
    environment: Environment
    finished: str  # ISO 8601, UTC


def evaluation_under(
    registry: ExperimentRegistry, spec: RunSpec, protocol: ProtocolName
) -> Evaluation:
    """How ``spec`` would be scored under ``protocol``: its own way, but for the multiple.

    For a data set that the release has no configuration of, ``released`` resizes to a multiple of
    32, as for ADE20K.
    """
    multiple: int | None = None
    if protocol is ProtocolName.released:
        profile = registry.profile(RELEASED_PROFILE)
        try:
            settings = settings_of(registry, profile, spec.model, spec.dataset)
            multiple = settings.evaluation.multiple_of
        except NoProtocolError:  # what the release does for this data set, whatever the network
            known = registry.protocol(RELEASED_BASE).datasets.get(spec.dataset)
            multiple = known.evaluation.get("multiple_of") if known else MULTIPLE
    return spec.evaluation.model_copy(update={"multiple_of": multiple})


def find_run(store: Store, reference: Store | None, run_id: str) -> Record:
    """The record of a finished run.

    Raises:
        UnknownNameError: no such run; proposes the nearest.
        RescoreError: it is one of the shipped records, which have no weights.
    """
    record = store.read(run_id) if run_id in store.run_ids() else None
    if record is not None:
        return record
    if reference is not None and run_id in reference.run_ids():
        raise RescoreError(
            f"{run_id} is a record that the project ships, without weights; train it here first "
            f"(the command of its table with --profile {run_id.split('-')[-3]})."
        )
    raise UnknownNameError("finished run", run_id, store.run_ids())


def rescore(
    record: Record,
    protocol: ProtocolName,
    *,
    registry: ExperimentRegistry,
    store: Store,
    workspace: Workspace,
    device: str = "cpu",
) -> Rescore:
    """Score a finished run under ``protocol`` and keep the result beside its record.

    Raises:
        MissingWeightsError: the trained network is not there.
        RescoreError: the data are not those that the run was scored on.
        StoreError: the disk is full or may not be written.
    """
    from experiments.store.provenance import environment, remember_code
    from experiments.store.records import now
    from experiments.train.trained import load_trained

    remember_code(registry.folders)  # what is imported from here on
    spec = record.spec
    data = locate(DataChoice(name=spec.dataset, settings=spec.dataset_settings), workspace)
    if data.digest != spec.dataset_digest:
        raise RescoreError(
            f"{data.root} does not hold the images that {record.run_id} was trained and scored on "
            "(another digest); give the right folder by --data-root."
        )
    _as_in_training(device, record)
    network = load_trained(record, store, device, registry.folders)
    changed = evaluation_under(registry, spec, protocol)
    with tempfile.TemporaryDirectory(prefix="ssa-rescore-") as work:
        runner = _runner(spec.model_copy(update={"evaluation": changed}), network, data.root, work)
        runner.val()
    loop: Any = runner.val_loop
    areas: ImageAreas = loop.evaluator.metrics[0].areas
    iou = per_class_iou(areas)
    content = areas.to_bytes()
    result = Rescore(
        version=RESCORE_VERSION,
        run_id=record.run_id,
        result_digest=record.result_digest,
        protocol=protocol.value,
        evaluation=changed,
        scores=scores(areas),
        per_class_iou=tuple(None if value != value else float(value) for value in iou),
        num_images=len(areas.names),
        per_image_sha256=hashlib.sha256(content).hexdigest(),
        areas_digest=areas.digest(),
        dataset_digest=spec.dataset_digest,
        weights_sha256=sha256_of(store.folder(record.run_id).weights),
        evaluate_s=loop.evaluate_s,
        environment=environment(
            [*network.modules(), loop.dataloader.dataset], device, runner.cfg.to_dict()
        ),
        finished=now(),
    )
    path = path_of(store, record.run_id, protocol)
    write_atomically(path.with_suffix(".npz"), content)
    write_atomically(path, seal(result.model_dump(mode="json")))
    return result


def path_of(store: Store, run_id: str, protocol: ProtocolName) -> Path:
    """Where the result is kept."""
    return store.folder(run_id).path / "evaluations" / f"{protocol.value}.json"


def read_rescore(store: Store, run_id: str, protocol: ProtocolName) -> Rescore | None:
    """What :func:`rescore` kept, or None.

    Raises:
        CorruptRecordError: it or its areas are truncated or changed.
    """
    path = path_of(store, run_id, protocol)
    if not path.exists():
        return None
    try:
        result = Rescore.model_validate(unseal(read_bounded(path, MOST_OF_A_RECORD).decode()))
        whole = sha256_of(path.with_suffix(".npz")) == result.per_image_sha256
    except (OSError, ValueError, ValidationError) as error:
        raise CorruptRecordError(
            f"{path} is damaged ({str(error).splitlines()[0]}); give the command again."
        ) from None
    if not whole:
        raise CorruptRecordError(f"The areas beside {path} are damaged; give the command again.")
    return result


def _as_in_training(device: str, record: Record) -> None:
    """The switches under which a training process scores; float sums depend on the threads."""
    import torch

    if device == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_num_threads(record.environment.threads)


def _runner(spec: RunSpec, network: Any, root: Path, work: str) -> Any:
    """mmengine's Runner with the training's evaluation loop and nothing to train."""
    from mmengine.runner import Runner

    from experiments.train.config import Surroundings, runner_config
    from experiments.train.plain_config import PlainConfig

    here = Path(work)
    device = next(network.parameters()).device.type
    around = Surroundings(here, root, here / "progress", here / "checkpoint", device=device)
    config = runner_config(spec, around)
    for name in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "model"):
        del config[name]
    config |= {"custom_hooks": [], "load_from": None, "resume": False, "log_level": "ERROR"}
    return Runner(model=network, cfg=PlainConfig(config), **config)
