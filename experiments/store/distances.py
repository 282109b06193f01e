"""How far the features of each class lie from its fixed prototype, image by image.

``runs/<id>/distances.npz``, written by ``extract``, which needs the network and the data; read by
claims and figures with numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.errors import CorruptRecordError
from experiments.files import read_bounded, write_atomically
from experiments.store.arrays import MOST_BYTES, npz_arrays, npz_bytes
from experiments.store.records import Record
from experiments.store.store import Store


@dataclass(frozen=True)
class FeatureDistances:
    """One run's distances in N images of K classes.

    A distance is the mean over the pixels that are labelled with the class, at the resolution of
    the features, of 1 − cos(S_f, W): 0 where all lie in the prototype's direction, 1 where they
    stand at right angles to it. Of several prototypes of a class the nearest counts.
    """

    names: tuple[str, ...]  # of the images, as in the run's areas
    #: (N, K); NaN where an image shows no pixel of the class, and everywhere where a network has no
    #: prototypes in the space of its features
    values: NDArray[np.float32]


def distances_path(store: Store, run_id: str) -> Path:
    """Where the distances of a run are kept."""
    return store.folder(run_id).path / "distances.npz"


def write_distances(store: Store, record: Record, distances: FeatureDistances) -> None:
    """Keep a run's distances beside its record.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    arrays = npz_bytes(
        result_digest=np.array(record.result_digest),
        names=np.array(distances.names),
        values=distances.values.astype(np.float32),
    )
    write_atomically(distances_path(store, record.run_id), arrays)


def read_distances(store: Store, record: Record) -> FeatureDistances | None:
    """The distances of a run; None if there are none, or those of an earlier record.

    Raises:
        CorruptRecordError: the file is damaged.
    """
    path = distances_path(store, record.run_id)
    try:
        arrays = npz_arrays(read_bounded(path, MOST_BYTES))
        if str(arrays["result_digest"]) != record.result_digest:
            return None
        names, values = tuple(str(name) for name in arrays["names"]), arrays["values"]
        if values.shape != (len(names), len(record.class_names)) or values.dtype.kind != "f":
            raise ValueError(f"{values.shape} distances of {values.dtype}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise CorruptRecordError(
            f"{path} is damaged ({error}); delete it and give `./run_all.sh extract "
            f"{record.run_id}`."
        ) from None
    return FeatureDistances(names, values.astype(np.float32))
