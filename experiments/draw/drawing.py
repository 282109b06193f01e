"""What one picture is drawn from, kept beside it: ``results/figures/<stem>.json``."""

from __future__ import annotations

from pathlib import Path

from experiments.declare.figure import Figure, Style
from experiments.errors import StoreError
from experiments.files import read_bounded, write_atomically
from experiments.store.records import Stored

#: what is drawn from a description, beside it
PICTURES = (".pdf", ".png", ".csv", ".txt")
#: bytes that a description may have
MOST_OF_A_DRAWING = 16 << 20


class DrawnRun(Stored):
    """One run behind a figure."""

    label: str  # of the figure's row
    baseline: bool
    row: str  # <table>/<row id>
    seed: int
    run_id: str
    result_digest: str


class Drawing(Stored):
    """A figure with the runs that it is drawn from; its records lie in the same results folder."""

    figure: Figure
    profile: str  # of the runs; the default one where there are none
    style: Style
    runs: tuple[DrawnRun, ...]
    missing: tuple[str, ...]  # what should have been drawn and could not, one sentence each
    #: whether every run's chosen images are at hand; see `extract --without-pictures`
    pictures: bool = True

    @property
    def stem(self) -> str:
        """Name of the files without their endings."""
        return self.figure.stem(self.profile)


def write_drawing(drawing: Drawing, results: Path) -> Path:
    """Keep a drawing's description and return its path.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    path = results / "figures" / f"{drawing.stem}.json"
    write_atomically(path, drawing.model_dump_json(indent=1) + "\n")
    return path


def is_drawn(drawing: Drawing, results: Path) -> bool:
    """Whether the pictures of just this description are there."""
    path = results / "figures" / f"{drawing.stem}.json"
    try:
        same = read_drawing(path) == drawing
    except StoreError:
        return False
    return same and all(path.with_suffix(suffix).exists() for suffix in PICTURES)


def read_drawing(path: Path) -> Drawing:
    """The description of a drawing.

    Raises:
        StoreError: it is not there or not whole.
    """
    try:
        return Drawing.model_validate_json(read_bounded(path, MOST_OF_A_DRAWING))
    except FileNotFoundError:
        raise StoreError(f"{path} is not there; `./run_all.sh figures` writes it.") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{path} is damaged ({reason}); delete it and give `./run_all.sh figures` again."
        ) from None
