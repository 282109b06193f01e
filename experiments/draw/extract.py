"""From a trained network to what figures need of it; the only part of drawing that needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.draw.grad_cam import grad_cam
from experiments.draw.inspection import (
    INSPECTION_VERSION,
    ChosenImage,
    Floats,
    InspectedImage,
    InspectionError,
    InspectionProvenance,
    RunInspection,
    inspection_path,
    load_inspection,
    read_inspection,
    without_pictures,
    write_inspection,
)
from experiments.draw.regions import ObjectAreas, RegionAreas, object_areas, ring_areas
from experiments.errors import CorruptRecordError
from experiments.machine import git_commit
from experiments.store.areas import ImageAreas, image_areas, scores
from experiments.store.distances import FeatureDistances, read_distances, write_distances
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.train.config import IGNORE_INDEX, Surroundings, runner_config
from experiments.train.trained import load_trained
from ssa.classifiers.base import PixelClassifier

if TYPE_CHECKING:
    from mmengine.model import BaseModel

#: images kept whole, one out of each equal stretch of the evaluated split
NUM_IMAGES = 4
RULE = (
    f"one out of each of {NUM_IMAGES} equal stretches of the split: most classes with at least "
    "1/500 of the image, then most small objects, then the first; the focus class is the rarest "
    "class of the split among those that take 1/30 of the image"
)
_SEEN_SHARE = 1 / 500
_FOCUS_SHARE = 1 / 30
#: a network that decides this share of the pixels otherwise is not the record's; another machine's
#: rounding changes far fewer
TOLERANCE_SHARE = 0.02


def extract(
    record: Record,
    store: Store,
    data: Path,
    device: str = "cpu",
    *,
    measured: bool = False,
    pictures: bool | None = None,
) -> tuple[RunInspection, bool]:
    """The inspection of a run: read if there is a whole one of this record, else made and kept.

    Args:
        record: of the run; its weights lie in ``store``.
        store: where the inspection is kept.
        data: the folder of the run's data set.
        device: "cpu" or "cuda".
        measured: whether it must have its distances of features beside it, or is made anew.
        pictures: whether the chosen images are kept; None: as it is, with them where it is made.

    Returns:
        The inspection, and whether it was made now; with it the run's distances of features.

    Raises:
        MissingWeightsError: it must be made, and there are no weights.
        InspectionError: the weights are not those of the record.
    """
    with suppress(InspectionError):  # damaged or of an earlier record: made anew
        kept = read_inspection(store, record)
        lacks = kept is None or (pictures and not kept.pictured)
        if kept is not None and not lacks and not (measured and _distances_lack(store, record)):
            return kept, False
    if pictures is None:
        pictures = _pictured(inspection_path(store, record.run_id))
    inspection, distances = inspect_run(record, store, data, device)
    if not pictures:
        inspection = without_pictures(inspection)
    write_distances(store, record, distances)
    return write_inspection(store, inspection), True


def _pictured(path: Path) -> bool:
    """Whether an inspection, also an earlier record's, has its images; True where none is whole."""
    try:
        return load_inspection(path).pictured
    except InspectionError:
        return True


def _distances_lack(store: Store, record: Record) -> bool:
    try:
        return read_distances(store, record) is None
    except CorruptRecordError:
        return True  # made anew


def inspect_run(
    record: Record, store: Store, data: Path, device: str
) -> tuple[RunInspection, FeatureDistances]:
    """Evaluate a run's network once more and note what figures need; see :func:`extract`."""
    model = load_trained(record, store, device)
    classifier = pixel_classifier(model)
    notes, palette = _notes_of(model, classifier, record, store, data, device)
    areas, kept = notes.image_areas(), store.read_areas(record.run_id)
    _check(record, store, areas, kept)
    labelled = areas.labelled.sum(0)
    images = [
        _image(model, classifier, best, focus_class(best.label, labelled)) for best in notes.best
    ]
    commit, dirty = git_commit()
    weights = store.folder(record.run_id).weights
    inspection = RunInspection(
        provenance=InspectionProvenance(
            version=INSPECTION_VERSION,
            run_id=record.run_id,
            result_digest=record.result_digest,
            weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
            git_commit=commit,
            git_dirty=dirty,
            device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
            torch=torch.__version__,
            class_names=record.class_names,
            palette=palette,
            dataset=record.spec.dataset,
            split=record.spec.evaluation.split,
            num_images=len(areas.names),
            rule=RULE,
            images=tuple(
                ChosenImage(name=image.name, index=best.index, focus_class=image.focus_class)
                for (image, _), best in zip(images, notes.best)
            ),
            differing_pixels=_differing_pixels(areas, kept),
            miou_percent=scores(areas).miou,
            relation_scale=notes.relation_scale,
            arrays_sha256="",
        ),
        images=tuple(image for image, _ in images),
        rings=notes.rings,
        objects=notes.objects,
        fixed_prototypes=images[0][1] if images else None,
        student_relation=notes.relation("student"),
        teacher_relation=notes.relation("teacher"),
    )
    return inspection, notes.distances()


def _notes_of(
    model: BaseModel,
    classifier: PixelClassifier | None,
    record: Record,
    store: Store,
    data: Path,
    device: str,
) -> tuple[_Notes, Any]:
    """Every evaluated image once through the network; and the data set's colours."""
    from mmengine.runner import Runner

    from experiments.train.loops import EVALUATE, like_sized, seed_torch
    from experiments.train.predictions import classified

    folder = store.folder(record.run_id)
    around = Surroundings(
        folder.path / "work", data, folder.progress, folder.checkpoint, device=device
    )
    loader = Runner.build_dataloader(runner_config(record.spec, around)["val_dataloader"])
    notes = _Notes(record.spec.num_classes, len(loader.dataset))
    for number, batch in enumerate(loader):
        seed_torch(record.spec.seed, EVALUATE, number)
        for part in like_sized(batch):
            with torch.no_grad(), _last_input(classifier) as seen:
                samples = classified(model, part)
                if classifier is not None and record.spec.evaluation.mode == "slide":
                    _whole(model, part)  # the windows' features would not be the image's
            notes.add(part, samples, classifier, seen)
    return notes, tuple(tuple(colour) for colour in loader.dataset.metainfo["palette"])


def pixel_classifier(model: BaseModel) -> PixelClassifier | None:
    """The classifier that decides; None in a mask classifier."""
    found = [m for m in model.decode_head.modules() if isinstance(m, PixelClassifier)]
    return found[-1] if found else None


@contextmanager
def _last_input(layer: nn.Module | None) -> Iterator[list[Tensor]]:
    """A list that holds the first argument of the last call of ``layer``."""
    seen: list[Tensor] = []
    if layer is None:
        yield seen
        return

    def remember(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = [inputs[0].detach()]

    handle = layer.register_forward_pre_hook(remember)
    try:
        yield seen
    finally:
        handle.remove()


def _whole(model: BaseModel, batch: Any) -> Tensor:
    """Logits (B, K, H, W) at the network's input size, without sliding."""
    data = model.data_preprocessor(batch, False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    return model.encode_decode(data["inputs"], metas)


@dataclass
class _Best:
    """The best image of one stretch so far."""

    score: tuple[int, int]
    index: int
    name: str
    pixels: Tensor  # (3, h, w) uint8 BGR as the network is given it
    sample: Any
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    features: Tensor | None


@dataclass
class _Notes:
    """What is summed up over the evaluated images."""

    num_classes: int
    num_images: int
    rings: RegionAreas = field(init=False)
    objects: ObjectAreas = field(init=False)
    relation_scale: float | None = None
    _best: dict[int, _Best] = field(default_factory=dict)
    _areas: list[tuple[str, Any, Any, Any]] = field(default_factory=list)
    _relations: dict[str, Tensor] = field(default_factory=dict)
    _fixed: Tensor | None = None  # prototypes that are the same for all images
    _distances: list[tuple[str, Floats]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from experiments.draw.regions import BAND_WIDTHS

        self.rings = RegionAreas.zeros(BAND_WIDTHS + 1, self.num_classes)
        self.objects = ObjectAreas.zeros(self.num_classes)

    @property
    def best(self) -> list[_Best]:
        return [self._best[stretch] for stretch in sorted(self._best)]

    def image_areas(self) -> ImageAreas:
        """Areas of every image in the order of the record's."""
        ordered = sorted(self._areas, key=lambda entry: entry[0])
        return ImageAreas(
            tuple(entry[0] for entry in ordered),
            *(np.stack([entry[part] for entry in ordered]) for part in (1, 2, 3)),
        )

    def distances(self) -> FeatureDistances:
        """Of every image in the order of the record's."""
        names, values = zip(*sorted(self._distances, key=lambda entry: entry[0]))
        return FeatureDistances(names, np.stack(values))

    def relation(self, whose: str) -> Floats | None:
        """(K, K) mean over all images."""
        total = self._relations.get(whose)
        return None if total is None else (total / len(self._areas)).cpu().numpy()

    def add(
        self, batch: Any, samples: list[Any], classifier: PixelClassifier | None, seen: list[Tensor]
    ) -> None:
        """Note one batch: its predictions and the features that they were decided on."""
        features = seen[0] if seen else None
        labels = [sample.gt_sem_seg.data for sample in samples]
        if classifier is not None and features is not None:
            self._relate(classifier, features, labels)
            self._fixed = self._fixed if self._fixed is not None else _fixed(classifier, features)
        for place, sample in enumerate(samples):
            label = labels[place][0].cpu().numpy().astype(np.uint8)
            prediction = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
            counted = (prediction, label, self.num_classes, IGNORE_INDEX)
            name = Path(sample.metainfo["img_path"]).stem
            index = len(self._areas)
            self._areas.append((name, *image_areas(*counted)))
            self.rings = self.rings + ring_areas(*counted)
            distances = np.full(self.num_classes, np.nan, np.float32)
            if features is not None and self._fixed is not None:
                distances = class_distances(features[place], self._fixed, label)
            self._distances.append((name, distances))
            objects = object_areas(*counted)
            self.objects = self.objects + objects
            stretch = index * min(NUM_IMAGES, self.num_images) // self.num_images
            score = _interest(label, objects)
            if stretch in self._best and score <= self._best[stretch].score:
                continue
            self._best[stretch] = _Best(
                score,
                index,
                name,
                batch["inputs"][place],
                batch["data_samples"][place],
                label,
                prediction,
                None if features is None else features[place : place + 1].clone(),
            )

    @torch.no_grad()
    def _relate(self, classifier: PixelClassifier, features: Tensor, labels: list[Tensor]) -> None:
        from ssa.losses.distillation import relation_matrix

        if not hasattr(classifier.config, "relation_scale"):
            return  # this classifier knows no relations between classes
        scale = classifier.config.relation_scale
        student = classifier.inspect(features).semantic_prototypes
        if student is None:
            return
        self.relation_scale = scale
        matrices = {"student": student}
        teach = getattr(classifier, "inspect_teacher", None)
        taught_alike = len({label.shape for label in labels}) == 1
        if teach and getattr(classifier, "teacher", None) is not None and taught_alike:
            taught = teach(features, torch.stack(labels).to(features.device))
            matrices["teacher"] = taught.semantic_prototypes
        for whose, prototypes in matrices.items():
            prototypes = prototypes.expand(len(features), -1, -1).double()
            total = relation_matrix(prototypes, prototypes, scale).sum(0).float()
            before = self._relations.get(whose)
            self._relations[whose] = total if before is None else before + total


@torch.no_grad()
def _fixed(classifier: PixelClassifier, features: Tensor) -> Tensor | None:
    """The prototypes (K, D) or (K, P, D) in the space of the features; None: in another."""
    fixed = classifier.inspect(features[:1]).fixed_prototypes
    return fixed if fixed.shape[-1] == features.shape[1] else None


def class_distances(features: Tensor, fixed: Tensor, label: NDArray[np.uint8]) -> Floats:
    """(K,) distance of each class's features from its prototype, 1 − cos, the mean over its pixels.

    Args:
        features: (D, h, w) S_f.
        fixed: (K, D), or (K, P, D) of which the nearest counts.
        label: (H, W) class ids, 255 unlabelled; brought to (h, w) by the nearest pixel.

    Returns: NaN for a class without a pixel there.
    """
    from ssa.classifiers.ssa import resize_labels

    small = resize_labels(torch.from_numpy(label)[None], features.shape[1:])[0].to(features.device)
    own = small[small != IGNORE_INDEX].long()
    pixels = features.permute(1, 2, 0)[small != IGNORE_INDEX].double()
    prototypes = fixed.double().reshape(len(fixed), -1, fixed.shape[-1])[own]
    cosines = F.cosine_similarity(pixels[:, None], prototypes, dim=-1).amax(-1)
    sums = cosines.new_zeros(len(fixed)).index_add_(0, own, 1.0 - cosines)
    # a class without a pixel: 0 / 0 is the NaN that is wanted
    return _floats(sums / torch.bincount(own, minlength=len(fixed)))


def _interest(label: NDArray[np.uint8], objects: ObjectAreas) -> tuple[int, int]:
    """How much there is to see in an image, by its labels alone."""
    shares = np.bincount(label[label != IGNORE_INDEX], minlength=1) / label.size
    return int((shares >= _SEEN_SHARE).sum()), int(objects.objects[:2].sum())


def focus_class(label: NDArray[np.uint8], labelled: NDArray[np.int64]) -> int:
    """The class to look at in an image: large enough to be seen, and otherwise rare.

    Args:
        label: (H, W) class ids, 255 unlabelled; at least one pixel is labelled.
        labelled: (K,) pixels of each class in the whole split.

    Returns:
        The rarest class of the split that takes 1/30 of the image; the image's largest if none.
    """
    counts = np.bincount(label[label != IGNORE_INDEX], minlength=len(labelled))
    seen = np.flatnonzero(counts >= _FOCUS_SHARE * label.size)
    return int(seen[np.argmin(labelled[seen])]) if seen.size else int(counts.argmax())


def _image(
    model: BaseModel, classifier: PixelClassifier | None, best: _Best, focus: int
) -> tuple[InspectedImage, Floats | None]:
    """One chosen image, and the prototypes that are the same for all."""
    batch = {"inputs": [best.pixels], "data_samples": [best.sample]}
    region = torch.from_numpy(best.label == focus)[None, None].float()

    def score() -> Tensor:
        logits = _whole(model, batch)
        where = F.interpolate(region, size=logits.shape[2:]).to(logits.device)
        return (logits[:, focus] * where[:, 0]).sum() / where.sum().clamp_min(1)

    from experiments.train.loops import EVALUATE, seed_torch

    seed_torch(0, EVALUATE, best.index)
    cam = grad_cam(model.backbone, score)
    image = np.ascontiguousarray(best.pixels.numpy()[::-1].transpose(1, 2, 0))
    chosen: dict[str, Any] = {
        "name": best.name,
        "focus_class": focus,
        "image": image,
        "label": best.label,
        "prediction": best.prediction,
        "cam": cam.float().cpu().numpy(),
    }
    if classifier is None or best.features is None:
        return InspectedImage(**chosen), None
    return InspectedImage(**chosen, **_prototypes(classifier, best)), _floats(
        classifier.inspect(best.features).fixed_prototypes
    )


def _prototypes(classifier: PixelClassifier, best: _Best) -> dict[str, Any]:
    from ssa.classifiers.ssa import resize_labels

    assert best.features is not None
    shown = classifier.inspect(best.features)
    label = torch.from_numpy(best.label)[None]
    projection = getattr(classifier, "output_projection", None)
    semantic = shown.semantic_prototypes
    with torch.no_grad():
        decided = semantic if projection is None or semantic is None else projection(semantic)
    features, embedded = _map(best.features), _map(shown.embedded_features)
    same = features.shape == embedded.shape and np.array_equal(features, embedded)
    return {
        "small_label": resize_labels(label, best.features.shape[2:])[0].numpy().astype(np.uint8),
        "features": features,
        "embedded_features": None if same else embedded,
        "adapted_prototypes": _first(shown.adapted_prototypes),
        "semantic_prototypes": _first(semantic),
        "semantic_decision": _first(decided),
        "spatial_prototypes": _first(shown.spatial_prototypes),
    }


def _map(features: Tensor) -> Floats:
    """(1, D, h, w) as (h, w, D)."""
    return np.ascontiguousarray(_floats(features[0].permute(1, 2, 0)))


def _first(prototypes: Tensor | None) -> Floats | None:
    return None if prototypes is None else _floats(prototypes[0])


def _floats(tensor: Tensor) -> Floats:
    return tensor.detach().float().cpu().numpy()


def _check(record: Record, store: Store, areas: ImageAreas, kept: ImageAreas) -> None:
    """Refuse a network that is not the one that the record speaks of."""
    if areas.names == kept.names:
        pixels, different = int(kept.predicted.sum()), _differing_pixels(areas, kept)
        if different <= TOLERANCE_SHARE * pixels:
            return
        how = f"decides at least {different} of {pixels} pixels otherwise than its record says"
    else:
        how = "was scored on other images than its record says"
    raise InspectionError(
        f"{store.folder(record.run_id).weights} {how}: the weights or the data are not those of "
        f"the record. Rename {record.run_id} and give the command that made it again."
    )


def _differing_pixels(areas: ImageAreas, kept: ImageAreas) -> int:
    """How many pixels at least were decided otherwise than in the record."""
    return int(np.abs(areas.predicted - kept.predicted).sum() + 1) // 2
