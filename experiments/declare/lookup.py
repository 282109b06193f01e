"""Finding what a user names: a row by its id or by its printed label, a metric by its name."""

from __future__ import annotations

from experiments.declare.metrics import METRICS
from experiments.declare.table import Row, Table
from experiments.errors import UnclearNameError, UnknownNameError


def find_row(table: Table, name: str) -> Row:
    """The row of ``table`` with the id or the label ``name``, whatever its case.

    Raises:
        UnclearNameError: several rows carry that label.
        UnknownNameError: none does; the nearest id or label is proposed.
    """
    wanted = " ".join(name.casefold().split())
    for row in table.rows:
        if row.id == wanted:
            return row
    labelled = [row for row in table.rows if " ".join(row.label.casefold().split()) == wanted]
    if len(labelled) > 1:
        ids = ", ".join(row.id for row in labelled)
        raise UnclearNameError(
            f"{len(labelled)} rows of {table.name} are labelled '{labelled[0].label}'; name one by "
            f"its id: {ids}."
        )
    if labelled:
        return labelled[0]
    labels = [row.label for row in table.rows]
    once = [label for label in labels if labels.count(label) == 1]
    raise UnknownNameError(f"row of {table.name}", name, [row.id for row in table.rows] + once)


def check_metric(name: str) -> str:
    """``name`` if a printed cell can be about it.

    Raises:
        UnknownNameError: it cannot; the nearest is proposed.
    """
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return name
