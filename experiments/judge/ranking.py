"""Which row of a table is best and which second, where rows can be compared at all.

Rows can be compared where their gain is counted over the same baseline and on the same data set:
the same network with another classifier, or an ablation; a row that experiments.judge.comparability
refuses is not ranked. Only mIoU is ranked. More parameters, MACs or milliseconds are a price and
not a defeat, and a bold cheapest row would always be the baseline.
"""

from __future__ import annotations

from typing import Literal

from experiments.judge.assemble import TableResult

Mark = Literal["", "best", "second"]
LEAST_FOR_SECOND = 3  # rows; of two the second is the last


def marks(result: TableResult) -> dict[str, Mark]:
    """Row id → its mark, by the raw medians; equal numbers share a mark.

    Two rows that share the first place leave no second. A row that is alone has no mark.
    """
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for row in result.rows:
        if row.miou is not None and row.incomparable is None:
            key = (result.table.baseline_of(row.row).id, row.paper_dataset)
            groups.setdefault(key, {})[row.row.id] = row.miou.median
    found: dict[str, Mark] = {}
    for values in groups.values():
        if len(values) < 2:
            continue
        ordered = sorted(values.values(), reverse=True)
        for row_id, value in values.items():
            if value == ordered[0]:
                found[row_id] = "best"
            elif len(values) >= LEAST_FOR_SECOND and value == ordered[1]:
                found[row_id] = "second"
    return found
