"""Whether the numbers of a LaTeX document are those that are stored (docs/prose.md)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.ask.findings import (
    LATEX,
    Checked,
    Edit,
    Fault,
    Finding,
    line_of,
    read_text,
    shortened,
    write_edits,
)
from experiments.ask.latex_text import Defined, LatexReading, input_path, read_latex
from experiments.ask.quoted import Quote, number_of, quotes
from experiments.ask.sources import Sources
from experiments.declare.metrics import METRICS
from experiments.files import write_if_changed
from experiments.judge.assemble import TableResult
from experiments.show.export import to_latex, to_paper_latex
from experiments.show.macros import Command, commands, letters, macro_prefix
from experiments.show.quantities import CLAIM
from experiments.store.exports import stem_of

PAPER_END = "-style-paper"  # of an export in the paper's own columns


@dataclass
class Document:
    """A LaTeX file and what it reads by ``\\input``."""

    root: Path
    sources: Sources
    checked: Checked
    fix: bool
    texts: dict[Path, str] = field(default_factory=dict)
    readings: dict[Path, LatexReading] = field(default_factory=dict)
    exported: dict[Path, TableResult] = field(default_factory=dict)

    def check(self) -> None:
        """Compare every command and every number with what is stored."""
        self._open(self.root)
        used = {use.name for reading in self.readings.values() for use in reading.used}
        defined = {one.name for reading in self.readings.values() for one in reading.defined}
        stale: set[tuple[str, ...]] = set()
        for path, reading in self.readings.items():
            whole = path == self.root  # a file of commands that is checked by itself
            self._check_definitions(path, [d for d in reading.defined if whole or d.name in used])
            for use in reading.used:
                command = self._command(use.name)
                if command is None:
                    self._add(path, use.start, "unclear", f"\\{use.name}", self._near(use.name))
                elif use.name not in defined:
                    sentence = "no file that is read defines it; `export TABLE --macros` writes it"
                    self._add(path, use.start, "unclear", f"\\{use.name}", sentence)
                elif command.stale and command.stale not in stale:
                    stale.add(command.stale)
                    sentence = f"here and further down: {shortened(command.stale)}"
                    self._add(path, use.start, "stale", f"\\{use.name}", sentence)
            for quote in reading.unsourced:
                self._add(path, quote.start, "no source", quote.words, self._hint(quote))
            self.checked.elsewhere += reading.elsewhere
        for path, result in self.exported.items():
            self._check_export(path, result)

    def _open(self, path: Path) -> None:
        text = self.texts[path] = read_text(path)
        if (result := self._export_of(path)) is not None:
            self.exported[path] = result
            return
        reading = self.readings[path] = read_latex(text, self.sources.request.registry.paper.macros)
        for name in reading.inputs:
            there = input_path(self.root.parent, name)
            if there is not None and there.suffix in LATEX and there not in self.texts:
                self._open(there)

    def _add(self, path: Path, place: int, fault: Fault, words: str, sentence: str) -> None:
        line = line_of(self.texts[path], place)
        self.checked.findings.append(Finding(path, line, fault, words, sentence))

    def _check_definitions(self, path: Path, defined: Sequence[Defined]) -> None:
        edits: list[Edit] = []
        for one in defined:
            command = self._command(one.name)
            if command is None:
                self._add(path, one.start, "unclear", f"\\{one.name}", self._near(one.name))
            elif one.body == command.text or self.fix:
                self.checked.agreeing += 1
                if one.body != command.text:
                    edits.append((one.start, one.end, command.text))
            else:
                sentence = f"\\{one.name} is {command.text} in what is stored"
                self._add(path, one.start, "differs", one.body, sentence)
        self.checked.rewritten += len(edits)
        if edits:
            write_edits(path, self.texts[path], edits)

    def _command(self, name: str) -> Command | None:
        for prefix, (table, profile) in self._prefixes_of(name):
            declared = self.sources.request.registry.table(table)
            places = [row.id for row in declared.rows] + [f"{CLAIM}{c.id}" for c in declared.claims]
            rest = name.removeprefix(prefix)
            if any(rest.startswith(letters(place)) for place in places):
                known = commands(self.sources.table(table, profile))
                if name in known:
                    return known[name]
        return None

    def _prefixes_of(self, name: str) -> list[tuple[str, tuple[str, str]]]:
        """How a command may begin, with the table and profile; the longest beginning first."""
        registry = self.sources.request.registry
        prefixes = {
            macro_prefix(registry.paper, table, profile): (table, profile)
            for table in registry.tables
            for profile in registry.profiles
        }
        fitting = [(prefix, of) for prefix, of in prefixes.items() if name.startswith(prefix)]
        return sorted(fitting, key=lambda pair: len(pair[0]), reverse=True)

    def _near(self, name: str) -> str:
        """Why a command is none."""
        known = [
            command
            for _, of in self._prefixes_of(name)[:1]
            for command in commands(self.sources.table(*of))
        ]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean \\{near[0]}?" if near else ""
        return f"no number that is stored has this command{hint}"

    def _hint(self, quote: Quote) -> str:
        """A command that prints a number which was typed by hand, if a table in use has one."""
        digits = quote.value or quote.low
        for result in self.sources.used:
            for name, command in commands(result).items():
                value = next(quotes(command.text.removeprefix("\\ensuremath{").rstrip("}")), None)
                same = value is not None and value.value and "." in value.value
                if same and value is not None and number_of(value.value) == number_of(digits):
                    return f"typed by hand; \\{name} is as much"
        return "typed by hand: use a command of `export TABLE --macros`, or say % elsewhere: WHERE"

    def _export_of(self, path: Path) -> TableResult | None:
        """The table whose export a file is, by its name."""
        stem = path.stem.removesuffix(PAPER_END)
        registry = self.sources.request.registry
        for table in registry.tables:
            for profile in registry.profiles:
                if stem_of(table, profile) == stem:
                    return self.sources.table(table, profile)
        return None

    def _check_export(self, path: Path, result: TableResult) -> None:
        counted = [name for name in result.table.columns if METRICS[name].source == "count"]
        if any(row.counts[name].measured is None for row in result.rows for name in counted):
            self.checked.notices.append(
                f"{path} is not compared: {result.table.name}'s networks have not been counted "
                f"here; `./run_all.sh {result.table.name} --only complexity` does."
            )
            return
        write = to_paper_latex if path.stem.endswith(PAPER_END) else to_latex
        text = write(result)
        if text == self.texts[path]:
            self.checked.agreeing += 1
        elif self.fix:
            write_if_changed(path.resolve(), text)
            self.checked.rewritten += 1
            self.checked.agreeing += 1
        else:
            sentence = f"not what `./run_all.sh export {result.table.name}` writes now"
            self._add(path, 0, "differs", path.name, sentence)
        reasons = tuple(dict.fromkeys(why for row in result.rows for why in row.stale))
        if reasons:
            self._add(path, 0, "stale", path.name, shortened(reasons))
