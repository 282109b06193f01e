"""The released preset equals the authors' code on every reference file of shared/golden/ssa."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssa.parity import ReferenceFileError, classifier_parity

GOLDEN = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden" / "ssa"
FILES = sorted(GOLDEN.glob("*.npz"))
needs_golden = pytest.mark.skipif(not FILES, reason=f"no reference values at {GOLDEN}")


@needs_golden
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_released_preset_equals_the_released_code(path: Path) -> None:
    report = classifier_parity(path)
    assert report["ok"], report
    assert report["max_loss_error"] <= 1e-5
    assert report["max_logit_error"] <= 1e-4
    assert report["max_gradient_error"] <= 1e-4


@needs_golden
@pytest.mark.parametrize(
    ("array", "worst"),
    [
        ("loss/spatial", "worst_loss"),
        ("out/boundary", "worst_logit"),
        ("grad/center_pos.weight", "worst_gradient"),
    ],
)
def test_a_changed_reference_is_noticed_and_named(tmp_path: Path, array: str, worst: str) -> None:
    with np.load(FILES[0]) as file:
        arrays = dict(file)
    arrays[array] = arrays[array] + 0.01
    np.savez(tmp_path / "changed.npz", **arrays)
    report = classifier_parity(tmp_path / "changed.npz")
    assert not report["ok"]
    assert report[worst] == array.split("/")[1]


@needs_golden
def test_a_missing_parameter_is_named(tmp_path: Path) -> None:
    with np.load(FILES[0]) as file:
        arrays = {name: file[name] for name in file.files if name != "param/center_proj.weight"}
    np.savez(tmp_path / "short.npz", **arrays)
    with pytest.raises(ReferenceFileError, match=r"lacks param/center_proj\.weight"):
        classifier_parity(tmp_path / "short.npz")


def test_an_unreadable_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(ReferenceFileError, match=r"Cannot read .*broken\.npz"):
        classifier_parity(tmp_path / "broken.npz")
