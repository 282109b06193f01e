"""What stands under a figure: what it shows, of which runs, and what it does not show."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from analysis.reading import Line, Material

WRAP = 100


def caption(material: Material, note: str) -> str:
    """The caption of a figure as plain text, one paragraph a thought.

    Args:
        material: what it was drawn from.
        note: what the kind of figure says about this one.
    """
    figure = material.drawing.figure
    paragraphs = [f"{figure.title}. {note}".strip(), f"Source: {figure.source}."]
    if figure.description:
        paragraphs.append(" ".join(figure.description.split()))
    if material.lines:
        paragraphs.append(setting(material))
        paragraphs += [
            runs_sentence(line, material.differing_settings(line)) for line in material.lines
        ]
    if not material.drawing.pictures:
        paragraphs.append(
            "Without the photographs, which may not be passed on with the figure; `./run_all.sh "
            "extract` with --pictures keeps them, where the data and the weights are."
        )
    paragraphs += [f"Missing: {sentence}" for sentence in material.drawing.missing]
    return "\n".join(textwrap.fill(text, WRAP, break_on_hyphens=False) for text in paragraphs) + (
        "\n"
    )


def setting(material: Material) -> str:
    """Profile, data and networks in a sentence, with what is not the paper's setting."""
    records = [record for line in material.lines for record in line.records]
    models = " and ".join(dict.fromkeys(record.spec.model for record in records))
    sizes = sorted({record.spec.model_size for record in records} - {"paper"})
    text = f"Profile {material.drawing.profile}: {models} on {' and '.join(material.datasets)}"
    if sizes:
        return f"{text}; scaled-down networks ({', '.join(sizes)}), not the paper's setting."
    if material.drawing.profile != "paper":
        return f"{text}; not the paper's setting."
    return f"{text}."


def runs_sentence(line: Line, settings: Mapping[str, Any]) -> str:
    """Which runs a line is, with its seeds.

    Args:
        line: of a figure.
        settings: that tell its data set from others of the figure.
    """
    seeds = ", ".join(str(seed) for seed in line.seeds)
    word = "seed" if len(line.seeds) == 1 else "seeds"
    ids = " ".join(record.run_id for record in line.records)
    where = f" on {line.dataset}" if line.dataset else ""
    made = "".join(f", {name} {value}" for name, value in settings.items())
    return f"{line.label}{where}{made}, {word} {seeds}: {ids}"
