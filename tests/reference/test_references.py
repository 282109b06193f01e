"""The committed reference values are those that the README lists, and no more than they may be."""

from __future__ import annotations

import hashlib
import re

from references import HERE, golden_files

LIMIT_BYTES = 8_000_000


def test_the_readme_lists_every_file_with_its_digest() -> None:
    listed = dict(
        re.findall(r"^([\w./-]+)  ([0-9a-f]{64})$", (HERE / "README.md").read_text(), re.M)
    )
    files = [path for folder in ("golden", "spec") for path in (HERE / folder).rglob("*.*")]
    data = {path: path.read_bytes() for path in sorted(files)}
    digests = {
        path.relative_to(HERE).as_posix(): hashlib.sha256(content).hexdigest()
        for path, content in data.items()
    }
    assert listed == digests
    assert sum(map(len, data.values())) <= LIMIT_BYTES


def test_a_file_of_both_places_is_read_once() -> None:
    files = golden_files("ssa/*.npz")
    assert len({path.name for path in files}) == len(files)
    assert files[0].is_relative_to(HERE)
