"""A refused document as one sentence: the place, what is wrong there, the nearest valid name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssa.validation import first_problem


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Circle(Closed):
    kind: Literal["circle"]
    radius: float = Field(gt=0)


class Square(Closed):
    kind: Literal["square"]
    side: float


class Drawing(Closed):
    title: str
    style: Literal["plain", "fancy"] = "plain"
    shapes: tuple[Annotated[Circle | Square, Field(discriminator="kind")], ...] = ()
    named: dict[str, Circle | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_shapes(self) -> Drawing:
        if self.title == "empty":
            raise ValueError("an empty drawing has no title")
        return self


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sytle": 1}, "sytle: Unknown field 'sytle'. Did you mean 'style'? Known: "),
        ({"style": "plane"}, "style: Unknown value 'plane'. Did you mean 'plain'? Known: "),
        ({"shapes": [{"kind": "circle", "radios": 1}]}, "shapes.0.circle.radios: Unknown field"),
        ({"shapes": [{"kind": "circel"}]}, "shapes.0: Unknown value 'circel'. Did you mean 'circ"),
        ({"named": {"a": {"kind": "circle", "radius": 0}}}, "named.a.radius: Input should be grea"),
        ({"named": {"a": {"kind": "circle", "radus": 2}}}, "named.a.radus: Unknown field 'radus'"),
        ({"title": 3}, "title: Input should be a valid string, not 3."),
        ({"title": "empty"}, "an empty drawing has no title."),
    ],
)
def test_the_first_problem_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Drawing.model_validate({"title": "T"} | changes)
    assert first_problem(refused.value, Drawing).startswith(sentence)


def test_only_the_fields_of_the_kind_that_is_meant_are_proposed() -> None:
    document = {"title": "T", "shapes": [{"kind": "square", "radius": 1.0, "side": 1.0}]}
    with pytest.raises(ValidationError) as refused:
        Drawing.model_validate(document)
    assert first_problem(refused.value, Drawing).endswith("Known: kind, side.")


def test_a_misspelt_field_is_told_before_the_one_that_it_stands_for() -> None:
    with pytest.raises(ValidationError) as refused:
        Drawing.model_validate({"titel": "T"})
    assert "Did you mean 'title'" in first_problem(refused.value, Drawing)
