"""What runs will cost where nothing like them has been run: GPU-hours from printed MACs.

An estimate, not a measurement: multiply-accumulates of one image × the work of a training step in
forward passes × images, at the throughput that a profile declares.
"""

from __future__ import annotations

from experiments.declare.profile import CostBasis
from experiments.declare.registry import ExperimentRegistry
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import SIDE, SIDE_OF, Row, Table


class GpuHours:
    """Estimates runs of rows.

    Args:
        registry: its tables hold the printed MACs.
        basis: throughput and work of a step.
    """

    def __init__(self, registry: ExperimentRegistry, basis: CostBasis) -> None:
        self.registry = registry
        self.basis = basis

    def of(self, table: Table, row: Row, spec: RunSpec) -> float | None:
        """GPU-hours of training ``spec``; None where no table prints MACs of its model."""
        per_pixel = self._macs_per_pixel(table, row)
        if per_pixel is None:
            return None
        training = spec.training
        height, width = training.augmentation.crop
        images = training.batch * training.iterations
        macs = per_pixel * height * width * self.basis.passes * images
        return macs / (self.basis.tmacs_per_s * 1e12) / 3600.0

    def sentence(self) -> str:
        """On what the estimate rests."""
        basis = self.basis
        return (
            f"GPU-hours are an estimate, not a measurement: the paper's MACs × {basis.passes:g} "
            f"(forward and backward) × images, at {basis.tmacs_per_s:g}e12 MACs a second on one "
            f"{basis.device} ({basis.basis}); evaluation is left out."
        )

    def _macs_per_pixel(self, table: Table, row: Row) -> float | None:
        """As printed in the row, else in a row of the same model: on the same data set if any."""
        model, dataset = row.model or table.model, row.dataset or table.dataset
        if (own := _per_pixel(table, row)) is not None:
            return own
        others = [
            (other.dataset or each.dataset, value)
            for each in self.registry.tables.values()
            for other in each.rows
            if (other.model or each.model) == model
            and (value := _per_pixel(each, other)) is not None
        ]
        same = [value for name, value in others if name == dataset]
        return next(iter(same or [value for _, value in others]), None)


def _per_pixel(table: Table, row: Row) -> float | None:
    if row.reported.macs_g is None:
        return None
    dataset = str(row.dataset or table.dataset)
    side = row.counted_with.get("size", SIDE_OF.get(dataset, SIDE))
    return row.reported.macs_g * 1e9 / side**2
