"""The rival classifiers against recorded steps of their authors' code."""

import numpy as np
import pytest
from references import GOLDEN, golden_files

from experiments.parity.reference_file import ReferenceFileError
from experiments.parity.rival import TOLERANCES, rival_parity
from ssa.errors import SsaError, UnknownNameError

RIVALS = GOLDEN / "rivals"
FILES = golden_files("rivals/*/*.npz")


def test_there_is_a_file_for_every_rival():
    assert {file.parent.name for file in FILES} == {"cac", "gmmseg", "protoseg", "dnc"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_step_equals_the_released_code(file):
    report = rival_parity(file.parent.name, file)
    assert report["ok"], report
    assert report["not_compared"] == []
    assert report["compared"] > 20
    for kind, tolerance in TOLERANCES.items():
        assert report[f"max_{kind}_error"] <= tolerance


def altered(tmp_path, file, key, change):
    arrays = dict(np.load(file))
    arrays[key] = change(arrays[key].copy())
    path = tmp_path / "altered.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("name", "file", "key", "kind"),
    [
        ("gmmseg", "gmmseg_absent_ignore_seed11", "after/means", "buffer"),
        ("protoseg", "protoseg_absent_ignore_seed11", "after/prototypes", "buffer"),
        ("dnc", "dnc_absent_ignore_seed11", "after/prototypes", "buffer"),
        ("cac", "cac_absent_ignore_seed11", "grad/feat", "gradient"),
    ],
)
def test_a_difference_of_two_tolerances_is_noticed(tmp_path, name, file, key, kind):
    def shift(values):
        values.flat[0] += 2 * TOLERANCES[kind]
        return values

    report = rival_parity(name, altered(tmp_path, RIVALS / name / f"{file}.npz", key, shift))
    assert not report["ok"]
    assert report[f"max_{kind}_error"] > TOLERANCES[kind]


def test_one_wrong_target_is_noticed(tmp_path):
    def other(values):
        values[3] += 1
        return values

    source = RIVALS / "protoseg" / "protoseg_absent_ignore_seed11.npz"
    report = rival_parity("protoseg", altered(tmp_path, source, "out/contrast_target", other))
    assert report["wrong_integers"] == ["out/contrast_target"]
    assert not report["ok"]


def test_an_array_that_nothing_compares_is_no_success(tmp_path):
    source = RIVALS / "cac" / "cac_absent_ignore_seed11.npz"
    report = rival_parity("cac", altered(tmp_path, source, "out/logits", lambda a: a))
    assert report["ok"]
    arrays = dict(np.load(source)) | {"out/unknown": np.zeros(3)}
    np.savez(tmp_path / "more.npz", **arrays)
    report = rival_parity("cac", tmp_path / "more.npz")
    assert report["not_compared"] == ["out/unknown"]
    assert not report["ok"]


def test_mistakes_of_a_user_are_sentences(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'gmmseg'"):
        rival_parity("gmmsek", tmp_path)
    with pytest.raises(ReferenceFileError, match="Cannot read"):
        rival_parity("cac", tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", something=np.zeros(1))
    with pytest.raises(SsaError, match="no recorded step of 'cac'"):
        rival_parity("cac", tmp_path / "other.npz")
