"""A small store with a row in every state, made by hand, and the report of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lab import write_registry
from PIL import Image
from samples import make_areas, make_record, make_spec

from analysis.report.data import ReportData
from analysis.report.gather import Request, gather
from analysis.report.page import render
from experiments.declare.load import load_registry
from experiments.declare.registry import ExperimentRegistry
from experiments.declare.run_spec import RunSpec
from experiments.draw.drawing import Drawing, DrawnRun, write_drawing
from experiments.draw.inspection import (
    INSPECTION_VERSION,
    ChosenImage,
    InspectedImage,
    InspectionProvenance,
    RunInspection,
    write_inspection,
)
from experiments.draw.regions import BAND_WIDTHS, ObjectAreas, RegionAreas
from experiments.plan.resolve import Resolver
from experiments.store.records import CurvePoint, Failure, Record
from experiments.store.store import Store
from experiments.store.workspace import Workspace

HOSTILE = "</script><script>alert('x')</script> & \"quoted\""

TABLE = """
name: states
title: A row in every state
source: nowhere
model: segnext_t
dataset: ade20k
columns: [macs_g, latency_ms, miou]
claims:
  - id: full-helps
    kind: gain
    text: The whole method helps.
    where: here
    pairs: [[full, baseline]]
rows:
  - id: baseline
    label: Baseline
    classifier: {name: softmax}
    reported: {miou: 40.0, macs_g: 6.3}
  - id: full
    label: SSA-Seg
    classifier: {name: ssa}
    reported: {miou: 42.5, gain: 2.5, macs_g: 99.9, latency_ms: 22.7}
  - id: partial
    label: One seed of three
    classifier: {name: ssa, overrides: {edge_size: 5}}
    reading: Read one way of two.
  - {id: stale, label: Old code, classifier: {name: ssa, overrides: {edge_size: 7}}}
  - {id: failed, label: It broke, classifier: {name: ssa, overrides: {edge_size: 9}}}
  - {id: missing, label: HOSTILE, classifier: {name: ssa, overrides: {edge_size: 11}}}
""".replace("HOSTILE", "'" + HOSTILE.replace("'", "''") + "'")

PROFILE = """
name: three
title: three seeds
description: A profile with three seeds.
dataset: {name: scenes, settings: {train: 6, val: 4}}
model_size: tiny
seeds: 3
training:
  iterations: 40
  batch: 2
  optimizer: {type: SGD, lr: 0.01, weight_decay: 0.0, momentum: 0.9}
  schedule: {power: 0.9}
  augmentation: {scale: [96, 96], ratio_range: [1.0, 1.0], crop: [64, 64]}
evaluation: {interval: 10}
"""

LATENCY = {
    "classifier": "ssa",
    "baseline": "segnext_t softmax",
    "device": "a processor",
    "ratio": {"median": 1.1},
    "reported_ratio": 1.018,
}

#: row → seed → how often its predictions are right
SKILLS = {
    "baseline": {0: 0.50, 1: 0.52, 2: 0.54},
    "full": {0: 0.70, 1: 0.72, 2: 0.74},
    "partial": {1: 0.6},
    "stale": {0: 0.6, 1: 0.6, 2: 0.6},
}


@dataclass(frozen=True)
class SmallReport:
    """The store and what was made of it."""

    folder: Path
    results: Path
    registry: ExperimentRegistry
    page: Path
    data: ReportData

    def row(self, row_id: str, profile: str = "three") -> object:
        (shown,) = [p for p in self.data.profiles if p.name == profile]
        (row,) = [row for row in shown.tables[0].rows if row.id == row_id]
        return row


def request(
    folder: Path, results: Path, *profiles: str, items: tuple[str, ...] = ("states",)
) -> Request:
    return Request(
        load_registry([folder]),
        Workspace(results, folder / "no-data"),
        profiles,
        items,
        (folder,),
    )


def make_small_report(root: Path) -> SmallReport:
    """Write the store, gather it, render it."""
    folder, results = write_registry(root / "registry"), root / "results"
    (folder / "tables" / "states.yaml").write_text(TABLE)
    (folder / "profiles" / "three.yaml").write_text(PROFILE)
    fill(folder, results)
    measured = results / "benchmarks" / "latency_segnext_t_here.json"
    measured.parent.mkdir()
    measured.write_text(json.dumps({"details": LATENCY}))
    asked = request(folder, results)
    data = gather(asked)
    page = results / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(render(data), encoding="utf-8")
    return SmallReport(folder, results, asked.registry, page, data)


def fill(folder: Path, results: Path) -> None:
    store = Store(results)
    for row, skills in SKILLS.items():
        for seed, skill in skills.items():
            changes = {"code": {"experiments.train.config": "0" * 64}} if row == "stale" else {}
            put(store, resolve(folder, results, row, seed), skill, **changes)
    broken = resolve(folder, results, "failed", 0)
    place = store.write_spec(broken)
    place.failure.write_text(
        Failure(
            run_id=broken.run_id, sentence="it diverged", traceback="", time="now"
        ).model_dump_json()
    )
    put(store, make_spec(profile="three", model="segnext_t"), 0.5)  # of other settings: no row's
    damaged = put(store, make_spec(profile="three", model="other"), 0.5)
    store.folder(damaged.run_id).record.write_text("{")
    draw_figure(results, store)
    for row in ("baseline", "full"):
        inspect(store, resolve(folder, results, row, 0), 0.5 if row == "baseline" else 0.8)


def resolve(
    folder: Path, results: Path, row: str, seed: int, profile: str = "three", table: str = "states"
) -> RunSpec:
    registry = load_registry([folder])
    workspace = Workspace(results=results, data_root=folder / "no-data")
    declared = registry.table(table)
    resolver = Resolver(registry, registry.profile(profile), workspace)
    spec = resolver.resolve(declared, declared.row(row), seed)
    assert isinstance(spec, RunSpec), spec
    return spec


def put(store: Store, spec: RunSpec, skill: float, **environment: object) -> Record:
    areas = make_areas(spec.seed, images=12, skill=skill)
    record = make_record(spec, areas, **environment)
    final = record.scores
    curve = tuple(
        CurvePoint(
            iteration=10 * k,
            scores=final.model_copy(update={"miou": final.miou * k / 4}),
            losses={},
        )
        for k in range(1, 5)
    )
    record = record.model_copy(update={"curve": curve})
    store.write_spec(spec)
    store.write_record(record, areas.to_bytes())
    return record


def draw_figure(results: Path, store: Store) -> None:
    """A picture that stands for figure 4 of this profile, of a run that is not there any more."""
    figure = load_registry().figure("figure4")
    run = DrawnRun(
        label="x", baseline=True, row="table8/full", seed=0, run_id="gone", result_digest="0"
    )
    described = write_drawing(
        Drawing(figure=figure, profile="three", style="text", runs=(run,), missing=()), results
    )
    Image.new("RGB", (64, 32), "navy").save(described.with_suffix(".png"))
    described.with_suffix(".txt").write_text(f"A caption with {HOSTILE}.\n")


def inspect(store: Store, spec: RunSpec, skill: float) -> None:
    record = store.read(spec.run_id)
    assert record is not None
    generator = np.random.default_rng(int(skill * 100))
    label = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2), 24, 0), 32, 1)
    label[0] = 255
    wrong = generator.random(label.shape) > skill
    prediction = np.where(wrong, (label + 1) % 4, label % 4).astype(np.uint8)
    image = InspectedImage(
        name="00001",
        focus_class=0,
        image=np.dstack([label * 60] * 3).astype(np.uint8),
        label=label,
        prediction=prediction,
        cam=None,
    )
    provenance = InspectionProvenance(
        version=INSPECTION_VERSION,
        run_id=spec.run_id,
        result_digest=record.result_digest,
        weights_sha256="0" * 64,
        git_commit=None,
        git_dirty=None,
        device="cpu",
        torch="2",
        class_names=("sky", "road", "car", "tree"),
        palette=((10, 20, 30), (200, 30, 30), (30, 200, 30), (240, 240, 20)),
        dataset="scenes",
        split="val",
        num_images=4,
        rule="by hand",
        images=(ChosenImage(name="00001", index=0, focus_class=0),),
        differing_pixels=0,
        miou_percent=record.scores.miou,
        relation_scale=None,
        arrays_sha256="",
    )
    inspection = RunInspection(
        provenance=provenance,
        images=(image,),
        rings=RegionAreas.zeros(BAND_WIDTHS + 1, 4),
        objects=ObjectAreas.zeros(4),
        fixed_prototypes=None,
        student_relation=None,
        teacher_relation=None,
    )
    write_inspection(store, inspection)
