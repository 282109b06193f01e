"""Every kind of figure from small real runs: drawn, described, and twice the same."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from lab import PROJECT, Lab, assert_clear, environment, finished
from rich.console import Console

from analysis.kinds import NothingToDrawError
from analysis.kinds import draw as draw_kind
from analysis.reading import Material, read_material
from experiments.declare.figure import INSPECTED, Figure, FigureRow, Kind, figure_stem
from experiments.declare.load import load_registry
from experiments.draw.draw import draw_stored
from experiments.draw.drawing import read_drawing, write_drawing
from experiments.draw.inspection import (
    RunInspection,
    read_inspection,
    without_pictures,
    write_inspection,
)
from experiments.errors import RegistryError, StoreError
from experiments.plan.request import Request
from experiments.store.workspace import Workspace

pytestmark = pytest.mark.slow

KINDS: tuple[str, ...] = get_args(Kind)
SUFFIXES = (".csv", ".json", ".pdf", ".png", ".txt")
FIGURE = """
name: my_{kind}
title: A small {kind}
source: nowhere
kind: {kind}
domains: [semantic, decision]
rows:
  - {{run: pair/baseline, label: Baseline, baseline: true}}
  - {{run: pair/full, label: SSA-Seg}}
"""


def write_figures(folder: Path, *kinds: str) -> Path:
    (folder / "figures").mkdir(parents=True)
    for kind in kinds or KINDS:
        text = FIGURE.format(kind=kind)
        (folder / "figures" / f"my_{kind}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_figures(tmp_path_factory.mktemp("figures"))


def mine(lab: Lab) -> dict[str, bytes]:
    """The files of the figures above."""
    folder = lab.results / "figures"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("my_*"))}


def draw_all(lab: Lab, declared: Path) -> subprocess.CompletedProcess[str]:
    return lab.call("figures", "--registry", str(declared))


def analyse(*descriptions: Path) -> subprocess.CompletedProcess[str]:
    """Draw what is described, as the command line has it done."""
    command = [sys.executable, "-W", "ignore", "-m", "analysis", *map(str, descriptions)]
    return finished(command, SOURCE_DATE_EPOCH="0")


@pytest.fixture(scope="module")
def drawn(extracted: Lab, declared: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Results in which every kind is drawn. Do not write to it."""
    lab = extracted.copy(tmp_path_factory.mktemp("drawn") / "results")
    said = draw_all(lab, declared)
    # the project's own figures have no runs here, ours have
    assert_clear(said, 3, "figure4 is not drawn; `./run_all.sh figure4 --profile smoke` trains")
    assert "my_" not in "".join(line for line in said.stdout.splitlines() if "missing" in line)
    return lab


def description(lab: Lab, kind: str) -> Path:
    return lab.results / "figures" / f"my_{kind}-smoke.json"


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_with_numbers_and_a_caption(drawn: Lab, kind: str) -> None:
    stem = description(drawn, kind).with_suffix("")
    frame = pd.read_csv(stem.with_suffix(".csv"))
    assert len(frame)
    caption = " ".join(stem.with_suffix(".txt").read_text().split())
    assert f"A small {kind}." in caption
    if kind == "architecture":
        return
    assert "Profile smoke" in caption
    assert "scaled-down networks (tiny), not the paper's setting" in caption
    for classifier in ("softmax", "ssa"):
        if kind == "relation_matrix" and classifier == "softmax":
            continue
        assert drawn.record(classifier).run_id in caption
    png = stem.with_suffix(".png").read_bytes()
    assert png.startswith(b"\x89PNG")


def test_no_figure_shows_a_photograph_that_one_of_its_runs_is_kept_without(
    drawn: Lab, tmp_path: Path
) -> None:
    lab = drawn.copy(tmp_path / "results")
    photographs = [image.image for image in kept(lab, "ssa").images]
    write_inspection(lab.store, without_pictures(kept(lab, "ssa")))
    paths = [description(lab, kind) for kind in ("tsne", "intra_class", "masks_and_cam")]
    for path in paths:
        assert shows(read_material(path), photographs), "of the baseline, which has them"
        described = read_drawing(path)
        write_drawing(described.model_copy(update={"pictures": False}), lab.results)
        assert not shows(read_material(path), photographs)
    folder = write_figures(tmp_path / "declared", "masks_and_cam")
    said = lab.call("figures", "--registry", str(folder))
    assert_clear(said, 3, "my_masks_and_cam-smoke")
    assert not read_drawing(paths[-1]).pictures
    assert not shows(read_material(paths[-1]), photographs)
    assert "Without the photographs" in paths[-1].with_suffix(".txt").read_text()


def kept(lab: Lab, classifier: str) -> RunInspection:
    found = read_inspection(lab.store, lab.record(classifier))
    assert found is not None
    return found


def shows(material: Material, photographs: list[np.ndarray | None]) -> bool:
    """Whether one of these is among the pictures of a figure."""
    pictures = [
        np.asarray(shown.get_array())
        for axes in draw_kind(material).figure.axes
        for shown in axes.get_images()
    ]
    same = [
        np.array_equal(picture, photograph)
        for picture in pictures
        for photograph in photographs
        if photograph is not None
    ]
    return any(same)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pdf_is_of_the_text_width_with_its_fonts_and_no_time(drawn: Lab, kind: str) -> None:
    pdf = description(drawn, kind).with_suffix(".pdf").read_bytes()
    boxes = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert float(boxes[0][0]) == pytest.approx(6.75 * 72)
    assert b"/Subtype /Type3" not in pdf
    assert b"/FontFile2" in pdf
    assert b"/CreationDate" not in pdf
    if shutil.which("pdffonts"):
        path = description(drawn, kind).with_suffix(".pdf")
        lines = subprocess.run(
            ["pdffonts", str(path)], capture_output=True, text=True, check=True
        ).stdout.splitlines()[2:]
        assert lines
        embedded = [line.split()[-5] for line in lines]  # name type encoding EMB sub uni object id
        assert set(embedded) == {"yes"}


@pytest.mark.parametrize(
    "kind", ["miou_curves", "class_changes", "boundary", "small_objects", "variance"]
)
def test_lines_and_bars_are_vectors(drawn: Lab, kind: str) -> None:
    pdf = description(drawn, kind).with_suffix(".pdf").read_bytes()
    assert b"/Subtype /Image" not in pdf
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    content = b"".join(zlib.decompress(s) for s in streams if s.startswith(b"\x78"))
    assert content.count(b" l\n") > 10


def test_points_are_read_again_and_not_computed_again(drawn: Lab, tmp_path: Path) -> None:
    lab = drawn.copy(tmp_path / "results")
    before = read_material(description(lab, "intra_class"))
    moved = 0
    for path in (lab.results / "figures" / "tsne").iterdir():
        lines = path.read_text().splitlines()
        if '"within class"' in lines[0]:
            path.write_text("\n".join([lines[0], "77.5,-3.25", *lines[2:]]) + "\n")
            moved += 1
    assert moved == 2
    frame = draw_kind(before).frame
    assert ((frame["x"] == 77.5) & (frame["y"] == -3.25)).sum() == 2


# --- the numbers are the runs' --------------------------------------------------------------------


def test_the_curves_are_the_records(drawn: Lab) -> None:
    frame = pd.read_csv(description(drawn, "miou_curves").with_suffix(".csv"))
    for classifier, label in (("softmax", "Baseline"), ("ssa", "SSA-Seg")):
        curve = [(p.iteration, p.scores.miou) for p in drawn.record(classifier).curve]
        line = frame[frame["label"] == label]
        assert list(zip(line["iteration"], line["miou_percent"])) == curve


def test_the_changes_are_differences_of_the_records(drawn: Lab) -> None:
    frame = pd.read_csv(description(drawn, "class_changes").with_suffix(".csv"))
    softmax, ssa = drawn.record("softmax"), drawn.record("ssa")
    expected = {
        name: ours - theirs
        for name, ours, theirs in zip(ssa.class_names, ssa.per_class_iou, softmax.per_class_iou)
        if ours is not None and theirs is not None
    }
    assert dict(zip(frame["class"], frame["change_points"])) == pytest.approx(expected)
    assert frame["change_points"].is_monotonic_decreasing


def test_the_whole_image_is_among_the_bands_and_scores_as_the_record(drawn: Lab) -> None:
    frame = pd.read_csv(description(drawn, "boundary").with_suffix(".csv"))
    whole = frame[frame["band_px"] == 0].set_index("label")["miou_percent"]
    assert whole["Baseline"] == pytest.approx(drawn.record("softmax").scores.miou)
    assert whole["SSA-Seg"] == pytest.approx(drawn.record("ssa").scores.miou)


def test_pixels_of_a_space_are_the_pixels_of_its_image(drawn: Lab) -> None:
    frame = pd.read_csv(description(drawn, "tsne").with_suffix(".csv"))
    material = read_material(description(drawn, "tsne"))
    image = material.baseline.inspections[0].images[0]
    assert image.small_label is not None
    names = material.baseline.records[0].class_names
    labels = image.small_label.reshape(-1)
    panels = frame["panel"].unique().tolist()
    assert panels == ["Baseline, S_f", "SSA-Seg, S_f", "SSA-Seg, S_f + P_f"]
    for panel in panels:
        pixels = frame[(frame["panel"] == panel) & (frame["what"] == "pixel")]
        assert len(pixels) == (labels != 255).sum()
        assert [names[labels[int(place)]] for place in pixels["place"]] == list(pixels["class"])
        stars = frame[(frame["panel"] == panel) & (frame["what"] != "pixel")]["what"].tolist()
        assert stars == ["fixed prototype"] + ["adapted prototype"] * ("SSA" in panel)


def test_relations_are_of_the_runs_that_have_them(drawn: Lab) -> None:
    frame = pd.read_csv(description(drawn, "relation_matrix").with_suffix(".csv"))
    assert frame["matrix"].unique().tolist() == ["student, SSA-Seg", "teacher, SSA-Seg"]
    shares = frame.groupby(["matrix", "class"])["share"].sum()
    assert np.allclose(shares, 1, atol=1e-4)


def test_what_is_drawn_already_can_be_left_alone(
    drawn: Lab, declared: Path, tmp_path: Path
) -> None:
    lab = drawn.copy(tmp_path / "results")
    registry = load_registry([lab.registry, declared])
    workspace = Workspace(results=lab.results)
    call = Request(registry, registry.profile("smoke"), (0,), workspace, 1, "cpu")
    figures = [registry.figure(f"my_{kind}") for kind in ("boundary", "class_changes")]
    figures.append(registry.figure("figure4"))
    description(lab, "boundary").with_suffix(".png").unlink()
    kept = description(lab, "class_changes").with_suffix(".png")
    before, said = kept.stat().st_mtime_ns, io.StringIO()
    code = draw_stored(call, figures, Console(file=said, width=200), only_new=True)
    assert code == 3
    assert kept.stat().st_mtime_ns == before
    assert mine(lab) == mine(drawn)
    assert "class_changes" not in said.getvalue()
    assert "Not drawn for want of runs: figure4; `./run_all.sh figures" in said.getvalue()


# --- what is missing or wrong ---------------------------------------------------------------------


def test_a_figure_trains_only_what_it_lacks_and_takes_a_width(
    drawn: Lab, declared: Path, tmp_path: Path
) -> None:
    lab = drawn.copy(tmp_path / "results")
    said = lab.call("my_tsne", "--registry", str(declared), "--style", "column")
    assert_clear(said, 0, "Written:")
    assert said.stderr == "", "nothing is trained"
    pdf = description(lab, "tsne").with_suffix(".pdf").read_bytes()
    (width, _), *_ = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert float(width) == pytest.approx(3.25 * 72)
    assert read_drawing(description(lab, "tsne")).style == "column"


def points(lab: Lab) -> list[str]:
    """The embeddings that are kept beside figures."""
    return sorted(path.name for path in (lab.results / "figures" / "tsne").iterdir())


def test_stored_runs_drawn_again_from_nothing_give_the_same_to_the_byte(
    drawn: Lab, declared: Path, tmp_path: Path
) -> None:
    """Without data and weights; the embeddings are computed anew."""
    lab = drawn.copy(tmp_path / "results")
    shutil.rmtree(lab.results / "cache")
    (lab.results / "cache").write_text("scenes cannot be made here")
    shutil.rmtree(lab.results / "figures")
    for folder in lab.runs:
        folder.weights.unlink()
    draw_all(lab, declared)
    again, before = mine(lab), mine(drawn)
    assert again.keys() == before.keys()
    assert [name for name in before if again[name] != before[name]] == []
    assert points(lab) == points(drawn)


def test_missing_runs_are_named_and_a_reduced_figure_says_so(
    drawn: Lab, declared: Path, tmp_path: Path
) -> None:
    lab = drawn.copy(tmp_path / "results")
    shutil.rmtree(lab.results / "figures")
    lost = lab.record("ssa").run_id
    shutil.rmtree(lab.store.folder(lost).path)
    text = FIGURE.format(kind="miou_curves").replace("my_miou", "my_reduced_miou")
    extra = tmp_path / "extra"
    (extra / "figures").mkdir(parents=True)
    reduced = text.replace("label: SSA-Seg", "label: SSA-Seg, optional: true")
    (extra / "figures" / "reduced.yaml").write_text(reduced)
    command = lab.command("figures", "--registry", str(declared), "--registry", str(extra))
    said = finished(command)
    assert_clear(
        said,
        3,
        "my_tsne: missing: pair/full, seed 0: no record",
        "my_tsne is not drawn; `./run_all.sh my_tsne --profile smoke` trains what it needs.",
    )
    assert not description(lab, "tsne").exists()
    stem = lab.results / "figures" / "my_reduced_miou_curves-smoke"
    assert "Missing: pair/full, seed 0: no record" in stem.with_suffix(".txt").read_text()
    assert set(pd.read_csv(stem.with_suffix(".csv"))["label"]) == {"Baseline"}


def test_what_a_figure_keeps_names_no_folder_of_this_machine(drawn: Lab, tmp_path: Path) -> None:
    lab = drawn.copy(tmp_path / "results")
    folder = lab.store.folder(lab.record("ssa").run_id)
    folder.weights.unlink()
    (folder.path / "inspection.npz").unlink()
    optional = tmp_path / "extra"
    (optional / "figures").mkdir(parents=True)
    text = FIGURE.format(kind="small_objects").replace("my_small", "my_reduced_small")
    reduced = text.replace("label: SSA-Seg", "label: SSA-Seg, optional: true")
    (optional / "figures" / "reduced.yaml").write_text(reduced)
    said = lab.call("my_reduced_small_objects", "--registry", str(optional))
    assert_clear(said, 3, f"missing: runs/{folder.path.name}/weights.pth is not there")
    stem = lab.results / "figures" / "my_reduced_small_objects-smoke"
    for suffix in (".txt", ".json"):
        assert str(tmp_path) not in stem.with_suffix(suffix).read_text()


def test_a_description_of_other_records_is_refused(drawn: Lab, tmp_path: Path) -> None:
    lab = drawn.copy(tmp_path / "results")
    path = description(lab, "miou_curves")
    document = json.loads(path.read_text())
    document["runs"][0]["result_digest"] = "0" * 64
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="describes it anew"):
        read_material(path)
    path.write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        read_material(path)
    assert_clear(analyse(path), 1, "is damaged")


def test_runs_without_prototypes_to_relate_are_said(drawn: Lab) -> None:
    material = read_material(description(drawn, "relation_matrix"))
    alone = type(material)(material.drawing, (material.baseline,), material.folder)
    with pytest.raises(NothingToDrawError, match="semantic adaptation"):
        draw_kind(alone)


def test_drawing_needs_no_torch(drawn: Lab, tmp_path: Path) -> None:
    lab = drawn.copy(tmp_path / "results")
    paths = [str(description(lab, kind)) for kind in ("masks_and_cam", "small_objects", "variance")]
    code = (
        "import sys; from pathlib import Path; from analysis.__main__ import make\n"
        f"for path in {paths!r}: make(Path(path))\n"
        "heavy = [name for name in sys.modules if name.split('.')[0] in ('torch', 'mmengine')]\n"
        "assert not heavy, heavy"
    )
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=PROJECT,
        check=False,
    )
    assert said.returncode == 0, said.stderr


# --- what is declared -----------------------------------------------------------------------------


def test_every_figure_of_the_paper_is_declared() -> None:
    registry = load_registry()
    figures = registry.figures
    assert [name for name in registry.paper.figures if name not in figures] == []
    for name, figure in figures.items():
        assert figure.number is None or name == f"figure{figure.number}"
        assert figure.inspected == (figure.kind in INSPECTED)
        assert sum(row.baseline for row in figure.rows) <= len(figure.rows)
    assert {figure.kind for figure in figures.values()} == set(KINDS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("pair/full", "pair/ful"), "Unknown row of pair 'ful'. Did you mean 'full'?"),
        (("pair/full", "piar/full"), "Unknown table 'piar'. Did you mean 'pair'?"),
        (("pair/full", "full"), "must be <table>/<row id>"),
        (("kind: tsne", "kind: tnse"), "kind: Unknown value 'tnse'. Did you mean 'tsne'?"),
        (("title:", "titel:"), "titel: Unknown field 'titel'. Did you mean 'title'?"),
        (("label: SSA-Seg", "label: Baseline, seed: 1"), "seed"),
        (("pair/full, label: SSA-Seg", "pair/baseline, label: Baseline"), "names a row twice"),
    ],
)
def test_a_wrong_declaration_is_one_sentence(
    tmp_path: Path, registry_folder: Path, change: tuple[str, str], says: str
) -> None:
    (tmp_path / "figures").mkdir()
    text = FIGURE.format(kind="tsne").replace(*change)
    (tmp_path / "figures" / "mine.yaml").write_text(text)
    with pytest.raises(RegistryError, match=re.escape(says)):
        load_registry([registry_folder, tmp_path])


def test_a_figure_without_runs_is_one_file_for_all_profiles(drawn: Lab, tmp_path: Path) -> None:
    lab = drawn.copy(tmp_path / "results")
    folder = lab.results / "figures"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {f"figure02{suffix}" for suffix in SUFFIXES} < before.keys()
    assert_clear(lab.call("figure2", profile="long"), 0, "Written:")
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


def test_names_of_files() -> None:
    assert figure_stem("figure4", "quick") == "figure04"
    assert figure_stem("figure4", "camvid") == "figure04-camvid"
    assert figure_stem("extra_classes", "quick") == "extra_classes"
    rows = (FigureRow(run="table8/full", label="SSA-Seg"),)
    drawing = {"name": "figure2", "title": "t", "source": "s", "kind": "architecture"}
    assert Figure(**drawing).stem("camvid") == "figure02"
    assert Figure(**drawing, rows=rows).stem("camvid") == "figure02-camvid"
