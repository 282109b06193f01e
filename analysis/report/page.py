"""From what the report shows to HTML that loads nothing: one page, or a site of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from typing import Any

from analysis.report.coverage import Coverage, coverage_of
from analysis.report.data import (
    NumberView,
    ProfileView,
    ReportData,
    RowView,
    RunView,
    TableView,
)
from analysis.report.words import CHIPS, STATES, chip_of
from experiments.declare.metrics import METRICS
from experiments.files import strict_json
from experiments.show.export import show_number, show_signed
from experiments.show.text import MISSING
from experiments.store.exports import table_stem

TITLE = "State of the reproduction"
#: by which a page of ours is known again
GENERATOR = "ssa-seg-lab report"
#: what a page may show beside tables
PARTS = ("overview", "reading", "claims", "figures", "masks", "runs")


def render(data: ReportData) -> str:
    """The whole report on one page; equal data give equal bytes. Every text in it is escaped."""
    return _render(data, {*PARTS, *_tables(data)}, TITLE, lambda part, anchor: f"#{anchor}")


def render_site(data: ReportData) -> dict[str, str]:
    """The report as pages that link to each other, by the name of their file.

    ``index.html`` has the overview; each table has a page with its claims; claims, figures, masks
    and runs have one each. Every page stands alone: it carries its style, its script and the data
    that it shows, so that it works from a file.
    """
    pages = {"index": {"overview", "reading"}}
    pages |= {table_stem(table): {table} for table in _tables(data)}
    pages |= {part: {part} for part in PARTS if part not in pages["index"]}
    home = {part: f"{name}.html" for name, parts in pages.items() for part in parts}

    titles = {table_stem(t.name): t.short for p in data.profiles for t in p.tables}
    titles |= {part: part.capitalize() for part in pages if part in PARTS}

    def linking(own: str) -> Callable[[str, str], str]:
        # a table that this report does not show has no page: its claims name it all the same
        return lambda part, anchor: (
            f"#{anchor}" if home.get(part, own) == own else f"{home[part]}#{anchor}"
        )

    return {
        f"{name}.html": _render(
            _only(data, parts), parts, titles.get(name, TITLE), linking(f"{name}.html")
        )
        for name, parts in pages.items()
    }


def _tables(data: ReportData) -> list[str]:
    return list(dict.fromkeys(table.name for p in data.profiles for table in p.tables))


def _only(data: ReportData, parts: Collection[str]) -> ReportData:
    """The data with those details alone that a page with these parts opens."""
    named = {
        run
        for profile in data.profiles
        for table in profile.tables
        if table.name in parts
        for row in table.rows
        for run in row.runs
    }
    if "masks" in parts:
        named |= {layer.run_id for scene in data.scenes for layer in scene.layers if layer.run_id}
    runs = {run_id: run for run_id, run in data.runs.items() if "runs" in parts or run_id in named}
    configs, classes = ({getattr(r, k) for r in runs.values()} for k in ("config", "classes"))
    masks = "masks" in parts
    return replace(
        data,
        runs=runs,
        configs={key: value for key, value in data.configs.items() if key in configs},
        classes={key: value for key, value in data.classes.items() if key in classes},
        scenes=data.scenes if masks else (),
        pictures=data.pictures if masks else {},
    )


def _render(
    data: ReportData, parts: Collection[str], title: str, to: Callable[[str, str], str]
) -> str:
    """A page with some parts.

    Args:
        data: of the whole report; ``runs`` and what belongs to them may be those of these parts.
        parts: of :data:`PARTS`, and names of tables.
        title: of the page.
        to: address of an anchor in a part.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    static = files("analysis.report") / "static"
    environment.filters |= {
        "number": show_number,
        "digits": show_digits,
        "signed": show_signed,
        "stem": table_stem,
        "chip": chip_of,
        "duration": show_duration,
        "searched": searched_text,
    }
    environment.globals |= {
        "gain_scale": gain_scale,
        "metrics": METRICS,
        "states": STATES,
        "chips": CHIPS,
        "missing": MISSING,
        "parts": parts,
        "to": to,
        "tip": lambda row: show_behind(row, data.runs),
        "tip_count": show_count_behind,
        "title": title,
        "generator": GENERATOR,
        "alone": not any(part in parts for part in PARTS),
    }
    coverage = {profile.name: coverage_of(profile) for profile in data.profiles}
    return environment.get_template("page.html").render(
        data=data,
        coverage=coverage,
        lead={p.name: lead_sentences(p, coverage[p.name]) for p in data.profiles},
        css=Markup((static / "report.css").read_text(encoding="utf-8")),
        js=Markup((static / "report.js").read_text(encoding="utf-8")),
        start=Markup((static / "start.js").read_text(encoding="utf-8")),
        embedded=Markup(embeddable(asdict_for_script(data, parts))),
    )


def asdict_for_script(data: ReportData, parts: Collection[str]) -> dict[str, Any]:
    """What the script needs: rows by their address, runs, configurations, scenes."""
    rows = {
        f"{profile.name}/{table.name}/{row.id}": asdict(row)
        for profile in data.profiles
        for table in profile.tables
        if table.name in parts
        for row in table.rows
    }
    tables = {
        f"{profile.name}/{table.name}": {"title": table.title, "source": table.source}
        for profile in data.profiles
        for table in profile.tables
        if table.name in parts
    }
    return {
        "rows": rows,
        "tables": tables,
        "runs": {run_id: asdict(run) for run_id, run in data.runs.items()},
        "configs": data.configs,
        "classes": data.classes,
        "pictures": data.pictures,
        "scenes": [asdict(scene) for scene in data.scenes],
        "chips": {word: asdict(chip) for word, chip in CHIPS.items()},
        "metrics": {name: asdict(metric) for name, metric in METRICS.items()},
    }


def embeddable(document: dict[str, Any]) -> str:
    """JSON that may stand in a ``<script>``: no ``<``, ``>`` or ``&`` is left in it."""
    text = strict_json(document, "The report", ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@dataclass(frozen=True)
class GainScale:
    """Places of a table's gains on one axis, 0 … 100 from left to right."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a gain stands."""
        return round(4 + 92 * (value - self.low) / (self.high - self.low), 2)


def gain_scale(table: TableView) -> GainScale | None:
    """One axis for all intervals of a table, zero included; None where there is no gain."""
    gains = [row.gain for row in table.rows if row.gain]
    if not gains:
        return None
    low = min(0.0, *(gain.low for gain in gains))
    high = max(0.0, *(gain.high for gain in gains))
    return GainScale(low, high if high > low else low + 1.0)


def lead_sentences(profile: ProfileView, coverage: Coverage) -> list[str]:
    """What there is and what is missing, in plain sentences."""
    paper = coverage.paper
    sentences = [
        f"{paper.with_records} of the {paper.rows} rows of the paper’s "
        f"{paper.tables} tables have runs in the profile {profile.name}"
        + (f", {paper.partial} of them not with every seed" if paper.partial else "")
        + "."
    ]
    if paper.blocked:
        sentences.append(
            f"{paper.blocked} cannot be run here as things stand; each says why and what mends it."
        )
    if missing := paper.missing + paper.failed:
        sentences.append(f"{missing} have not been run yet.")
    if coverage.stale:
        sentences.append(
            f"The runs of {coverage.stale} rows were made with code that has changed since; they "
            "are marked stale."
        )
    return sentences


def searched_text(row: RowView, table: TableView) -> str:
    """What the filter looks at, in lower case."""
    words = [row.label, row.id, row.model, row.paper_dataset, row.dataset, row.state]
    words += [table.name, table.title, row.versus_paper.word, row.versus_reference.word]
    words += [cell.verdict.word for cell in row.counts.values()]
    return " ".join(dict.fromkeys(word.lower() for word in words))


def show_digits(value: float | None, digits: int) -> str:
    """That many decimals with a true minus, or a dash."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def show_behind(row: RowView, runs: Mapping[str, RunView]) -> str:
    """``seed 0: 41.20, seed 1: 40.02. Gain +1.20 [+0.80, +1.60]. Reported: 42.50.``

    The mIoU of each run of a row in percent, its gain in points, and the paper's mIoU.
    """
    seeds = ", ".join(
        f"seed {runs[run].seed}: {show_digits(runs[run].miou, 2)}"
        for run in row.runs
        if run in runs
    )
    gain = ""
    if row.gain:
        low, high = show_signed(row.gain.low), show_signed(row.gain.high)
        gain = f"Gain {show_signed(row.gain.value)} [{low}, {high}]"
    reported = "nothing" if row.reported_miou is None else show_digits(row.reported_miou, 2)
    parts = [seeds or "Not measured", gain, f"Reported: {reported}"]
    return " ".join(f"{part}." for part in parts if part)


def show_count_behind(cell: NumberView, metric: str) -> str:
    """``Measured: 6.3412 G. Reported: 6.3 G.``: a count in full beside the paper's."""
    about = METRICS[metric]
    unit = f" {about.unit}" if about.unit else ""
    ours = "nothing" if cell.measured is None else f"{show_digits(cell.measured, 4)}{unit}"
    theirs = (
        "nothing"
        if cell.reported is None
        else f"{show_digits(cell.reported, about.paper_digits)}{unit}"
    )
    return f"Measured: {ours}. Reported: {theirs}."


def show_duration(seconds: float) -> str:
    """``27 s``, ``4 min 10 s``, ``3 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
