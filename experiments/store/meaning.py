"""What a piece of our code means, as a digest that survives everything that changes no result.

A run is stale when the code that it used means something else now. Comments, docstrings, layout and
the place of a module change nothing; so the digest is taken of the syntax tree without them. Of
imports of our own modules only renamings count (``from x import a as b``): where a name comes from
moves with the modules, and the module itself counts on its own.
"""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

#: the first part of the names of our own modules
OURS = ("ssa", "experiments", "analysis")
#: fields of the syntax tree that say where or how something was written, not what
_INCIDENTAL = frozenset({"type_ignores", "type_comment", "kind"})
_C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def meaning_of_file(path: Path) -> str:
    """sha256 of what a source file means; of a file that is neither Python nor C, of its bytes."""
    return meaning_of(path.read_bytes(), path.suffix)


def meaning_of(source: bytes, suffix: str) -> str:
    """sha256 of what the content of a file with that suffix means, as :func:`meaning_of_file`.

    What is no Python, though it is called so, counts by its bytes.
    """
    if suffix == ".py":
        try:
            return meaning(source)
        except (SyntaxError, ValueError):
            pass
    elif suffix in (".c", ".h"):
        words = _C_COMMENT.sub(" ", source.decode()).split()
        return hashlib.sha256(" ".join(words).encode()).hexdigest()
    return hashlib.sha256(source).hexdigest()


def meaning(source: bytes | str) -> str:
    """sha256 of a Python source's syntax tree without docstrings and imports of our own modules.

    Equal on every supported Python: fields that newer versions add count only where they are set.

    Raises:
        SyntaxError: it is not Python.
    """
    words: list[str] = []
    _add_words(ast.parse(source), words)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def says_something(source: bytes | str) -> bool:
    """Whether a module does more than hand names on (an ``__init__`` that imports, ``__all__``)."""
    return any(not _hands_on(statement) for statement in _body(ast.parse(source)))


def _hands_on(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        return [getattr(target, "id", "") for target in statement.targets] == ["__all__"]
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _add_words(node: object, words: list[str]) -> None:
    """The tree in one order, a word a node or value; added to a list, generators take twice."""
    if isinstance(node, ast.AST):
        words.append(f"({type(node).__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in _INCIDENTAL:
                continue
            words.append(name)
            if name == "body" and isinstance(value, list):
                value = _body(node)
            _add_words(value, words)
        words.append(")")
    elif isinstance(node, list):
        for each in node:
            _add_words(each, words)
    else:
        words.append(f"{type(node).__name__} {node!r}")


def _body(node: ast.AST) -> list[ast.stmt]:
    """The statements of a block that mean something; imports of ours as their renamings."""
    statements: list[ast.stmt] = list(getattr(node, "body", []))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
        statements = statements[1:]
    kept: list[ast.stmt] = []
    for statement in statements:
        if _is_bare_string(statement) or _only_for_types(statement):
            continue
        if isinstance(statement, (ast.Import, ast.ImportFrom)) and _is_ours(statement):
            renamed = [each for each in statement.names if each.asname not in (None, each.name)]
            if isinstance(statement, ast.ImportFrom):
                kept += [ast.ImportFrom(module=None, names=[each], level=0) for each in renamed]
            continue
        kept.append(statement)
    return kept


def _is_ours(statement: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.level > 0 or str(statement.module).split(".")[0] in OURS
    return all(each.name.split(".")[0] in OURS for each in statement.names)


def _is_bare_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _only_for_types(statement: ast.stmt) -> bool:
    """``if TYPE_CHECKING:``, which no run executes."""
    return (
        isinstance(statement, ast.If)
        and not statement.orelse
        and getattr(statement.test, "id", getattr(statement.test, "attr", "")) == "TYPE_CHECKING"
    )
