"""From a row, a profile and a seed to a fully resolved run, or to the reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from experiments.declare.figure import Figure
from experiments.declare.model import ModelCard
from experiments.declare.profile import DataChoice, Profile
from experiments.declare.protocol import NoProtocolError, Settings, settings_of
from experiments.declare.registry import ExperimentRegistry
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Row, Table
from experiments.declare.training import Evaluation, Training
from experiments.errors import SsaError, sentence_of
from experiments.plan.data import Located, absent, locate
from experiments.plan.one_image import one_image_fault
from experiments.store.workspace import Workspace
from ssa.errors import ConfigurationError
from ssa.models import PAPER_SIZE

T = TypeVar("T", Training, Evaluation)


@dataclass(frozen=True)
class Blocked:
    """A run that cannot be started, with the sentences that mend it."""

    reasons: tuple[str, ...]  # every one, data first
    draft: RunSpec | None = None  # what it would be, without the digests of what is missing

    @property
    def reason(self) -> str:
        """All reasons in one line."""
        return " ".join(self.reasons)


@dataclass(frozen=True)
class Resolver:
    """Resolves the rows of tables under one profile.

    Args:
        registry: where models are declared.
        profile: the size of everything.
        workspace: where the data is.
        deviations: from the profile's protocol, which this call was told to make.
        accumulation: micro-batches a step; None: as the profile has it.
        processes: that share a batch; decides whether a run can start, not what it is.
    """

    registry: ExperimentRegistry
    profile: Profile
    workspace: Workspace
    deviations: tuple[str, ...] = ()
    accumulation: int | None = None
    processes: int = 1

    def data_of(self, table: Table, row: Row) -> DataChoice:
        """The data set of a row: the profile's with the row's settings, or else the table's own."""
        own, chosen = str(row.dataset or table.dataset), self.profile.dataset
        if chosen is None:
            return DataChoice(name=own)
        if chosen.name != own or not row.dataset_settings:
            return chosen
        return chosen.model_copy(update={"settings": {**chosen.settings, **row.dataset_settings}})

    def unfit(self, table: Table, row: Row) -> str | None:
        """Why what a row sets means nothing in this profile, a sentence; None if it all does."""
        return (
            self._unfit_table(table)
            or self._unfit_data(table, row)
            or self._unfit_network(table, row)
            or self._unfit_weights(row)
        )

    def _unfit_table(self, table: Table) -> str | None:
        if table.is_for(self.profile.name):
            return None
        return (
            f"{table.name} asks about what the profile {self.profile.name} does not have; run it "
            f"with --profile {table.profiles[0]} ({', '.join(table.profiles)} have it)."
        )

    def _unfit_data(self, table: Table, row: Row) -> str | None:
        own, chosen = str(row.dataset or table.dataset), self.profile.dataset
        if not row.dataset_settings or (chosen is not None and chosen.name == own):
            return None
        where = chosen.name if chosen else "each table's own data set"
        return (
            f"The row sets {', '.join(row.dataset_settings)} of the data set {own}, but the "
            f"profile {self.profile.name} trains on {where}; run it with --profile quick."
        )

    def _unfit_network(self, table: Table, row: Row) -> str | None:
        own = self.registry.model(str(row.model or table.model))
        card = self.model_of(table, row)
        if card.name == own.name:
            return None
        instead = f"the profile {self.profile.name} trains {card.name} in place of every network"
        if not own.pixel_classifier:
            return (
                f"{own.name} decides by masks and takes no pixel classifier, but {instead}; run it "
                "with --profile quick."
            )
        strange = _first_strange(row.model_overrides, card.segmentor)
        if strange is None:
            return None
        return (
            f"The row sets {strange} of {own.name}, but {instead}, and that has no such setting; "
            "run it with --profile quick."
        )

    def _unfit_weights(self, row: Row) -> str | None:
        profile = self.profile
        if row.training.from_scratch is not False or profile.from_scratch:
            return None
        pretrained = profile.training is not None and not profile.training.from_scratch
        if profile.model_size == PAPER_SIZE or pretrained:  # its size fits them, as it says itself
            return None
        return (
            "The row starts from pretrained weights, which fit the full-size network only, but the "
            f"profile {profile.name} trains its size {profile.model_size}; run it with "
            "--profile ccp."
        )

    def unfit_figure(self, figure: Figure) -> str | None:
        """Why none of a figure's rows means anything in this profile; None if one does."""
        reasons = []
        for drawn in figure.rows:
            table = self.registry.table(drawn.table)
            reasons.append(self.unfit(table, table.row(drawn.row)))
        return reasons[0] if reasons and all(reasons) else None

    def model_of(self, table: Table, row: Row) -> ModelCard:
        """The model card of a row: the profile's network, or else the table's own."""
        return self.registry.model(str(self.profile.model or row.model or table.model))

    def resolve_seeds(
        self, table: Table, row: Row, seeds: Iterable[int]
    ) -> list[RunSpec | Blocked]:
        """:meth:`resolve` for several seeds: equal but for the random numbers."""
        found: list[RunSpec | Blocked] = []
        for seed in seeds:
            first = found[0] if found else self.resolve(table, row, seed)
            found.append(_reseeded(first, seed))
        return found

    def resolve(self, table: Table, row: Row, seed: int) -> RunSpec | Blocked:
        """The run behind one row and seed, or everything that keeps it from starting.

        Raises:
            ConfigurationError: its batch cannot be divided as this call wants it.
        """
        found = self._resolve(table, row, seed)
        if isinstance(found, Blocked):
            return found
        divided = self._divided(found)
        fault = one_image_fault(divided, self.processes)
        return Blocked((fault,), divided) if fault else divided

    def draft(self, table: Table, row: Row, seed: int = 0) -> RunSpec | None:
        """All that is known of a run before its data and weights are looked for.

        Only their digests are open. None: this profile cannot have the run, or nobody knows its
        data set.
        """
        choice, card = self.data_of(table, row), self.model_of(table, row)
        data = absent(choice, self.workspace)
        if data is None or self.unfit(table, row) or _open_rate(row):
            return None
        try:
            settings = self._settings(card, choice, row)
        except NoProtocolError:
            return None
        return self._spec(card, row, data, settings, seed)

    def _divided(self, spec: RunSpec) -> RunSpec:
        """The run with this call's number of micro-batches."""
        training = spec.training
        micro = self.accumulation or training.accumulation
        if training.batch % (micro * self.processes):
            raise ConfigurationError(
                f"A batch of {training.batch} images cannot be shared evenly by {self.processes} "
                f"GPUs in {micro} micro-batches each; choose --gpus and --accumulation so that "
                "their product divides it."
            )
        divided = training.model_copy(update={"accumulation": micro})
        return spec.model_copy(update={"training": divided})

    def _resolve(self, table: Table, row: Row, seed: int) -> RunSpec | Blocked:
        if reason := self.unfit(table, row) or _open_rate(row):
            return Blocked((reason,))
        reasons: list[str] = []
        choice, card = self.data_of(table, row), self.model_of(table, row)
        try:
            data: Located | None = locate(choice, self.workspace)
        except SsaError as error:
            reasons.append(sentence_of(error))
            data = absent(choice, self.workspace)
        try:
            settings = self._settings(card, choice, row)
        except NoProtocolError as error:
            return Blocked((*reasons, sentence_of(error)))
        sha256: str | None = None
        if weights := _weights(card, settings):
            try:
                sha256 = weights_sha256(weights, self.workspace.weights)
            except SsaError as error:
                reasons.append(sentence_of(error))
        if data is None:
            return Blocked(tuple(reasons))
        spec = self._spec(card, row, data, settings, seed, sha256)
        used = {"train": spec.training.train_split, "score": spec.evaluation.split}
        for purpose, split in used.items():
            if fault := data.fault(split, purpose):
                reasons.append(fault)
        if fault := self._spent(row, data, settings):
            reasons.append(fault)
        reasons = list(dict.fromkeys(reasons))
        return Blocked(tuple(reasons), spec) if reasons else spec

    def _spent(self, row: Row, data: Located, settings: Settings) -> str | None:
        """Why a row's own split is none to choose on; None: it is, or the row has none."""
        scored = _on_split(settings.evaluation, "split", data.evaluation_split).split
        if row.split not in (scored, settings.training.train_split):
            return None
        purpose = "scores" if row.split == scored else "trains"
        return (
            f"The row chooses on the split {row.split}, on which the profile {self.profile.name} "
            f"{purpose} as well; run it in a profile that does neither there."
        )

    def _settings(self, card: ModelCard, choice: DataChoice, row: Row) -> Settings:
        """How a row is trained and scored: the profile's or the protocol's way, with its changes.

        Raises:
            NoProtocolError: the profile names protocols, but none for these two.
        """
        settings = settings_of(self.registry, self.profile, card.name, choice.name)
        changes = row.training
        if self.profile.from_scratch:  # the call's word, which no row overrules
            changes = changes.model_copy(update={"from_scratch": None})
        return replace(settings, training=changes.applied(settings.training))

    def _spec(
        self,
        card: ModelCard,
        row: Row,
        data: Located,
        settings: Settings,
        seed: int,
        sha256: str | None = None,
    ) -> RunSpec:
        """Put a run together; this call's deviations come on top of the protocol's."""
        from ssa.models import build_segmentor_config

        profile = self.profile
        classifier = resolve_classifier(row, profile)
        segmentor = build_segmentor_config(
            card.model_dump(),
            classifier=classifier,
            num_classes=data.num_classes,
            size=profile.model_size,
            model_overrides=row.model_overrides,
            sync_norm=profile.sync_norm,
        )
        return RunSpec(
            model=card.name,
            model_size=profile.model_size,
            segmentor=segmentor,
            classifier=classifier,
            dataset=data.name,
            dataset_digest=data.digest,
            dataset_settings=data.settings,
            working_size=data.working_size,
            num_classes=data.num_classes,
            weights=_weights(card, settings),
            weights_sha256=sha256,
            training=_on_split(settings.training, "train_split", data.training_split),
            evaluation=_scored_on(row, settings.evaluation, data.evaluation_split),
            profile=profile.name,
            seed=seed,
            deviations=(*settings.sentences, *self.deviations),
        )


def _first_strange(overrides: Mapping[str, Any], segmentor: Mapping[str, Any]) -> str | None:
    """The first setting among ``overrides``, by its path, that ``segmentor`` does not have."""
    for key, value in overrides.items():
        if key not in segmentor:
            return key
        if isinstance(value, Mapping) and isinstance(segmentor[key], Mapping):
            below = _first_strange(value, segmentor[key])
            if below is not None:
                return f"{key}.{below}"
    return None


def _on_split(settings: T, field: str, split: str) -> T:
    """The settings on the data set's own split, unless a profile or protocol names one."""
    if field in settings.model_fields_set:
        return settings
    return settings.model_copy(update={field: split})


def _scored_on(row: Row, evaluation: Evaluation, split: str) -> Evaluation:
    """The evaluation on a row's own split, or else the profile's, or else the data set's."""
    if row.split is not None:
        return evaluation.model_copy(update={"split": row.split})
    return _on_split(evaluation, "split", split)


def _open_rate(row: Row) -> str | None:
    """Why a row's rate is not known yet, a sentence; None: it is."""
    if not row.rate_from or row.training.lr_times is not None:
        return None
    return f"Its rate is chosen from the scores of {', '.join(row.rate_from)}."


def _weights(card: ModelCard, settings: Settings) -> str | None:
    """The pretrained file that a run starts from; None: from scratch."""
    return None if settings.training.from_scratch else card.weights


def _reseeded(found: RunSpec | Blocked, seed: int) -> RunSpec | Blocked:
    """The same run with another seed; of a blocked one, its draft."""
    if isinstance(found, RunSpec):
        return found if found.seed == seed else found.model_copy(update={"seed": seed})
    if found.draft is None:
        return found
    return replace(found, draft=found.draft.model_copy(update={"seed": seed}))


@lru_cache(maxsize=32)
def weights_sha256(name: str, root: Path) -> str:
    """Digest of a pretrained file.

    Raises:
        SsaError: it is not there or not the published one; the sentence says where to get it.
    """
    from ssa.released.manifest import require_weights, sha256_of

    return sha256_of(require_weights(name, root))


def resolve_classifier(row: Row, profile: Profile | None = None) -> dict[str, Any]:
    """Name and every switch of a row's classifier, so that a changed default changes the run.

    Args:
        row: which classifier, preset and switches.
        profile: may scale switches down; None: at the paper's size. The row's own come first.

    Raises:
        UnknownNameError: no such classifier or preset.
        ConfigurationError: no such switch, or an invalid combination.
    """
    from ssa.classifiers.catalogue import config_class
    from ssa.models import NO_CLASSIFIER

    choice = row.classifier
    if choice.name == NO_CLASSIFIER:
        return {"name": NO_CLASSIFIER, "overrides": {}}
    config = config_class(choice.name)
    preset = choice.preset or config.default_preset
    scaled = profile.classifier_overrides.get(choice.name, {}) if profile else {}
    filled = config.preset(preset, **{**scaled, **choice.overrides})
    return {"name": choice.name, "overrides": filled.model_dump(mode="json")}
