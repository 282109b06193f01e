"""What can be declared: tables, rows, models, profiles; and what a run is when all is resolved.

Everything here is frozen and refuses unknown fields, so that a typo in a declarative file is an
error with a name and not a silent default. Units stand in the field names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

METRICS = ("params_m", "macs_g", "macs_all_g", "latency_ms", "miou")
Metric = Literal["params_m", "macs_g", "macs_all_g", "latency_ms", "miou"]


class Declared(BaseModel):
    """Base of all declared things: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def plain_name(value: str) -> str:
    """``value`` if it can stand in the name of a file; ValueError if not."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
        raise ValueError(f"the name '{value}' must be letters, digits, _ . - only")
    return value


def unless_none(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` without the field ``name`` where it is None.

    For a field that came later than the first runs: their identities must not know of it.
    """
    return {key: value for key, value in fields.items() if key != name or value is not None}


class Reported(Declared):
    """The paper's own numbers for one row; None where the paper prints none."""

    miou: float | None = None  # percent, single scale
    params_m: float | None = None  # millions
    macs_g: float | None = None  # 1e9 multiply-accumulates
    latency_ms: float | None = None  # milliseconds on a V100 at 512×512
    gain: float | None = None  # percent points, as the paper prints it


class ClassifierChoice(Declared):
    """Which pixel classifier, from which preset, with which switches changed."""

    name: str
    preset: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)


class Row(Declared):
    """One row of a table on one data set."""

    id: str
    label: str  # as the paper prints it
    classifier: ClassifierChoice
    model: str | None = None  # None: the table's
    dataset: str | None = None  # None: the table's
    model_overrides: dict[str, Any] = Field(default_factory=dict)  # merged into the segmentor
    #: of the data set, over the profile's; only where the profile trains on that data set
    dataset_settings: dict[str, Any] = Field(default_factory=dict)
    reported: Reported = Reported()
    readme: Reported | None = None  # the released code's README, where it differs from the paper
    gain_over: str | None = None  # row id of the baseline; None: the table's first row
    reading: str | None = None  # footnote where the paper is ambiguous
    notes: dict[Metric, str] = Field(default_factory=dict)  # why a number differs from the paper's
    #: which of our counts the printed MACs are: by hooks on modules, or of every product
    macs_printed: Literal["macs_g", "macs_all_g"] = "macs_g"
    counted_with: dict[Literal["size", "num_classes"], int] = Field(
        default_factory=dict
    )  # where the paper's count was made with another input or number of classes
    group: str | None = None  # heading that rows share in the paper's layout

    @field_validator("id")
    @classmethod
    def _slug(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9_.-]+", value):
            raise ValueError(f"row id '{value}' must be lower-case letters, digits, _ . -")
        return value


#: two row ids: what is counted over what
Pair = tuple[str, str]


class Stated(Declared):
    """A sentence that a table is to bear out. Which test it gets is its kind: docs/claims.md."""

    id: str
    text: str  # our own words
    where: str  # which part of the paper says so, or that it is ours

    @property
    def named(self) -> frozenset[str]:
        """Ids of the rows that are named; without any the table's own rows are meant."""
        raise NotImplementedError


class GainClaim(Stated):
    """Every pair's first row has more mIoU than its second by more than ``at_least``."""

    kind: Literal["gain"]
    pairs: tuple[Pair, ...] = ()  # none: every row over its baseline
    at_least: float = 0.0  # percent points

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset(row for pair in self.pairs for row in pair)


class BestClaim(Stated):
    """One row has more mIoU than each of the others."""

    kind: Literal["best"]
    row: str
    among: tuple[str, ...] = ()  # none: every other row

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset((self.row, *self.among))


class WithinClaim(Stated):
    """No row's mIoU lies further from one row's than ``points``."""

    kind: Literal["within"]
    row: str
    points: float = Field(gt=0)  # percent points
    among: tuple[str, ...] = ()  # none: every other row

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset((self.row, *self.among))


class ReachClaim(Stated):
    """A row's validation curve reaches another's final mIoU in that share of its iterations."""

    kind: Literal["reach"]
    row: str
    over: str
    within: float = Field(gt=0, le=1)  # share of the other's iterations

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset((self.row, self.over))


class ShareClaim(Stated):
    """Of one gain, another is more than a share."""

    kind: Literal["share"]
    part: Pair
    whole: Pair
    at_least: float  # share

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset((*self.part, *self.whole))


class TrendPoint(Declared):
    """A gain at one strength of something."""

    at: float
    pair: Pair


#: fewer gains make no trend
FEWEST_POINTS = 3


class TrendClaim(Stated):
    """A gain grows with something."""

    kind: Literal["trend"]
    points: tuple[TrendPoint, ...] = Field(min_length=FEWEST_POINTS)
    along: str  # what grows, in a word

    @field_validator("points")
    @classmethod
    def _spread(cls, points: tuple[TrendPoint, ...]) -> tuple[TrendPoint, ...]:
        if len({point.at for point in points}) < 2:
            raise ValueError("a trend needs points at two places at least")
        return points

    @property
    def named(self) -> frozenset[str]:
        """See :class:`Stated`."""
        return frozenset(row for point in self.points for row in point.pair)


Claim = Annotated[
    GainClaim | BestClaim | WithinClaim | ReachClaim | ShareClaim | TrendClaim,
    Field(discriminator="kind"),
]


class Layout(Declared):
    """The columns of a table as the paper prints it; rows of one network share a line."""

    heading: str = "Method"  # of the first column
    #: heading → switch of the classifier, printed in place of the label
    switches: dict[str, str] = Field(default_factory=dict)
    backbone: bool = False  # printed beside the label
    columns: tuple[str, ...]  # a metric, or <data set>.<metric>

    @field_validator("columns")
    @classmethod
    def _metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for column in value:
            if column.rpartition(".")[2] not in METRICS:
                raise ValueError(f"column '{column}' ends in no metric: {', '.join(METRICS)}")
        return value


class Table(Declared):
    """A table of the paper, or a study declared like one."""

    name: str
    title: str
    source: str  # where the reported numbers stand
    rows: tuple[Row, ...]
    model: str | None = None
    dataset: str | None = None
    columns: tuple[Metric, ...] = ("miou",)
    layout: Layout | None = None  # the paper's own; None: label and ``columns``
    params_num_classes: int | None = None  # where parameters are printed once for all data sets
    description: str = ""
    claims: tuple[Claim, ...] = ()  # what the table is to show; each gets a verdict

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return plain_name(value)

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        ids = [row.id for row in self.rows]
        twice = sorted({row_id for row_id in ids if ids.count(row_id) > 1})
        if twice:
            raise ValueError(f"row id '{twice[0]}' stands twice in {self.name}")
        for row in self.rows:
            if row.gain_over is not None and row.gain_over not in ids:
                raise ValueError(f"row '{row.id}' of {self.name}: no row '{row.gain_over}'")
            if (row.model or self.model) is None or (row.dataset or self.dataset) is None:
                raise ValueError(f"row '{row.id}' of {self.name} names no model or no data set")
        names = [claim.id for claim in self.claims]
        for claim in self.claims:
            if names.count(claim.id) > 1:
                raise ValueError(f"claim '{claim.id}' stands twice in {self.name}")
            for row_id in sorted(claim.named - set(ids)):
                raise ValueError(f"claim '{claim.id}' of {self.name}: no row '{row_id}'")
        return self

    def row(self, row_id: str) -> Row:
        """The row ``row_id``; KeyError if there is none."""
        return next(row for row in self.rows if row.id == row_id)

    def baseline_of(self, row: Row) -> Row:
        """The row over which the gain of ``row`` is counted."""
        return self.row(row.gain_over) if row.gain_over else self.rows[0]


class ModelCard(Declared):
    """A network: mmsegmentation's config at the paper's size and the same, smaller."""

    name: str
    title: str  # as the paper writes it
    backbone: str
    source: str
    segmentor: dict[str, Any]
    adapted: dict[str, Any] = Field(default_factory=dict)  # merged where it is not softmax
    sizes: dict[str, dict[str, Any]] = Field(default_factory=dict)  # merged for that size
    weights: str | None = None  # entry of ssa/weights.yaml
    pixel_classifier: bool = True  # False: a mask classifier, which takes none


class Optimizer(Declared):
    """AdamW or SGD and its groups, in mmengine's terms."""

    type: Literal["AdamW", "SGD"]
    lr: float
    weight_decay: float
    betas: tuple[float, float] | None = None
    momentum: float | None = None
    paramwise: dict[str, Any] = Field(default_factory=dict)
    grad_clip_norm: float | None = None
    constructor: str | None = None  # of the groups, if not mmengine's own: LayerDecay

    @model_serializer(mode="wrap")
    def _without_default(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """See :func:`unless_none`."""
        return unless_none("constructor", plain(self))


class Schedule(Declared):
    """Polynomial decay, or half a cosine, after a linear warm-up, by iteration."""

    power: float = 1.0  # of the polynomial
    min_lr: float = 0.0
    warmup_iterations: int = 0
    warmup_ratio: float = 1e-6
    cosine_to: float | None = None  # share of the rate at the end of a cosine; None: polynomial

    @model_serializer(mode="wrap")
    def _without_default(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """See :func:`unless_none`."""
        return unless_none("cosine_to", plain(self))


class Augmentation(Declared):
    """The training pipeline: resize, crop, flip, photometric distortion."""

    scale: tuple[int, int]  # (long side, short side) in pixels before the ratio
    ratio_range: tuple[float, float]
    crop: tuple[int, int]  # (height, width) in pixels
    cat_max_ratio: float = 0.75  # largest share of a crop that one class may take
    flip: float = 0.5  # probability
    photometric: bool = True


class Training(Declared):
    """How a run is trained."""

    iterations: int
    batch: int  # images an optimiser step, over all devices and micro-batches
    accumulation: int = 1  # micro-batches a step on one device
    optimizer: Optimizer
    schedule: Schedule
    augmentation: Augmentation
    amp: bool = False  # mixed precision, on a GPU only
    channels_last: bool = False  # memory layout of the network; another order of summation
    from_scratch: bool = True  # no pretrained weights
    train_split: str = "train"

    @model_validator(mode="after")
    def _divides(self) -> Training:
        if self.batch % self.accumulation:
            raise ValueError(
                f"batch {self.batch} is not a multiple of accumulation {self.accumulation}"
            )
        return self


class Evaluation(Declared):
    """How a run is scored: single scale, labels at original size."""

    interval: int  # iterations between two points of the validation curve
    split: str = "val"
    scale: tuple[int, int] | None = None  # (long, short); None: the image's own size
    multiple_of: int | None = None  # resize to a multiple of this (ADE20K's protocol: 32)
    batch: int = 1
    mode: Literal["whole", "slide"] = "whole"
    crop: tuple[int, int] | None = None  # of a sliding window
    stride: tuple[int, int] | None = None


class DataChoice(Declared):
    """A data set and the settings that make it (scenes) or read it (reduced size)."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    working_size: tuple[int, int] | None = None  # (long, short): reduce every image once to fit


class Loading(Declared):
    """How images are loaded; changes speed, never a pixel."""

    workers: int = 0  # processes
    cache_images: bool = False  # keep decoded images in memory: small data sets
    packed: bool = False  # decode every split once into a memory-mapped file: large data sets


class Deviation(Declared):
    """One field in which a protocol knowingly differs from its source."""

    field: str  # as the source calls it
    ours: str
    theirs: str
    why: str
    datasets: tuple[str, ...] = ()  # where it holds; none named: everywhere
    changes_results: bool = True  # False: bookkeeping, which no record needs to mention

    @property
    def sentence(self) -> str:
        """As a record carries it."""
        return f"{self.field}: {self.ours} (source: {self.theirs})"


class ProtocolPart(Declared):
    """What a protocol says in general or of one data set; merged before it is checked."""

    training: dict[str, Any] = Field(default_factory=dict)  # fields of Training
    evaluation: dict[str, Any] = Field(default_factory=dict)  # fields of Evaluation


class Protocol(ProtocolPart):
    """How the networks of a family were published to be trained and scored, by data set."""

    name: str
    title: str
    source: str  # where these settings are published
    extends: str | None = None  # the protocol that this one is laid over
    datasets: dict[str, ProtocolPart] = Field(default_factory=dict)
    unpublished: dict[str, str] = Field(default_factory=dict)  # data set → why it has none here
    deviations: tuple[Deviation, ...] = ()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return plain_name(value)


class CostBasis(Declared):
    """What an estimate of GPU-hours rests on."""

    device: str
    tmacs_per_s: float = Field(gt=0)  # 1e12 multiply-accumulates a second, sustained
    passes: float = Field(default=3.0, gt=0)  # work of a training step in forward passes
    basis: str  # why that much


class Profile(Declared):
    """One size of everything; it changes size, not path."""

    name: str
    title: str
    description: str
    dataset: DataChoice | None  # replaces every table's data set; None: the table's own
    model_size: str  # a key of ModelCard.sizes, or "paper"
    seeds: int = 3
    #: classifier → switches that are scaled down with the network (memories)
    classifier_overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    compares_with_paper: bool = False  # only the paper's own protocol is ever compared
    loading: Loading = Loading()
    training: Training | None = None  # of every run; None: by ``protocols``
    evaluation: Evaluation | None = None
    protocols: dict[str, str] = Field(default_factory=dict)  # model → its protocol
    sync_norm: bool = False  # keep SyncBN where a network has it; in one process it is BN
    from_scratch: bool = False  # do without pretrained weights, whatever the protocols say
    cost: CostBasis | None = None  # for an estimate where nothing like it has been run

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return plain_name(value)

    @model_validator(mode="after")
    def _one_way(self) -> Profile:
        given = [self.training is not None, self.evaluation is not None]
        if self.protocols and any(given):
            raise ValueError("name protocols, or one training and evaluation, not both")
        if not self.protocols and not all(given):
            raise ValueError("training and evaluation are needed where no protocols are named")
        return self


class RunSpec(Declared):
    """Everything that decides what a run computes. Its hash is the run's identity."""

    model: str
    model_size: str
    segmentor: dict[str, Any]  # mmengine config, classifier included, norms as built
    classifier: dict[str, Any]  # name and every switch, resolved
    dataset: str
    dataset_digest: str
    dataset_settings: dict[str, Any]
    working_size: tuple[int, int] | None
    num_classes: int
    weights: str | None  # entry of ssa/weights.yaml; None: from scratch
    weights_sha256: str | None
    training: Training
    evaluation: Evaluation
    profile: str
    seed: int
    deviations: tuple[str, ...] = ()  # from the profile's protocol, in plain words

    def canonical(self) -> str:
        """One line of JSON with sorted keys: equal specs give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @cached_property
    def run_id(self) -> str:
        """``<model>-<classifier>-<data>-<profile>-s<seed>-<12 digits of the spec's sha256>``."""
        digest = hashlib.sha256(self.canonical().encode()).hexdigest()[:12]
        name = self.classifier["name"]
        return f"{self.model}-{name}-{self.dataset}-{self.profile}-s{self.seed}-{digest}"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunSpec:
        """A changed copy; pydantic would copy the remembered identity as well."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("run_id", None)
        return copied
