"""What figures need of a run, in one file beside its record: ``runs/<id>/inspection.npz``.

Written once by ``extract`` (which needs torch, the weights and the data); read by everybody, with
numpy alone. Features are kept with 8 bits a channel, which is far below what a picture shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.draw.regions import ObjectAreas, RegionAreas
from experiments.errors import SsaError
from experiments.files import parsed_json, read_bounded, write_atomically
from experiments.store.arrays import MOST_BYTES, npz_arrays, npz_bytes
from experiments.store.records import Record, Stored
from experiments.store.store import Store

#: raise when the same run would give another file
INSPECTION_VERSION = 1

#: in labels, the class of a pixel that has none
UNLABELLED = 255

Floats = NDArray[np.float32]


class InspectionError(SsaError):
    """An inspection that is damaged, of another record, or cannot be made."""


class ChosenImage(Stored):
    """One image that was kept whole; chosen by its labels, before any prediction was seen."""

    name: str
    index: int  # in the evaluated split, sorted by name
    focus_class: int  # the class that t-SNE colours and Grad-CAM explains


class InspectionProvenance(Stored):
    """Where an inspection comes from."""

    version: int
    run_id: str
    result_digest: str  # of the record; a changed record makes the inspection stale
    weights_sha256: str
    git_commit: str | None
    git_dirty: bool | None
    device: str
    torch: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]  # RGB, one a class
    dataset: str
    split: str
    num_images: int  # over which regions and relations were counted
    rule: str  # how the images were chosen
    images: tuple[ChosenImage, ...]
    #: pixels that were counted otherwise than in the record (another machine's rounding)
    differing_pixels: int
    miou_percent: float  # as measured again
    relation_scale: float | None  # τ of the relation matrices
    arrays_sha256: str  # over names, types, shapes and bytes of all arrays


@dataclass(frozen=True)
class InspectedImage:
    """One chosen image: pixels (H, W), features (h, w), K classes, D channels."""

    name: str
    focus_class: int
    image: NDArray[np.uint8] | None  # (H, W, 3) RGB; None: kept without, as its licence asks
    label: NDArray[np.uint8]  # (H, W) class ids, 255 unlabelled
    prediction: NDArray[np.uint8]  # (H, W) class ids
    cam: Floats | None  # (h', w') Grad-CAM of `focus_class`, 0 … 1
    small_label: NDArray[np.uint8] | None = None  # (h, w) class ids, 255 unlabelled
    features: Floats | None = None  # (h, w, D) S_f
    embedded_features: Floats | None = None  # (h, w, D') compared with the prototypes (S_f + P_f)
    adapted_prototypes: Floats | None = None  # (K, D) what the decision compares: (S_p + P_p)·W_oᵀ
    semantic_prototypes: Floats | None = None  # (K, D) S_p
    semantic_decision: Floats | None = None  # (K, D) S_p·W_oᵀ
    spatial_prototypes: Floats | None = None  # (K, D) P_p


@dataclass(frozen=True)
class RunInspection:
    """Everything that figures need of one run."""

    provenance: InspectionProvenance
    images: tuple[InspectedImage, ...]
    rings: RegionAreas  # (16, K): rings of 1 … 15 pixels around class borders, and the rest
    objects: ObjectAreas  # (6, K) by object size
    fixed_prototypes: Floats | None  # (K, D) or (K, P, D) W; None for mask classifiers
    #: (K, K) softmax_K(τ·cos) between classes, mean over all evaluated images; None without S_p
    student_relation: Floats | None
    #: the same of the teacher's prototypes; None without a teacher
    teacher_relation: Floats | None

    @property
    def pictured(self) -> bool:
        """Whether it has the chosen images themselves, not only what a network makes of them."""
        return all(image.image is not None for image in self.images)


#: optional arrays of an image that are stored as they are, in half precision
_HALF = (
    "cam",
    "adapted_prototypes",
    "semantic_prototypes",
    "semantic_decision",
    "spatial_prototypes",
)
_FEATURES = ("features", "embedded_features")
_BYTES = ("image", "label", "prediction", "small_label")
_AREAS = ("intersection", "predicted", "labelled")


def inspection_path(store: Store, run_id: str) -> Path:
    """Where the inspection of a run is kept."""
    return store.folder(run_id).path / "inspection.npz"


def write_inspection(store: Store, inspection: RunInspection) -> RunInspection:
    """Keep an inspection beside its record and return it as a reader will find it.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    arrays = _arrays(inspection)
    provenance = inspection.provenance.model_copy(update={"arrays_sha256": _digest(arrays)})
    path = inspection_path(store, provenance.run_id)
    note = np.frombuffer(provenance.model_dump_json().encode(), dtype=np.uint8)
    write_atomically(path, npz_bytes(**arrays, provenance=note))
    return load_inspection(path)


def without_pictures(inspection: RunInspection) -> RunInspection:
    """The same without the chosen images, for data whose pictures may not be passed on."""
    return replace(inspection, images=tuple(replace(i, image=None) for i in inspection.images))


def read_inspection(store: Store, record: Record) -> RunInspection | None:
    """The inspection of a run, or None if there is none.

    Raises:
        InspectionError: it is damaged, or of another record or version.
    """
    path = inspection_path(store, record.run_id)
    if not path.exists():
        return None
    inspection = load_inspection(path)
    if inspection.provenance.result_digest != record.result_digest:
        raise InspectionError(
            f"{path} belongs to an earlier record of this run; "
            f"`./run_all.sh extract {record.run_id}` makes it anew."
        )
    return inspection


def load_inspection(path: Path) -> RunInspection:
    """Read and check one file.

    Raises:
        InspectionError: it is damaged or of another version.
    """
    remedy = f"`./run_all.sh extract {path.parent.name}` makes it anew"
    try:
        arrays = npz_arrays(read_bounded(path, MOST_BYTES))
        document = parsed_json(arrays.pop("provenance").tobytes())
        version = document.get("version") if isinstance(document, dict) else None
        if version != INSPECTION_VERSION:
            raise InspectionError(
                f"{path} has format {version}, this program reads {INSPECTION_VERSION}; {remedy}."
            )
        provenance = InspectionProvenance.model_validate(document)
        if provenance.arrays_sha256 != _digest(arrays):
            raise ValueError("its checksum does not fit its content")
        return _inspection(provenance, arrays)
    except (OSError, KeyError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InspectionError(f"{path} is damaged ({reason}); {remedy}.") from None


def _arrays(inspection: RunInspection) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for number, image in enumerate(inspection.images):
        for name in (*_BYTES, *_HALF, *_FEATURES):
            value = getattr(image, name)
            if value is None:
                continue
            key = f"{number}.{name}"
            if name in _BYTES:
                arrays[key] = value.astype(np.uint8)
            elif name in _HALF:
                arrays[key] = value.astype(np.float16)
            else:
                arrays[key], arrays[f"{key}.scale"] = quantise(value)
    for name in _AREAS:
        arrays[f"rings.{name}"] = getattr(inspection.rings, name)
        arrays[f"objects.{name}"] = getattr(inspection.objects.areas, name)
    arrays["objects.number"] = inspection.objects.objects
    for name in ("fixed_prototypes", "student_relation", "teacher_relation"):
        value = getattr(inspection, name)
        if value is not None:
            kind = np.float16 if name == "fixed_prototypes" else np.float32
            arrays[name] = value.astype(kind)
    return arrays


def _inspection(
    provenance: InspectionProvenance, arrays: Mapping[str, NDArray[Any]]
) -> RunInspection:
    def floats(name: str) -> Floats | None:
        return arrays[name].astype(np.float32) if name in arrays else None

    def features(name: str) -> Floats | None:
        return arrays[name] * arrays[f"{name}.scale"] if name in arrays else None

    _check_classes(provenance)
    images = []
    for number, chosen in enumerate(provenance.images):
        values: dict[str, Any] = {name: arrays[f"{number}.{name}"] for name in _BYTES[1:3]}
        values["image"] = arrays.get(f"{number}.image")
        _check_pixels(provenance, **values)
        values["small_label"] = arrays.get(f"{number}.small_label")
        values |= {name: floats(f"{number}.{name}") for name in _HALF}
        values |= {name: features(f"{number}.{name}") for name in _FEATURES}
        images.append(InspectedImage(chosen.name, chosen.focus_class, **values))
    rings, objects = (
        RegionAreas(*(arrays[f"{part}.{name}"] for name in _AREAS)) for part in ("rings", "objects")
    )
    return RunInspection(
        provenance=provenance,
        images=tuple(images),
        rings=rings,
        objects=ObjectAreas(objects, arrays["objects.number"]),
        fixed_prototypes=floats("fixed_prototypes"),
        student_relation=floats("student_relation"),
        teacher_relation=floats("teacher_relation"),
    )


def _check_classes(provenance: InspectionProvenance) -> None:
    """Every class has a colour.

    Raises:
        ValueError: not so.
    """
    names, palette = provenance.class_names, provenance.palette
    if len(names) != len(palette) or len(names) > UNLABELLED:
        raise ValueError(f"{len(names)} classes and {len(palette)} colours")
    if any(not 0 <= channel <= 255 for colour in palette for channel in colour):
        raise ValueError("a colour beyond 0 … 255")


def _check_pixels(
    provenance: InspectionProvenance, image: NDArray | None, label: NDArray, prediction: NDArray
) -> None:
    """One image, if it is kept, its labels and its prediction fit each other and the classes.

    Raises:
        ValueError: they do not.
    """
    shape = (*label.shape, 3) if image is None else image.shape
    if {each.dtype.str for each in (image, label, prediction) if each is not None} != {"|u1"}:
        raise ValueError("pixels that are no bytes")
    if len(shape) != 3 or shape[2] != 3 or not label.size:
        raise ValueError(f"an image of {shape}")
    for ids in (label, prediction):
        if ids.shape != shape[:2]:
            raise ValueError(f"classes {ids.shape} of an image of {shape}")
        if np.any((ids >= len(provenance.class_names)) & (ids != UNLABELLED)):
            raise ValueError("a class that has no name")


def quantise(features: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Features (…, D) as int8 codes and a scale (D,) a channel: ``codes · scale`` is near them.

    The error is at most half a scale, 1/254 of the channel's largest magnitude.
    """
    largest = np.abs(features).reshape(-1, features.shape[-1]).max(0)
    scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
    return np.rint(features / scale).astype(np.int8), scale


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
