"""What is kept of a finished run: one record, the areas per image, the curve."""

from __future__ import annotations

import datetime
import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from experiments.declare.run_spec import RunSpec
from experiments.files import parsed_json, strict_json
from experiments.machine import printable

RECORD_VERSION = 1


class Stored(BaseModel):
    """Base of all that is written: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Scores(Stored):
    """Segmentation scores over a whole split, in percent."""

    miou: float  # mean over classes that occur in labels or predictions
    aacc: float  # correct pixels among all labelled pixels
    macc: float  # mean over classes of the correct share of their labelled pixels


class CurvePoint(Stored):
    """One evaluation during training."""

    iteration: int  # optimiser steps done
    scores: Scores
    losses: dict[str, float]  # mean of each training loss term since the last point


class Timings(Stored):
    """Where the time went."""

    train_s: float  # inside training steps and data loading, of the last attempt
    evaluate_s: float  # of the last attempt
    total_s: float  # from process start to record, this attempt and those it resumed
    iteration_ms: float  # median of one training step, data included


class Environment(Stored):
    """The machine and the software that a run used."""

    host: str
    platform: str
    python: str
    torch: str
    packages: dict[str, str]
    device: str  # "cpu: <model name>" or the GPU's name
    threads: int
    processes: int = 1  # that trained together, each on its share of every batch
    git_commit: str | None
    git_dirty: bool | None
    code: dict[str, str]  # module → sha256 of what it means (experiments/store/meaning.py)
    code_digest: str  # one sha256 over all of `code`


class Record(Stored):
    """The final word on one run. A run without it does not exist."""

    version: int
    run_id: str
    spec: RunSpec
    scores: Scores
    per_class_iou: tuple[float | None, ...]  # percent; None where the class never occurs
    class_names: tuple[str, ...]
    curve: tuple[CurvePoint, ...]
    num_images: int
    per_image_sha256: str  # of per_image.npz
    result_digest: str  # sha256 over scores, curve's scores and areas: equal results, equal digest
    timings: Timings
    peak_memory_mb: float  # resident set on CPU, allocated on GPU
    resumed_at: tuple[int, ...]  # iterations at which the run was taken up again
    environment: Environment
    deviations: tuple[str, ...]  # from the profile's protocol, in plain words
    started: str  # ISO 8601, UTC
    finished: str

    @property
    def miou_frequent(self) -> float | None:
        """mIoU in percent over the data set's frequent classes; None: it has no list of them."""
        from ssa.datasets.frequent import frequent_mean

        return frequent_mean(self.spec.dataset, self.class_names, self.per_class_iou)


#: text of any place, in which a file's name may not be UTF-8
Readable = Annotated[str, BeforeValidator(printable)]


class Failure(Stored):
    """Why an attempt ended without a record."""

    run_id: str
    sentence: Readable  # what went wrong, for the user
    traceback: Readable
    time: str


#: characters of ``{"sha256": "…",``, which stands where the sealed body has its ``{``
_SEAL_LENGTH = len('{"sha256": "",') + 64


def seal(document: dict[str, Any]) -> str:
    """JSON text of a document with the sha256 of its content as first field.

    Raises:
        StoreError: a number in it is not finite.
    """
    body = strict_json(document, "The record", sort_keys=True, indent=1)
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest()})[:-1] + "," + body[1:]


def unseal(text: str) -> dict[str, Any]:
    """The document of :func:`seal`.

    Raises:
        ValueError: the text is truncated, was changed, or holds a NaN, which is no JSON.
    """
    document = parsed_json(text, parse_constant=_refuse_constant)
    if not isinstance(document, dict) or "sha256" not in document:
        raise ValueError("it carries no checksum")
    expected = document.pop("sha256")
    # as written, the rest of the text is the sealed body; a text laid out anew is sealed anew
    if hashlib.sha256(("{" + text[_SEAL_LENGTH:]).encode()).hexdigest() == expected:
        return document
    body = json.dumps(document, sort_keys=True, indent=1)
    if hashlib.sha256(body.encode()).hexdigest() != expected:
        raise ValueError("its checksum does not fit its content")
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, where a number belongs")


def now() -> str:
    """The time in UTC as ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
