"""What an earlier call kept of a data set is believed only in the form it was written in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ssa.datasets import SCENES, content_digest

#: what stands in place of a kept entry: of all of it, or of its digest
ODD = {
    "word": lambda entry: "x",
    "number": lambda entry: 7,
    "without a digest": lambda entry: entry[:-1],
    "half a pair of surrogates": lambda entry: [*entry[:-1], "\ud800"],
    "another kind of digest": lambda entry: [*entry[:-1], "0" * 40],
    "times that are none": lambda entry: [entry[0], True, None, entry[3], "0" * 64],
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_entry_is_hashed_anew(
    small_scenes: Path, tmp_path: Path, odd: Callable[[list[object]], object]
) -> None:
    first = content_digest(SCENES, small_scenes, ("val",), tmp_path)
    (kept,) = tmp_path.glob("digest-*.json")
    document = {key: odd(entry) for key, entry in json.loads(kept.read_text()).items()}
    kept.write_text(json.dumps(document))
    assert content_digest(SCENES, small_scenes, ("val",), tmp_path) == first
    assert all(len(digest) == 64 for *_, digest in json.loads(kept.read_text()).values())


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"[" * 100_000, b"\xff"])
def test_what_is_no_list_of_entries_is_hashed_anew(
    small_scenes: Path, tmp_path: Path, content: bytes
) -> None:
    first = content_digest(SCENES, small_scenes, ("val",), tmp_path)
    (kept,) = tmp_path.glob("digest-*.json")
    kept.write_bytes(content)
    assert content_digest(SCENES, small_scenes, ("val",), tmp_path) == first
