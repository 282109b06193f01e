"""What makes a record stale is what the code means, not how it is written or where it stands."""

import pytest

from experiments.store.meaning import meaning, meaning_of_file, says_something

SOURCE = '''"""A module."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ssa.losses import dice

if TYPE_CHECKING:
    from ssa.errors import SsaError


def scaled(x: float) -> float:
    """Double."""
    return 2.0 * dice(x)  # twice
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another text."""'),
        ("  # twice", "  # two times"),
        ("from ssa.losses import dice", "from ssa.losses.dice import dice"),
        ("from ssa.losses import dice", "from ..losses import dice"),
        ("    from ssa.errors import SsaError\n", "    from ssa.errors import Other\n"),
        ("    return 2.0 * dice(x)", "    return (\n        2.0\n        * dice(x)\n    )"),
        ('    """Double."""\n', ""),
    ],
)
def test_how_and_where_it_is_written_means_nothing(old: str, new: str) -> None:
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE
    assert meaning(changed) == meaning(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0", "2.5"),
        ("2.0", "2"),
        ("import torch", "import numpy"),
        ("from ssa.losses import dice", "from ssa.losses import mean as dice"),
        ("-> float", "-> int"),
        ("return 2.0", "'text'\n    return -2.0"),
    ],
)
def test_what_it_does_means_something(old: str, new: str) -> None:
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE
    assert meaning(changed) != meaning(SOURCE)


def test_c_counts_without_its_comments(tmp_path) -> None:
    path = tmp_path / "kernel.c"
    digests = []
    for text in ("int f(int a) { return a; }", "/* f */\nint f(int a) {\n return a; } // f"):
        path.write_text(text)
        digests.append(meaning_of_file(path))
    path.write_text("int f(int a) { return a + 1; }")
    assert digests[0] == digests[1] != meaning_of_file(path)


def test_a_module_that_hands_names_on_says_nothing() -> None:
    assert not says_something(
        '"""Names."""\nfrom ssa.errors import SsaError\n__all__ = ["SsaError"]'
    )
    assert says_something("WIDTH = 3")
