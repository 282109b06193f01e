"""What the report shows, typed and plain: equal records give equal data, whatever the day.

Every class here is frozen and made of numbers, texts and tuples, so that the whole is JSON as it
stands. Units are in the field names; nothing is rounded or formatted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

#: where the runs behind one row of a table stand, from best to worst
RowState = Literal["measured", "partial", "stale", "missing", "failed", "blocked"]


@dataclass(frozen=True)
class VerdictView:
    """One word and why."""

    word: str
    reason: str


@dataclass(frozen=True)
class NumberView:
    """A number of ours beside the paper's."""

    measured: float | None
    reported: float | None
    verdict: VerdictView
    note: str | None  # why they differ


@dataclass(frozen=True)
class SpreadView:
    """mIoU over the seeds of a row, percent."""

    median: float
    low: float
    high: float
    num_seeds: int


@dataclass(frozen=True)
class GainView:
    """Gain over the baseline with its 95 % interval, percent points of mIoU."""

    value: float
    low: float
    high: float
    num_seeds: int
    num_images: int
    p_value: float  # two-sided, dual to the interval


@dataclass(frozen=True)
class RowView:
    """One row of a table in one profile."""

    id: str
    label: str
    model: str
    paper_dataset: str
    dataset: str
    baseline: str | None  # id of the row it is compared with; None: it is the baseline
    state: RowState
    miou: SpreadView | None
    gain: GainView | None
    reported_miou: float | None
    reported_gain: float | None
    readme_miou: float | None  # the released code's README, where it differs from the paper
    reference_miou: float | None
    versus_paper: VerdictView
    versus_reference: VerdictView
    counts: dict[str, NumberView]  # metric → number, of the table's columns but mIoU
    latencies: tuple[str, ...]  # measured ratios of the row's network, each with its device
    notes: tuple[str, ...]  # how the paper was read
    absent: tuple[str, ...]  # why seeds have no record
    stale: tuple[str, ...]  # what changed since a record was made
    runs: tuple[str, ...]  # run ids in the order of their seeds
    commands: tuple[str, ...]  # that train this row anew, in order


@dataclass(frozen=True)
class TableView:
    """A table in one profile."""

    name: str
    title: str
    source: str
    description: str
    of_paper: bool  # False: a study of ours
    short: str  # "Table 8", "Controls"
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    seed_deviation: float | None
    rows: tuple[RowView, ...]
    texts: dict[str, str]  # "LaTeX", "CSV": the table as it is exported


@dataclass(frozen=True)
class ProfileView:
    """One size of everything, with every table at that size."""

    name: str
    title: str
    description: str
    comparable: bool  # whether its mIoU is compared with the paper's
    num_runs: int  # records of this profile in the store
    tables: tuple[TableView, ...]


@dataclass(frozen=True)
class RunView:
    """One record."""

    run_id: str
    profile: str
    model: str
    classifier: str
    dataset: str
    seed: int
    stale: str  # what changed since; empty: nothing did
    used: bool  # whether a row of a shown table asks for it
    miou: float
    aacc: float
    macc: float
    per_class_iou: tuple[float | None, ...]
    classes: str  # key of ReportData.classes
    curve: tuple[tuple[int, float], ...]  # (iteration, mIoU in percent)
    num_images: int
    config: str  # key of ReportData.configs
    total_s: float
    iteration_ms: float
    peak_memory_mb: float
    device: str
    torch: str
    python: str
    git_commit: str | None
    git_dirty: bool | None
    code_digest: str
    dataset_digest: str
    result_digest: str
    started: str
    finished: str
    resumed_at: tuple[int, ...]
    deviations: tuple[str, ...]


@dataclass(frozen=True)
class ClaimView:
    """A sentence that a table is to bear out, tested on the runs of one profile."""

    id: str
    table: str
    profile: str
    text: str
    where: str  # which part of the paper says so, or that it is ours
    word: str  # holds, does not hold, undecided
    reason: str
    numbers: str  # value, unit and interval; empty: there are none
    num_seeds: int


@dataclass(frozen=True)
class FigureView:
    """A figure in one profile, drawn or not."""

    name: str
    anchor: str  # as a deep link names it: figure04
    title: str
    source: str
    profile: str
    of_paper: bool
    caption: str
    picture: str | None  # data URI; None: not drawn
    width: int  # pixels
    height: int
    stale: str  # which of its runs were made again since it was drawn; empty: none
    blocked: str  # why it cannot be drawn in this profile; empty: it can
    command: str  # that draws it


#: what a picture of a scene is
LayerKind = Literal["image", "truth", "baseline", "ours", "other"]


@dataclass(frozen=True)
class LayerView:
    """One picture of a scene."""

    id: str
    kind: LayerKind
    title: str
    picture: str  # key of ReportData.pictures
    run_id: str | None  # whose prediction it is
    correct: float | None  # share of labelled pixels, percent
    veil: str | None  # key of ReportData.pictures: white over the pixels that are right


@dataclass(frozen=True)
class SceneView:
    """One image with its truth and what the runs of one network made of it."""

    id: str
    title: str
    profile: str
    dataset: str
    network: str
    width: int  # pixels
    height: int
    layers: tuple[LayerView, ...]
    legend: tuple[tuple[str, str], ...]  # (class, #rrggbb) of the classes that occur


@dataclass(frozen=True)
class PaperView:
    """Whose tables these are."""

    name: str  # of the method
    title: str
    venue: str
    url: str


@dataclass(frozen=True)
class ReportData:
    """Everything on the page."""

    version: str  # of the project
    paper: PaperView
    shipped: bool  # the project's own runs: the reader has none
    profiles: tuple[ProfileView, ...]
    runs: dict[str, RunView]
    configs: dict[str, dict[str, Any]]  # resolved specs without their seeds, by digest
    classes: dict[str, tuple[str, ...]]
    claims: tuple[ClaimView, ...]
    figures: tuple[FigureView, ...]
    scenes: tuple[SceneView, ...]
    pictures: dict[str, str]  # data URIs of scenes, each once, by digest
    damaged: tuple[str, ...]  # what could not be read, one sentence each
    unknown_profiles: dict[str, int]  # profiles of records that the registry does not have
