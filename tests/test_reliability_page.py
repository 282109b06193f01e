"""Every test that docs/reliability.md names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGE = (PROJECT / "docs" / "reliability.md").read_text(encoding="utf-8")
SOURCES = {
    str(path.relative_to(PROJECT)): path for path in sorted((PROJECT / "tests").rglob("test_*.py"))
}


def named_in(path: Path) -> set[str]:
    """Names of the tests, in classes too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
    return {name for name in names if name.startswith("test_")}


def missing(page: str) -> list[str]:
    """What the page names in backticks and nobody has; a name may end in ``…``."""
    every = {name for path in SOURCES.values() for name in named_in(path)}
    absent = []
    for quoted in re.findall(r"`((?:tests/|…::|test_)[^`\s]*)`", page):
        path, _, name = quoted.rpartition("::") if "::" in quoted else ("", "", quoted)
        if quoted.endswith(".py") and "::" not in quoted:
            path, name = quoted, ""
        if path.startswith("tests/") and path not in SOURCES:
            absent.append(quoted)
            continue
        known = named_in(SOURCES[path]) if path in SOURCES else every
        if name.startswith("tests/"):  # a folder
            if not (PROJECT / name).exists():
                absent.append(quoted)
        elif name and not any(_fits(name, each) for each in known):
            absent.append(quoted)
    return absent


def _fits(name: str, test: str) -> bool:
    stem, dots, _ = name.partition("…")
    stem = stem.partition("[")[0]
    return test.startswith(stem) if dots else test == stem


def test_every_test_that_the_page_names_exists() -> None:
    assert missing(PAGE) == []
    assert len(re.findall(r"test_\w+", PAGE)) > 40


def test_a_test_that_is_gone_is_noticed() -> None:
    page = "`test_no_such` `tests/no/test_such.py` `tests/test_run_all.py::test_none` `…::test_x`"
    assert len(missing(page)) == 4
    assert missing("`tests/test_run_all.py`, `…::test_shellcheck_…`") == []
