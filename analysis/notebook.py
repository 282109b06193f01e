"""What the notebooks read: a figure as stored, of the results folder and profile that were chosen.

Environment variables choose, so that a notebook's text is the same for all results: SSA_RESULTS
(folder; default: ``results`` if it holds a run, else ``results/reference``), SSA_PROFILE
(``quick``), SSA_REGISTRY (folders of your own, separated as in PATH) and SSA_ROW (which row the
tour follows: ``table8/full``). Nothing here needs torch.
"""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.captions import WRAP, setting
from analysis.kinds import Drawn, draw
from analysis.reading import Material, read_material
from analysis.style import lay_out
from experiments.declare.figure import DEFAULT_PROFILE
from experiments.declare.load import load_registry
from experiments.errors import StoreError
from experiments.plan.resolve import Resolver
from experiments.store.exports import read_table, table_stem
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.store.workspace import DEFAULT_RESULTS, HOME, REFERENCE, Workspace

#: of the PNG, and of the page that shows it a little larger than print
SCREEN_DPI, PIXELS_AN_INCH = 144, 110


@dataclass(frozen=True)
class Chosen:
    """What the notebooks are about."""

    results: Path = DEFAULT_RESULTS
    profile: str = DEFAULT_PROFILE
    registry: tuple[Path, ...] = ()  # the user's own folders
    row: str = "table8/full"  # that the tour follows

    @classmethod
    def from_environment(cls) -> Chosen:
        """As the environment variables say."""
        folders = os.environ.get("SSA_REGISTRY", "").split(os.pathsep)
        return cls(
            results=Path(os.environ.get("SSA_RESULTS") or default_results()),
            profile=os.environ.get("SSA_PROFILE") or cls.profile,
            registry=tuple(Path(folder) for folder in folders if folder),
            row=os.environ.get("SSA_ROW") or cls.row,
        )

    def to_environment(self) -> dict[str, str]:
        """The environment variables that choose this."""
        return {
            "SSA_RESULTS": str(self.results.resolve()),
            "SSA_PROFILE": self.profile,
            "SSA_REGISTRY": os.pathsep.join(str(folder.resolve()) for folder in self.registry),
            "SSA_ROW": self.row,
        }

    @property
    def place(self) -> str:
        """The results folder by a name that is the same on every machine."""
        results, home = self.results.resolve(), HOME.resolve()
        return str(results.relative_to(home)) if home in results.parents else results.name

    def description(self, figure: str) -> Path:
        """Where it is kept what a figure is drawn from.

        Raises:
            UnknownNameError: no such figure.
        """
        declared = load_registry(self.registry).figure(figure)
        return self.results / "figures" / f"{declared.stem(self.profile)}.json"

    def exported(self, table: str) -> dict[str, Any]:
        """A table as ``results/tables`` has it: rows, runs, verdicts and claims.

        Raises:
            StoreError: it has not been exported, or the file is damaged.
        """
        suffix = "" if self.profile == DEFAULT_PROFILE else f"-{self.profile}"
        path = self.results / "tables" / f"{table_stem(table)}{suffix}.json"
        try:
            document: dict[str, Any] = read_table(path)
        except FileNotFoundError:
            raise StoreError(
                f"{table} has not been made yet; `./run_all.sh {table} {self.options}` does it."
            ) from None
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path} is damaged ({error}); `./run_all.sh export {table} {self.options}` writes "
                "it anew."
            ) from None
        return document

    def records(self, table: str, row: str) -> list[Record]:
        """The runs behind a row of an exported table, in the order of their seeds.

        Raises:
            StoreError: the table has not been exported, or the row has no run.
            CorruptRecordError: a record is damaged.
        """
        store = Store(self.results)
        (cell,) = [cell for cell in self.exported(table)["rows"] if cell["row"] == row]
        found = [store.read(run["run_id"]) for run in cell["runs"]]
        records = [record for record in found if record is not None]
        if not records:
            raise StoreError(
                f"{table}/{row} has no run yet; `./run_all.sh {table} {self.options}` trains it."
            )
        return records

    @property
    def options(self) -> str:
        """Of the command line, that choose this."""
        return f"--results {self.place} --profile {self.profile}"

    def undrawn(self, figure: str) -> str | None:
        """The sentence that says how to get a figure that has not been drawn; None: it has.

        Raises:
            UnknownNameError: no such figure or profile.
        """
        if self.description(figure).exists():
            return None
        registry = load_registry(self.registry)
        resolver = Resolver(registry, registry.profile(self.profile), Workspace(self.results))
        if reason := resolver.unfit_figure(registry.figure(figure)):
            return f"{figure} cannot be drawn: {reason}"
        return f"{figure} has not been drawn yet; `./run_all.sh {figure} {self.options}` does it."


def default_results() -> Path:
    """The user's results if there is a finished run, else what the project ships."""
    return DEFAULT_RESULTS if any(DEFAULT_RESULTS.glob("runs/*/record.json")) else REFERENCE


@dataclass(frozen=True)
class Picture:
    """A drawn figure as Jupyter shows it; equal figures give equal bytes."""

    png: bytes
    width: int  # on the screen, pixels
    title: str

    def __repr__(self) -> str:
        return f"<{self.title}>"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.png, {"width": self.width}


@dataclass(frozen=True)
class StoredFigure:
    """One figure, drawn anew from what is stored: the same call that made results/figures."""

    material: Material
    place: str  # the results folder's name

    @cached_property
    def drawn(self) -> Drawn:
        """Figure, numbers and note."""
        return draw(self.material)

    @property
    def setting(self) -> str:
        """Profile, data and networks, where they are read from, and what is missing."""
        drawing = self.material.drawing
        missing = [f"Missing: {sentence}" for sentence in drawing.missing]
        sentences = [
            setting(self.material),
            f"Source: {drawing.figure.source}. Runs are read from {self.place}.",
            *(missing or ["Nothing is missing."]),
        ]
        return _wrapped(sentences)

    @property
    def runs(self) -> pd.DataFrame:
        """The runs behind the figure, a line a run."""
        return pd.DataFrame(
            [
                {
                    "label": line.label,
                    "dataset": line.dataset,
                    **self.material.differing_settings(line),
                    "model": record.spec.model,
                    "classifier": record.spec.classifier["name"],
                    "seed": record.spec.seed,
                    "iterations": record.spec.training.iterations,
                    "miou_percent": round(record.scores.miou, 2),
                    "run_id": record.run_id,
                }
                for line in self.material.lines
                for record in line.records
            ]
        )

    @property
    def picture(self) -> Picture:
        """As a PNG for the screen."""
        figure = self.drawn.figure
        lay_out(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=SCREEN_DPI, metadata={"Software": None})
        width = round(figure.get_size_inches()[0] * PIXELS_AN_INCH)
        return Picture(buffer.getvalue(), width, self.material.drawing.figure.title)

    @property
    def note(self) -> str:
        """What the caption says about this figure."""
        return _wrapped([self.drawn.note])

    @property
    def numbers(self) -> pd.DataFrame:
        """Everything that is drawn, as in the figure's CSV."""
        return self.drawn.frame


def gain_table(figure: StoredFigure, by: str | list[str], value: str) -> pd.DataFrame:
    """Medians over the seeds of the baseline and of the first other line, and the gain.

    The gain is of runs with the same seed, as it is drawn: its median, lowest and highest.

    Args:
        figure: whose numbers have a line a label and seed.
        by: columns that tell the lines of the result.
        value: the column that is compared.
    """
    base, ours = figure.material.baseline.label, figure.material.others[0].label
    wide = figure.numbers.pivot_table(index=by, columns=["label", "seed"], values=value)
    gain = wide[ours] - wide[base]
    return pd.DataFrame(
        {
            base: wide[base].median(axis=1),
            ours: wide[ours].median(axis=1),
            "gain": gain.median(axis=1),
            "lowest_gain": gain.min(axis=1),
            "highest_gain": gain.max(axis=1),
        }
    )


def _wrapped(sentences: Sequence[str]) -> str:
    return "\n".join(textwrap.fill(s, WRAP, break_on_hyphens=False) for s in sentences)


def open_figure(name: str, chosen: Chosen | None = None) -> StoredFigure:
    """A figure of the chosen results.

    Args:
        name: as ``./run_all.sh list`` has it: "figure4", "extra_boundary".
        chosen: results and profile; None: as the environment says.

    Raises:
        UnknownNameError: no such figure.
        StoreError: it has not been drawn from these results, or they have changed since.
    """
    chosen = chosen or Chosen.from_environment()
    if sentence := chosen.undrawn(name):
        raise StoreError(sentence)
    return StoredFigure(read_material(chosen.description(name)), chosen.place)
