"""One loader for all reference files: whatever is wrong with one is one kind of error."""

import json

import numpy as np
import pytest

from experiments.parity.classifier import classifier_parity
from experiments.parity.mask_model import mask_model_parity
from experiments.parity.model import ARRAYS, model_parity
from experiments.parity.reference_file import ReferenceFileError, read_arrays
from experiments.parity.reference_network import NetworkReference
from experiments.parity.rival import rival_parity

COMPARISONS = {
    "classifier": classifier_parity,
    "rival": lambda path: rival_parity("cac", path),
    "model": lambda path: model_parity("seaformer_b", "ssa", path),
    "mask_model": lambda path: mask_model_parity("yoso_r50", path),
}


@pytest.fixture(params=COMPARISONS)
def compare(request):
    return COMPARISONS[request.param]


def test_every_comparison_refuses_a_bad_file_in_the_same_way(compare, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(ReferenceFileError, match=r"Cannot read .*a\.npz .*shared/golden"):
        compare(path)
    path.write_bytes(b"no npz")
    with pytest.raises(ReferenceFileError, match=r"Cannot read .*a\.npz .*shared/golden"):
        compare(path)
    np.savez(path, something=np.zeros(1))
    with pytest.raises(ReferenceFileError, match=r"a\.npz (lacks|has no array) .*shared/golden"):
        compare(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, values=np.arange(1000))
    assert read_arrays(path, ["values"], form="x")["values"].shape == (1000,)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ReferenceFileError, match="Cannot read"):
        read_arrays(path, form="x")


def test_a_network_reference_needs_the_json_beside_it(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{name: np.zeros(1) for name in ARRAYS})
    with pytest.raises(ReferenceFileError, match=r"Cannot read .*a\.json"):
        NetworkReference.read(path, ARRAYS)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(ReferenceFileError, match="lists no 'state_dict'"):
        NetworkReference.read(path, ARRAYS)


def test_what_is_not_given_comes_from_the_json_and_then_from_the_defaults(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{name: np.zeros(1) for name in ARRAYS})
    path.with_suffix(".json").write_text(json.dumps({"state_dict": {"w": [2]}, "size": 32}))
    reference = NetworkReference.read(path, ARRAYS)
    assert (reference.salt, reference.size, reference.seed) == ("", 32, 0)
    assert reference.image.shape == (1, 3, 32, 32)
    given = NetworkReference.read(path, ARRAYS, "x", 8, 3)
    assert (given.salt, given.size, given.seed) == ("x", 8, 3)
    assert not (given.image == NetworkReference.read(path, ARRAYS, size=8).image).any()
