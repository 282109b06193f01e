"""From a document that a pydantic model refused to one sentence: where, what, the nearest name."""

from __future__ import annotations

import re
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ssa.errors import unknown_name_sentence


def first_problem(error: ValidationError, schema: type[BaseModel]) -> str:
    """``rows.3.modle: Unknown field 'modle'. Did you mean 'model'? Known: …``.

    Of several problems an unknown field is told first: what is missing may be what it stands for.

    Args:
        error: what ``schema`` said.
        schema: what the document should have been.
    """
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    kind, context, given = problem["type"], problem.get("ctx", {}), problem["input"]
    path = problem["loc"]
    known = re.findall(r"'([^']*)'", context.get("expected", context.get("expected_tags", "")))
    if kind == "extra_forbidden":
        text = unknown_name_sentence("field", str(path[-1]), _fields_at(schema, path[:-1]))
    elif known:
        text = unknown_name_sentence("value", str(context.get("tag", given)), known)
    elif kind == "value_error":
        text = f"{context['error']}."
    else:
        unlike = isinstance(given, (str, int, float)) and kind != "missing"
        text = problem["msg"] + (f", not {given!r}." if unlike else ".")
    where = ".".join(str(part) for part in path)
    return f"{where}: {text}" if where else text


def _fields_at(schema: Any, path: tuple[int | str, ...]) -> list[str]:
    """The fields that a document of ``schema`` may have where ``path`` leads."""
    models = _models(schema)
    for part in path:
        below = [
            model.model_fields[part].annotation
            for model in models
            if isinstance(part, str) and part in model.model_fields
        ]
        tagged = [
            model
            for model in models
            if any(part in get_args(field.annotation) for field in model.model_fields.values())
        ]
        # an index or the key of a mapping leads nowhere: a container is its members here
        models = [m for each in below for m in _models(each)] if below else tagged or models
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) is None and isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in get_args(annotation) for model in _models(part)]
