"""Stored results as pandas tables: a row of a table, a run, or a point of a curve a line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import CorruptRecordError
from experiments.nested import flatten
from experiments.store.workspace import DEFAULT_DATA_ROOT, DEFAULT_RESULTS

if TYPE_CHECKING:
    import pandas as pd

    from experiments.store.records import Record

#: ends of the names of columns that hold numbers; the end is the unit
UNITS = ("_percent", "_points", "_m", "_g", "_ms", "_s", "_mb", "_value")


class DamagedRecordWarning(UserWarning):
    """A record was left out because it is damaged."""


def load_table(
    name: str,
    *,
    profile: str = "quick",
    seeds: int | Sequence[int] | None = None,
    results: str | Path = DEFAULT_RESULTS,
    data_root: str | Path = DEFAULT_DATA_ROOT,
    registry: Sequence[str | Path] = (),
) -> pd.DataFrame:
    """One table with what is stored now, one line a row; nothing is trained.

    The columns are those of the exported CSV: ``row``, ``label``, ``model``, ``miou_percent`` (the
    median over seeds) with its ``miou_min_percent`` and ``miou_max_percent``, ``gain_points`` with
    its interval and ``gain_p_value``, ``reported_miou_percent`` (the paper's), ``params_m`` and
    ``macs_g`` (counted on the paper-size network), verdicts with their reasons, ``run_ids``.
    Numbers are float64 and NaN where there is none, ``seeds`` is int64 (runs behind the row), the
    rest are strings.

    Args:
        name: an item of ``./run_all.sh list``: "table8", "study_controls", one of yours.
        profile: which size of everything.
        seeds: how many or which; None: the profile's.
        results: folder of results.
        data_root: folder of data sets; a run's identity holds the digest of its data.
        registry: your own folders of tables, models, profiles.

    Raises:
        UnknownNameError: no such table or profile.
        SsaError: an item that is not in the registry, a folder that cannot be written.
    """
    from experiments.judge.tables import assembled
    from experiments.plan.request import stored_request
    from experiments.show.export import to_frame

    request = stored_request(
        profile, seeds, Path(results), Path(data_root), [Path(p) for p in registry]
    )
    (result,) = assembled(request, request.plan(request.tables(name)))
    return _typed(to_frame(result))


def load_runs(results: str | Path = DEFAULT_RESULTS) -> pd.DataFrame:
    """Every stored run of a results folder, one line a run, sorted by its id.

    Columns: ``run_id``; what was run (``model``, ``classifier``, ``dataset``, ``profile``, ``seed``
    and, by their nested path, the fields of the spec but for the network's config:
    ``classifier.overrides.edge_size``, ``training.optimizer.lr``, …); ``miou_percent``,
    ``aacc_percent``, ``macc_percent``, ``num_images``; ``train_s``, ``evaluate_s``, ``total_s``,
    ``iteration_ms``, ``peak_memory_mb``; ``host``, ``device``, ``torch``, ``threads``,
    ``git_commit``, ``git_dirty``, ``code_digest``, ``stale`` (our code has changed since);
    ``result_digest``, ``per_image_sha256``, ``deviations``; ``started`` and ``finished`` in UTC.

    A damaged record is left out and named by a :class:`DamagedRecordWarning`.

    Args:
        results: folder of results; ``results/reference`` holds what the project ships.
    """
    import pandas as pd

    from experiments.store.provenance import changed_modules

    lines = []
    for record in _records(Path(results)):
        spec = record.spec.model_dump(mode="json", exclude={"segmentor", "classifier"})
        declared = {"classifier": record.spec.classifier["name"], **spec}
        switches = {"classifier.overrides": record.spec.classifier["overrides"]}
        own = record.environment
        lines.append(
            {
                "run_id": record.run_id,
                **flatten(declared),
                **flatten(switches),
                "miou_percent": record.scores.miou,
                "aacc_percent": record.scores.aacc,
                "macc_percent": record.scores.macc,
                "num_images": record.num_images,
                **record.timings.model_dump(),
                "peak_memory_mb": record.peak_memory_mb,
                "host": own.host,
                "device": own.device,
                "torch": own.torch,
                "threads": own.threads,
                "git_commit": own.git_commit,
                "git_dirty": own.git_dirty,
                "code_digest": own.code_digest,
                "stale": bool(changed_modules(own.code)),
                "result_digest": record.result_digest,
                "per_image_sha256": record.per_image_sha256,
                "deviations": "; ".join(record.deviations),
                "started": record.started,
                "finished": record.finished,
            }
        )
    frame = pd.DataFrame(lines)
    for name in ("started", "finished"):
        if name in frame:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame.convert_dtypes(convert_integer=False, convert_floating=False)


def load_curves(results: str | Path = DEFAULT_RESULTS) -> pd.DataFrame:
    """Every evaluation during every stored run: one line a run and iteration.

    Columns: ``run_id``, ``model``, ``classifier``, ``dataset``, ``profile``, ``seed``,
    ``iteration`` (optimiser steps done), ``miou_percent``, ``aacc_percent``, ``macc_percent`` and
    ``loss.<term>``, the mean of each training loss since the last point.

    Args:
        results: folder of results.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            "run_id": record.run_id,
            "model": record.spec.model,
            "classifier": record.spec.classifier["name"],
            "dataset": record.spec.dataset,
            "profile": record.spec.profile,
            "seed": record.spec.seed,
            "iteration": point.iteration,
            "miou_percent": point.scores.miou,
            "aacc_percent": point.scores.aacc,
            "macc_percent": point.scores.macc,
            **{f"loss.{term}": value for term, value in point.losses.items()},
        }
        for record in _records(Path(results))
        for point in record.curve
    )


def _records(results: Path) -> Iterator[Record]:
    from experiments.store.store import Store

    store = Store(results)
    for run_id in store.run_ids():
        try:
            record = store.read(run_id)
        except CorruptRecordError as error:
            warnings.warn(f"{error} It is left out.", DamagedRecordWarning, stacklevel=3)
            continue
        if record is not None:
            yield record


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64, ``seeds`` as int64, the rest as strings, also where all are missing."""
    return frame.astype({name: _dtype(name) for name in frame.columns})


def _dtype(name: str) -> Any:
    if name == "seeds":
        return "int64"
    return "float64" if name.endswith(UNITS) and not name.startswith("versus_") else "string"
