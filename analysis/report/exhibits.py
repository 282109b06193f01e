"""What the report shows besides numbers: drawn figures, and scenes with their masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.report.data import FigureView, LayerKind, LayerView, ProfileView, SceneView
from analysis.report.pictures import (
    IGNORE_INDEX,
    correct_percent,
    mask,
    photo,
    reduced,
    stored_picture,
    veil,
)
from experiments.declare.figure import Figure
from experiments.declare.paper import Paper
from experiments.declare.registry import ExperimentRegistry
from experiments.declare.table import Row
from experiments.draw.drawing import read_drawing
from experiments.draw.inspection import (
    InspectedImage,
    InspectionError,
    RunInspection,
    read_inspection,
)
from experiments.errors import StoreError
from experiments.plan.resolve import Resolver
from experiments.show.export import DEFAULT_PROFILE
from experiments.store.records import Record
from experiments.store.store import Store
from experiments.store.workspace import Workspace

LONGEST_FIGURE_PX = 1600
LONGEST_SCENE_PX = 512
LONGEST_CAPTION = 1 << 16  # bytes


def figures(
    registry: ExperimentRegistry,
    profiles: tuple[ProfileView, ...],
    results: Path,
    records: Mapping[str, Record],
) -> tuple[FigureView, ...]:
    """Every declared figure in every profile, with its picture where it has been drawn.

    One without rows is the same in every profile: its picture stands in the first.
    """
    named = [registry.profile(profile.name) for profile in profiles]
    resolvers = [Resolver(registry, profile, Workspace(results)) for profile in named]
    return tuple(
        _figure(figure, resolver, records, resolvers[0].profile.name)
        for resolver in resolvers
        for figure in sorted(registry.figures.values(), key=lambda f: (f.number or 99, f.name))
    )


def _figure(
    figure: Figure, resolver: Resolver, records: Mapping[str, Record], first: str
) -> FigureView:
    profile = resolver.profile.name
    path = resolver.workspace.results / "figures" / f"{figure.stem(profile)}.png"
    drawn, damage = path.is_file(), ""
    if not figure.rows and profile != first:
        drawn, damage = False, f"The same in every profile: it stands in {first}."
    picture: str | None = None
    width = height = 0
    if drawn:
        try:
            picture, width, height = stored_picture(path, LONGEST_FIGURE_PX)
        except StoreError as error:
            drawn, damage = False, str(error).replace(f"{resolver.workspace.results}/", "")
    text = path.with_suffix(".txt")
    caption = ""
    if drawn and text.is_file():
        with text.open("rb") as file:
            caption = file.read(LONGEST_CAPTION).decode(errors="replace")
    return FigureView(
        name=figure.name,
        anchor=figure.stem(DEFAULT_PROFILE),
        title=figure.title,
        source=figure.source,
        profile=profile,
        of_paper=figure.number is not None,
        caption=caption.strip(),
        picture=picture,
        width=width,
        height=height,
        stale=_changed_since(path.with_suffix(".json"), records) if drawn else "",
        blocked=damage or resolver.unfit_figure(figure) or "",
        command=f"./run_all.sh {figure.name} --profile {profile}",
    )


def _changed_since(description: Path, records: Mapping[str, Record]) -> str:
    """Which runs of a drawn figure are not in the store any more as they were."""
    try:
        drawing = read_drawing(description)
    except StoreError as error:
        return str(error).replace(f"{description.parent.parent}/", "")
    changed = [
        run.run_id
        for run in drawing.runs
        if run.run_id not in records or records[run.run_id].result_digest != run.result_digest
    ]
    return f"made again or gone since it was drawn: {', '.join(changed)}" if changed else ""


@dataclass
class Scenes:
    """Scenes as they are gathered, with every picture once."""

    scenes: list[SceneView] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    def add(
        self,
        registry: ExperimentRegistry,
        profile: ProfileView,
        store: Store,
        records: Mapping[str, Record],
    ) -> None:
        """Add what the inspected runs of a profile saw: one scene an image and network."""
        groups: dict[tuple[str, str], list[_Seen]] = {}
        known: set[str] = set()
        for table in profile.tables:
            for row in table.rows:
                if not row.runs or row.runs[0] in known:
                    continue
                known.add(row.runs[0])
                record = records[row.runs[0]]
                try:
                    inspection = read_inspection(store, record)
                except InspectionError as error:
                    self.damaged.append(str(error))
                    continue
                if inspection is None:
                    continue
                kind = _kind(registry.table(table.name).row(row.id), registry.paper)
                key = (row.model, inspection.provenance.dataset)
                groups.setdefault(key, []).append(_Seen(row.label, kind, record, inspection))
        for (model, _), seen in groups.items():
            for image in seen[0].inspection.images:
                self.scenes.append(self._scene(profile.name, model, image, seen))

    def _scene(
        self, profile: str, model: str, image: InspectedImage, seen: list[_Seen]
    ) -> SceneView:
        provenance = seen[0].inspection.provenance
        palette, names = provenance.palette, provenance.class_names
        label = reduced(image.label, LONGEST_SCENE_PX)
        truth = self._kept(mask(label, palette))
        layers = [LayerView("truth", "truth", "Truth", truth, None, None, None)]
        if image.image is not None:
            shown = self._kept(photo(reduced(image.image, LONGEST_SCENE_PX)))
            layers.insert(0, LayerView("image", "image", "Image", shown, None, None, None))
        occurring = set(np.unique(label))
        for one in seen:
            there = next((i for i in one.inspection.images if i.name == image.name), None)
            if there is None or there.prediction.shape != image.label.shape:
                continue
            prediction = reduced(there.prediction, LONGEST_SCENE_PX)
            occurring |= set(np.unique(prediction))
            layers.append(self._layer(one, prediction, label, palette, there, image.label))
        return SceneView(
            id=f"{profile}.{model}.{provenance.dataset}.{image.name}",
            title=f"{provenance.dataset} {image.name}, {model}",
            profile=profile,
            dataset=provenance.dataset,
            network=model,
            width=label.shape[1],
            height=label.shape[0],
            layers=tuple(layers),
            legend=tuple(
                (names[k], "#{:02x}{:02x}{:02x}".format(*palette[k]))
                for k in sorted(int(k) for k in occurring if k != IGNORE_INDEX)
            ),
        )

    def _layer(
        self,
        one: _Seen,
        prediction: NDArray[np.uint8],
        label: NDArray[np.uint8],
        palette: tuple[tuple[int, int, int], ...],
        whole: InspectedImage,
        whole_label: NDArray[np.uint8],
    ) -> LayerView:
        return LayerView(
            id=one.record.run_id,
            kind=one.kind,
            title=one.label,
            picture=self._kept(mask(prediction, palette)),
            run_id=one.record.run_id,
            correct=correct_percent(whole.prediction, whole_label),
            veil=self._kept(veil(prediction, label)),
        )

    def _kept(self, picture: str) -> str:
        key = hashlib.sha256(picture.encode()).hexdigest()[:12]
        self.pictures[key] = picture
        return key


@dataclass(frozen=True)
class _Seen:
    """One inspected run and the row that shows it."""

    label: str
    kind: LayerKind
    record: Record
    inspection: RunInspection


def _kind(row: Row, paper: Paper) -> LayerKind:
    """Whether a row is the paper's baseline, its whole method, or something between."""
    if row.classifier.overrides or row.model_overrides:
        return "other"
    kinds: dict[str, LayerKind] = {paper.baseline: "baseline", paper.method: "ours"}
    return kinds.get(row.classifier.name, "other")
