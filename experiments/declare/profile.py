"""Sizes of everything (profiles), and how networks were published to be trained (protocols)."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from experiments.declare.base import Declared, PlainName
from experiments.declare.training import Evaluation, Pixels, Training


class DataChoice(Declared):
    """A data set and the settings that make it (scenes) or read it (reduced size)."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    working_size: Pixels | None = None  # (long, short): reduce every image once to fit


class Loading(Declared):
    """How images are loaded; changes speed, never a pixel."""

    workers: NonNegativeInt = 0  # processes
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

    name: PlainName
    title: str
    source: str  # where these settings are published
    extends: str | None = None  # the protocol that this one is laid over
    datasets: dict[str, ProtocolPart] = Field(default_factory=dict)
    unpublished: dict[str, str] = Field(default_factory=dict)  # data set → why it has none here
    deviations: tuple[Deviation, ...] = ()


class CostBasis(Declared):
    """What an estimate of GPU-hours rests on."""

    device: str
    tmacs_per_s: float = Field(gt=0)  # 1e12 multiply-accumulates a second, sustained
    passes: float = Field(default=3.0, gt=0)  # work of a training step in forward passes
    basis: str  # why that much


class Profile(Declared):
    """One size of everything; it changes size, not path."""

    name: PlainName
    title: str
    description: str
    dataset: DataChoice | None  # replaces every table's data set; None: the table's own
    model: str | None = None  # replaces every table's network; None: the table's own
    model_size: str  # a key of ModelCard.sizes, or "paper"
    seeds: PositiveInt = 3
    #: classifier → switches that are scaled down with the network (memories)
    classifier_overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    compares_with_paper: bool = False  # only the paper's own protocol is ever compared
    loading: Loading = Loading()
    training: Training | None = None  # of every run; None: by ``protocols``
    evaluation: Evaluation | None = None
    protocols: dict[str, str] = Field(default_factory=dict)  # model → its protocol
    sync_norm: bool = False  # keep SyncBN where a network has it; in one process it is BN
    from_scratch: bool = False  # do without pretrained weights, whatever the protocols say
    run_s: PositiveFloat | None = None  # of a run on one thread, where no record tells its length
    cost: CostBasis | None = None  # for an estimate where nothing like it has been run

    @model_validator(mode="after")
    def _one_way(self) -> Profile:
        given = [self.training is not None, self.evaluation is not None]
        if self.protocols and any(given):
            raise ValueError("name protocols, or one training and evaluation, not both")
        if not self.protocols and not all(given):
            raise ValueError("training and evaluation are needed where no protocols are named")
        return self
