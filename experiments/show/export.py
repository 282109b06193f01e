"""A table as files: CSV with raw numbers, JSON with provenance, Markdown, booktabs LaTeX.

Equal records give equal bytes: nothing here depends on the time or the machine of the export.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.declare.figure import DEFAULT_PROFILE as DEFAULT_PROFILE
from experiments.declare.metrics import METRICS, Metric
from experiments.files import strict_json, write_if_changed
from experiments.judge.assemble import RowResult, TableResult
from experiments.judge.counts import CountCell
from experiments.judge.ranking import Mark, marks
from experiments.judge.statistics import Gain, Summary
from experiments.show.claims import claim_document, claims_heading, show_claim
from experiments.show.macros import MACROS, to_macros
from experiments.show.paper_layout import LEGEND, lay_out
from experiments.show.text import (
    MISSING,
    PREAMBLE,
    STANDALONE,
    Cell,
    latex_table,
    markdown_table,
)
from experiments.store.exports import stem_of
from experiments.store.records import Record

if TYPE_CHECKING:
    import pandas as pd

SEQUENTIAL_NOTE = (
    "Sequential: seeds were added while the verdicts were looked at (`decide`); the interval and p "
    "hold at whatever number of seeds one stops (anytime-valid t)."
)
PAPER_STYLE = "paper"


def export(
    result: TableResult, folder: Path, style: str | None = None, *, macros: bool = False
) -> list[Path]:
    """Write ``folder/<name>.{csv,md,tex,json}`` and return the paths.

    Beside them stand ``preamble.tex`` and ``standalone.tex``, which the LaTeX needs.

    Args:
        result: the assembled table.
        folder: where to.
        style: "paper" writes ``<name>-style-paper.{md,tex}`` as well, in the paper's columns.
        macros: writes ``<name>-macros.tex`` as well, one LaTeX command a number.

    Raises:
        StoreError: the disk is full or may not be written.
        RegistryError: two rows whose numbers would have one LaTeX command.
    """
    writers: dict[str, Callable[[TableResult], str]] = {
        ".csv": to_csv,
        ".md": to_markdown,
        ".tex": to_latex,
        ".json": to_json,
    }
    if style == PAPER_STYLE:
        writers |= {"-style-paper.md": to_paper_markdown, "-style-paper.tex": to_paper_latex}
    if macros:
        writers[f"{MACROS}.tex"] = to_macros
    paths = []
    for end, write in writers.items():
        path = folder / f"{file_stem(result)}{end}"
        write_if_changed(path, write(result))
        paths.append(path)
    for name, text in (("preamble.tex", PREAMBLE), ("standalone.tex", STANDALONE)):
        write_if_changed(folder / name, text)
    return paths


def file_stem(result: TableResult) -> str:
    """``table08`` for the default profile, ``table08-camvid`` for another."""
    return stem_of(result.table.name, result.profile)


def to_frame(result: TableResult) -> pd.DataFrame:
    """One line a row, raw numbers, units in the column names; empty where there is nothing."""
    import pandas as pd  # a third of a second that printing need not wait for

    return pd.DataFrame([_flat(result, row) for row in result.rows])


def _flat(result: TableResult, row: RowResult) -> dict[str, Any]:
    miou, gain, there, reported = row.miou, row.gain, row.reference, row.row.reported
    counts = {
        name: cell
        for name, cell in row.counts.items()
        if METRICS[name].always_exported or name in result.columns
    }
    return {
        "table": result.table.name,
        "row": row.row.id,
        "label": row.row.label,
        "model": row.model,
        "paper_dataset": row.paper_dataset,
        "dataset": row.dataset,
        "profile": result.profile,
        "seeds": len(row.records),
        "miou_percent": miou.median if miou else None,
        "miou_min_percent": miou.low if miou else None,
        "miou_max_percent": miou.high if miou else None,
        "gain_points": gain.value if gain else None,
        "gain_low_points": gain.low if gain and math.isfinite(gain.low) else None,
        "gain_high_points": gain.high if gain and math.isfinite(gain.high) else None,
        "gain_p_value": gain.p_value if gain else None,
        "reported_miou_percent": reported.miou,
        **{metric: cell.measured for metric, cell in counts.items()},
        **{f"reported_{metric}": cell.reported for metric, cell in counts.items()},
        **{f"versus_paper_{metric}": cell.verdict.word for metric, cell in counts.items()},
        "reference_miou_percent": there.median if there else None,
        "versus_paper": row.versus_paper.word,
        "versus_paper_reason": row.versus_paper.reason,
        "versus_reference": row.versus_reference.word,
        "versus_reference_reason": row.versus_reference.reason,
        "run_ids": " ".join(record.run_id for record in row.records),
    }


def to_csv(result: TableResult) -> str:
    """CSV of :func:`to_frame`; floats as Python writes them, so nothing is rounded."""
    return to_frame(result).to_csv(index=False, lineterminator="\n")


def to_json(result: TableResult) -> str:
    """Everything: numbers, verdicts with reasons, runs with seeds, commits and machines."""
    document = {
        "table": result.table.name,
        "title": result.table.title,
        "source": result.table.source,
        "profile": result.profile,
        "seeds": list(result.seeds),
        **({"sequential": True} if result.sequential else {}),
        "complete": result.complete,
        "seed_deviation_points": result.seed_deviation,
        "rows": [
            {
                **_flat(result, row),
                "reading": row.row.reading,
                "dataset_settings": row.row.dataset_settings,
                "gain_over": result.table.baseline_of(row.row).id,
                **({"no_gain": row.incomparable} if row.incomparable else {}),
                "stale": list(row.stale),
                "absent": list(row.absent),
                "runs": [_provenance(record) for record in row.records],
            }
            for row in result.rows
        ],
        "claims": [claim_document(claim) for claim in result.claims],
    }
    text = strict_json(document, f"{file_stem(result)}.json", indent=1, ensure_ascii=False)
    return text + "\n"


def _provenance(record: Record) -> dict[str, Any]:
    environment = record.environment
    return {
        "run_id": record.run_id,
        "seed": record.spec.seed,
        "miou_percent": record.scores.miou,
        "aacc_percent": record.scores.aacc,
        "macc_percent": record.scores.macc,
        "result_digest": record.result_digest,
        "git_commit": environment.git_commit,
        "git_dirty": environment.git_dirty,
        "code_digest": environment.code_digest,
        "device": environment.device,
        "torch": environment.torch,
        "dataset_digest": record.spec.dataset_digest,
        "total_s": record.timings.total_s,
        "peak_memory_mb": record.peak_memory_mb,
        "finished": record.finished,
        "deviations": list(record.deviations),
    }


#: headings of the verdicts' columns
VERDICTS = ("Versus paper", "Versus reference")


def display_columns(result: TableResult) -> list[str]:
    """Headings of the printed table, one metric's reported beside its measured."""
    seeds = _number_of_seeds(result)
    return [
        "Method",
        *(["Data set (paper)"] if several_datasets(result) else []),
        *(METRICS[metric].heading_beside_paper for metric in counted_columns(result)),
        f"{METRICS['miou'].title}, median of {seeds} (min–max)",
        "Gain [95 % interval]",
        "p",
        *(["Paper"] if of_the_paper(result) else []),
        *(["Reference"] if has_reference(result) else []),
        *([VERDICTS[0]] if of_the_paper(result) else []),
        *([VERDICTS[1]] if has_reference(result) else []),
    ]


def _number_of_seeds(result: TableResult) -> str:
    """``3 seeds``; ``3–9 seeds`` where rows were given different numbers of them."""
    numbers = sorted({row.num_seeds for row in result.rows} if result.sequential else ())
    if len(numbers) > 1:
        return f"{numbers[0]}–{numbers[-1]} seeds"
    return f"{len(result.seeds)} seed{'s' if len(result.seeds) > 1 else ''}"


def counted_columns(result: TableResult) -> list[str]:
    """The columns of a table beside mIoU and gain, in its order; the paper's are in brackets."""
    return [name for name in result.columns if METRICS[name].source != "scores"]


def alignment(result: TableResult) -> str:
    """``l`` or ``r`` for each displayed column."""
    left = "ll" if several_datasets(result) else "l"
    compared = of_the_paper(result) + has_reference(result)
    return left + "r" * (len(counted_columns(result)) + 3 + compared) + "l" * compared


def of_the_paper(result: TableResult) -> bool:
    """Whether the paper prints any mIoU of the table: not of a study of ours."""
    return any(row.row.reported.miou is not None for row in result.rows)


def has_reference(result: TableResult) -> bool:
    """Whether to show our shipped runs: beside the paper always, else where there are some."""
    return of_the_paper(result) or any(row.reference is not None for row in result.rows)


def several_datasets(result: TableResult) -> bool:
    """Whether the paper's rows are about more than one data set."""
    return len({row.paper_dataset for row in result.rows}) > 1


def cells(result: TableResult) -> list[list[Cell]]:
    """The printed table's cells and how they stand out."""
    notes, ranked = notes_of_rows(result), marks(result)
    of_paper = of_the_paper(result)
    return [
        [
            Cell(row.row.label, notes=notes.get(row.row.id, ())),
            *([Cell(row.paper_dataset)] if several_datasets(result) else []),
            *(
                Cell(show_count(row.counts[metric], METRICS[metric]))
                for metric in counted_columns(result)
            ),
            _miou_cell(row, ranked.get(row.row.id, "")),
            Cell(show_gain(row.gain), arrow=True),
            Cell(show_p_value(row.gain)),
            *([Cell(show_number(row.row.reported.miou))] if of_paper else []),
            *([Cell(_reference(row))] if has_reference(result) else []),
            *([Cell(str(row.versus_paper))] if of_paper else []),
            *([Cell(str(row.versus_reference))] if has_reference(result) else []),
        ]
        for row in result.rows
    ]


def _reference(row: RowResult) -> str:
    return show_number(row.reference.median if row.reference else None)


def _miou_cell(row: RowResult, mark: Mark) -> Cell:
    median, space, spread = show_summary(row.miou).partition(" ")
    return Cell(median, space + spread, mark)


def display_rows(result: TableResult) -> list[list[str]]:
    """The printed table's cells as plain text."""
    return [[str(cell) for cell in row] for row in cells(result)]


def notes_of_rows(result: TableResult) -> dict[str, tuple[int, ...]]:
    """Row id → the numbers of its footnotes."""
    found: dict[str, tuple[int, ...]] = {}
    for number, _, ids in footnotes(result):
        for row_id in ids:
            found[row_id] = (*found.get(row_id, ()), number)
    return found


def footnotes(result: TableResult) -> list[tuple[int, str, frozenset[str]]]:
    """Numbered notes and the ids of the rows that carry them."""
    texts: dict[str, set[str]] = {}
    for row in result.rows:
        candidates = [row.row.reading or ""]
        candidates += [row.row.notes.get(metric, "") for metric in counted_columns(result)]
        candidates += [f"Stale: {reason}." for reason in row.stale]
        candidates += [f"Not run: {reason}" for reason in row.absent]
        candidates += [f"Deviates: {text}." for r in row.records for text in r.deviations]
        if row.incomparable:
            over = result.table.baseline_of(row.row).id
            candidates.append(f"No gain over {over}, no rank: {row.incomparable}.")
        if row.gain is not None and row.gain.num_seeds == 1:
            candidates.append("One seed: the interval covers the choice of images only.")
        elif row.gain is not None and row.gain.sequential:
            candidates.append(SEQUENTIAL_NOTE)
        for text in filter(None, candidates):
            texts.setdefault(" ".join(text.split()), set()).add(row.row.id)
    return [(n, text, frozenset(ids)) for n, (text, ids) in enumerate(texts.items(), start=1)]


def caption(result: TableResult, *, gains: bool = True) -> str:
    """What the table shows and what it does not, in a sentence or two.

    Args:
        result: to be shown.
        gains: whether its gains are shown, so that their method is told.
    """
    models = list(dict.fromkeys(row.model for row in result.rows))
    trained = " and ".join(dict.fromkeys(row.dataset for row in result.rows))
    papers = " and ".join(dict.fromkeys(row.paper_dataset for row in result.rows))
    what = models[0] if len(models) == 1 else f"{len(models)} networks"
    sizes = {record.spec.model_size for row in result.rows for record in row.records} - {"paper"}
    if sizes:
        what += f", scaled down ({', '.join(sorted(sizes))}),"
    title = result.table.title if result.table.title.endswith("?") else f"{result.table.title}."
    text = f"{title} {what} on {trained}, profile {result.profile}."
    if gains and any(row.gain for row in result.rows):
        text += f" {gain_method(result)}"
    if not any(row.versus_paper.word == "not comparable" for row in result.rows):
        return text
    return (
        f"{text} The paper's numbers are for {papers} at full size; they stand beside "
        "ours for orientation and are not compared."
    )


def gain_method(result: TableResult) -> str:
    """What the gains are, and what their intervals borrow."""
    lenders = max((row.gain.num_lenders for row in result.rows if row.gain), default=0)
    lent = (
        f"the deviation between seeds moderated by that of up to {lenders} other rows"
        if lenders
        else "nothing borrowed from other rows"
    )
    return f"Gains are means of paired gains, with 95 % intervals of each alone; {lent}."


def to_markdown(result: TableResult) -> str:
    """A pipe table with its caption and notes."""
    notes = [(number, text) for number, text, _ in footnotes(result)]
    return markdown_table(
        result.table.source,
        caption(result),
        display_columns(result),
        display_rows(result),
        alignment(result),
        notes,
    ) + claim_list(result)


def claim_list(result: TableResult) -> str:
    """Each claim with its verdict and numbers, one item a line; "" without claims."""
    if not result.claims:
        return ""
    items = [f"- {show_claim(claim, strong='**')}" for claim in result.claims]
    heading = claims_heading(result.profile, sequential=result.sequential)
    return "\n".join(["", heading, "", *items, ""])


def to_latex(result: TableResult) -> str:
    """A ``table`` environment with booktabs rules; needs ``preamble.tex``.

    A verdict that is the same in every row stands once, in the caption: a page is narrow.
    """
    columns, rows, text = display_columns(result), cells(result), caption(result)
    shown = list(range(len(columns)))
    for index, name in enumerate(columns):
        said = {str(row[index]) for row in rows}
        if name in VERDICTS and len(said) == 1:
            text += f" {name}, in every row: {said.pop()}."
            shown.remove(index)
    return latex_table(
        file_stem(result),
        text,
        [columns[index] for index in shown],
        [[row[index] for index in shown] for row in rows],
        "".join(alignment(result)[index] for index in shown),
        [(number, text) for number, text, _ in footnotes(result)],
    )


def to_paper_latex(result: TableResult) -> str:
    """:func:`to_latex` in the paper's own columns."""
    laid = lay_out(result, notes_of_rows(result))
    return latex_table(
        f"{file_stem(result)}-style-paper",
        f"{caption(result, gains=False)} {LEGEND}",
        laid.columns,
        laid.rows,
        laid.alignment,
        [(number, text) for number, text, _ in footnotes(result)],
        laid.spans,
    )


def to_paper_markdown(result: TableResult) -> str:
    """:func:`to_markdown` in the paper's own columns."""
    laid = lay_out(result, notes_of_rows(result))
    return markdown_table(
        result.table.source,
        f"{caption(result, gains=False)} {LEGEND}",
        laid.flat_columns,
        laid.rows,
        laid.alignment,
        [(number, text) for number, text, _ in footnotes(result)],
    )


def show_count(cell: CountCell, metric: Metric) -> str:
    """``14.13 (14.2)``; a number that differs from the paper's is marked ``≠``."""
    measured = MISSING if cell.measured is None else f"{cell.measured:.{metric.digits}f}"
    if cell.reported is None:
        return measured
    mark = " ≠" if cell.verdict.word == "different" else ""
    return f"{measured}{mark} ({cell.reported:.{metric.paper_digits}f})"


def show_number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return MISSING if value is None else f"{value:.2f}"


def show_summary(summary: Summary | None) -> str:
    """``median (min–max)``; one seed has no spread."""
    if summary is None:
        return MISSING
    if summary.num_seeds == 1:
        return f"{summary.median:.2f}"
    return f"{summary.median:.2f} ({summary.low:.2f}–{summary.high:.2f})"


def show_signed(value: float | None) -> str:
    """``−1.23``; ``+∞`` of an interval that has no end; or a dash."""
    return MISSING if value is None else f"{value:+.2f}".replace("-", "−").replace("inf", "∞")


def show_gain(gain: Gain | None) -> str:
    """``+1.23 [+0.10, +2.30]``."""
    if gain is None:
        return MISSING
    return f"{show_signed(gain.value)} [{show_signed(gain.low)}, {show_signed(gain.high)}]"


def show_p_value(gain: Gain | None) -> str:
    """``0.012``."""
    return MISSING if gain is None else f"{gain.p_value:.3f}"
