"""Every shipped figure on the page: text on the canvas, titles in line, no empty bands."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from analysis.kinds import draw
from analysis.reading import Material, read_material
from analysis.style import (
    BASELINE,
    PNG_DPI,
    WIDTH_INCHES,
    draw_spread,
    lay_out,
    new_figure,
    paper_style,
    pictures_and_spaces,
    save,
)
from experiments.machine import PROJECT

SHIPPED = sorted((PROJECT / "results" / "reference" / "figures").glob("*.json"))
TITLE_INCHES = 0.2  # a title's line and its distances


@contextmanager
def written_texts() -> Iterator[list[Text]]:
    """The texts that are drawn meanwhile: ticks beyond an axis's view are not among them."""
    texts: list[Text] = []
    original = Text.draw

    def noting(text: Text, *args: Any, **options: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            texts.append(text)
        original(text, *args, **options)

    Text.draw = noting  # type: ignore[method-assign]
    try:
        yield texts
    finally:
        Text.draw = original  # type: ignore[method-assign]


def beyond_canvas(figure: Figure) -> list[str]:
    """The texts that pass the edge by more than half a pixel."""
    with written_texts() as texts:
        figure.draw_without_rendering()
    assert texts
    canvas = figure.bbox.padded(0.5)
    boxes = [(text, text.get_window_extent()) for text in texts]
    return [
        f"{text.get_text()!r} at {box}"
        for text, box in boxes
        if min(box.x0 - canvas.x0, box.y0 - canvas.y0, canvas.x1 - box.x1, canvas.y1 - box.y1) < 0
    ]


def title_heights(figure: Figure) -> list[float]:
    """Where the titles stand, in inches from below, in order."""
    titles = [axes.title for axes in figure.axes if axes.title.get_text()]
    return sorted(title.get_window_extent().y0 / figure.dpi for title in titles)


def pictures(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]


def bands(figure: Figure) -> list[float]:
    """The distances in inches between pictures that stand below each other."""
    boxes = [axes.get_window_extent() for axes in pictures(figure)]
    gaps = []
    for upper, lower in itertools.permutations(boxes, 2):
        if abs(upper.x0 - lower.x0) < 2 and lower.y1 <= upper.y0:
            between = [b for b in boxes if b is not lower and lower.y1 <= b.y0 and b.y1 <= upper.y0]
            if not any(abs(b.x0 - lower.x0) < 2 for b in between):
                gaps.append((upper.y0 - lower.y1) / figure.dpi)
    return gaps


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda path: path.stem)
def material(request: pytest.FixtureRequest) -> Material:
    return read_material(request.param)


@pytest.fixture(params=sorted(WIDTH_INCHES))
def figure(request: pytest.FixtureRequest, material: Material) -> Figure:
    style = request.param
    drawing = material.drawing.model_copy(update={"style": style})
    with paper_style():
        drawn = draw(dataclasses.replace(material, drawing=drawing)).figure
        lay_out(drawn)
    return drawn


def test_text_lies_on_the_canvas_titles_in_line_and_no_band_between(figure: Figure) -> None:
    assert beyond_canvas(figure) == []
    heights = title_heights(figure)
    steps = [after - before for before, after in itertools.pairwise(heights)]
    assert all(step < 0.015 or step > TITLE_INCHES for step in steps), heights
    assert all(gap <= TITLE_INCHES for gap in bands(figure)), bands(figure)


def test_a_text_beyond_the_canvas_is_seen() -> None:
    figure = Figure(figsize=(3, 1.5))
    figure.text(-0.1, 0.5, "half of it outside")
    assert "half of it outside" in beyond_canvas(figure)[0]


def test_figures_are_laid_out_at_the_resolution_they_are_written_with() -> None:
    """Letters are hinted to whole pixels: what fits at 100 dpi is cut at 220."""
    assert new_figure("column", 1.5).dpi == PNG_DPI
    figure, *_ = pictures_and_spaces("text", (96, 96, 3), 4, 2, 1)
    assert figure.dpi == PNG_DPI


def test_pictures_are_sharp_and_equal_from_call_to_call(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        with paper_style():
            figure = new_figure("column", 1.5)
            figure.add_subplot().plot([1, 2])
            written.append(save(figure, tmp_path / name))
    for path in written[0]:
        assert path.read_bytes() == path.with_stem("b").read_bytes()
    assert PNG_DPI >= 200
    assert Image.open(tmp_path / "a.png").size == (round(3.25 * PNG_DPI), round(1.5 * PNG_DPI))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_pictures_have_the_resolution(path: Path) -> None:
    picture = Image.open(path.with_suffix(".png"))
    assert picture.size[0] in {round(width * PNG_DPI) for width in WIDTH_INCHES.values()}


def test_a_spread_is_the_median_and_the_whole_range_of_the_seeds() -> None:
    values = np.array([[1.0, 5.0, np.nan], [2.0, 4.0, 9.0], [6.0, 3.0, 7.0]])
    axes = new_figure("column", 1.5).add_subplot()
    draw_spread(axes, np.array([10, 20, 40]), values, BASELINE, "three seeds")
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[10, 2], [20, 4], [40, 8]]
    assert (line.get_label(), line.get_color()) == ("three seeds", BASELINE.color)
    (band,) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert {(10, 1), (10, 6), (20, 3), (20, 5), (40, 7), (40, 9)} <= corners
