"""``python -m analysis results/figures/figure04.json …``: draw what is described."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis.captions import caption
from analysis.kinds import draw
from analysis.reading import read_material
from experiments.errors import SsaError, sentence_of
from experiments.files import write_atomically


def make(description: Path) -> list[Path]:
    """Draw one described figure and write its files beside the description.

    Raises:
        SsaError: what it is drawn from is missing or damaged, or the disk is full.
    """
    from analysis.style import paper_style, save

    material = read_material(description)
    drawn = draw(material)
    stem = description.with_suffix("")
    with paper_style():
        paths = save(drawn.figure, stem)
    numbers = drawn.frame.to_csv(index=False, lineterminator="\n")
    for suffix, text in ((".csv", numbers), (".txt", caption(material, drawn.note))):
        path = stem.with_name(stem.name + suffix)
        write_atomically(path, text)
        paths.append(path)
    return paths


def main() -> int:
    """Draw each; a failure is one sentence and does not stop the others."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    parser.add_argument("descriptions", type=Path, nargs="+", help="results/figures/*.json")
    failed = False
    for description in parser.parse_args().descriptions:
        try:
            paths = make(description)
        except SsaError as error:
            print(f"Error: {sentence_of(error)}", file=sys.stderr)
            failed = True
            continue
        suffixes = ",".join(path.suffix[1:] for path in paths)
        print(f"Written: {description.with_suffix('')}.{{{suffixes}}}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
