"""From what the report shows to one HTML page that loads nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from analysis.report.coverage import Coverage, coverage_of
from analysis.report.data import ProfileView, ReportData, RowView, TableView
from analysis.report.words import CHIPS, STATES, chip_of
from experiments.declare.metrics import METRICS
from experiments.files import strict_json
from experiments.show.export import show_number
from experiments.show.text import MISSING, table_stem


def render(data: ReportData) -> str:
    """The page; equal data give equal bytes. Every text in it is escaped."""
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
    }
    coverage = {profile.name: coverage_of(profile) for profile in data.profiles}
    return environment.get_template("page.html").render(
        data=data,
        coverage=coverage,
        lead={p.name: lead_sentences(p, coverage[p.name]) for p in data.profiles},
        css=Markup((static / "report.css").read_text(encoding="utf-8")),
        js=Markup((static / "report.js").read_text(encoding="utf-8")),
        start=Markup((static / "start.js").read_text(encoding="utf-8")),
        embedded=Markup(embeddable(asdict_for_script(data))),
    )


def asdict_for_script(data: ReportData) -> dict[str, Any]:
    """What the script needs: rows by their address, runs, configurations, scenes."""
    rows = {
        f"{profile.name}/{table.name}/{row.id}": asdict(row)
        for profile in data.profiles
        for table in profile.tables
        for row in table.rows
    }
    tables = {
        f"{profile.name}/{table.name}": {"title": table.title, "source": table.source}
        for profile in data.profiles
        for table in profile.tables
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


def show_signed(value: float | None) -> str:
    """Two decimals with their sign."""
    return MISSING if value is None else f"{value:+.2f}".replace("-", "−")


def show_duration(seconds: float) -> str:
    """``27 s``, ``4 min 10 s``, ``3 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
