"""A run is recorded only if its data is still that which it names.

A file that is cut or exchanged while a run trains may well be decoded, the rest of a JPEG in grey:
no step fails, and the number would be credited to images that it was not trained on.
"""

from __future__ import annotations

from pathlib import Path

from experiments.declare.run_spec import RunSpec
from experiments.store.records import Record
from experiments.store.store import Store, set_file_aside
from ssa.datasets.base import DATASETS, DataError


def digest_now(spec: RunSpec, data: Path, cache: Path) -> str:
    """The digest of a run's data as its files are now.

    Args:
        spec: the run.
        data: folder of its data set.
        cache: where digests of files are kept, with what tells whether a file has changed.

    Raises:
        DataError: a file is gone or cannot be read.
    """
    if spec.dataset == "scenes":
        from ssa.datasets.scenes import content_sha256

        try:
            return content_sha256(data)
        except OSError as error:
            raise DataError(f"Cannot read {error.filename}: {error.strerror}.") from error
    from ssa.datasets.digest import content_digest

    dataset = DATASETS[spec.dataset]
    return content_digest(dataset, data, dataset.splits, cache)


class SameDataStore(Store):
    """Refuses a record whose data has changed since it was planned.

    Args:
        root: the results folder.
        data: folder of the run's data set.
    """

    def __init__(self, root: Path, data: Path) -> None:
        super().__init__(root)
        self._data = data

    def write_record(self, record: Record, areas: bytes, weights: bytes | None = None) -> None:
        """As :meth:`Store.write_record`, after a look at the data.

        Raises:
            DataError: it is not what the run was planned with; its checkpoint is set aside.
            StoreError: the disk is full or may not be written.
        """
        spec = record.spec
        if digest_now(spec, self._data, self.root / "cache") != spec.dataset_digest:
            folder = self.folder(record.run_id)
            if folder.checkpoint.exists():
                set_file_aside(folder.checkpoint, "other")
            raise DataError(
                f"Files of the data set {spec.dataset} in {self._data} changed while this run "
                "trained: its number would be of no data set, and is not recorded. Put back what "
                "was there and give the same command again; the run starts anew."
            )
        super().write_record(record, areas, weights)
