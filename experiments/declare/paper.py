"""The paper whose tables and figures a registry declares."""

from __future__ import annotations

from pydantic import Field, HttpUrl, model_validator

from experiments.declare.base import Declared, PlainName

#: the file of a registry folder in which it stands
FILE = "paper.yaml"


class Paper(Declared):
    """What is printed of a paper, and which of its items there are to regenerate."""

    name: str = Field(min_length=1)  # of the method: "SSA-Seg"
    title: str = Field(min_length=1)  # in full
    venue: str  # and year
    url: HttpUrl
    tables: tuple[PlainName, ...] = ()  # in the paper's order, also those not declared yet
    figures: tuple[PlainName, ...] = ()
    method: PlainName  # the paper's classifier and the one that it starts from, by our names
    baseline: PlainName = "softmax"
    #: percent points of mIoU that the paper says two runs may differ by; None: it does not
    stated_error: float | None = Field(default=None, ge=0)
    macs_note: str = ""  # under a table of counts, at the rows of the method
    #: how the commands of ``export --macros`` begin
    macros: str = Field(default="Lab", pattern=r"^[A-Z][A-Za-z]*$")

    @model_validator(mode="after")
    def _once(self) -> Paper:
        twice = sorted({name for name in self.items if self.items.count(name) > 1})
        if twice:
            raise ValueError(f"'{twice[0]}' stands twice among the paper's tables and figures")
        return self

    @property
    def items(self) -> tuple[str, ...]:
        """Every table and figure by the name that the command line takes."""
        return (*self.tables, *self.figures)


#: of a table that was not read from a registry
NO_PAPER = Paper(
    name="none", title="none", venue="", url=HttpUrl("https://example.org"), method="softmax"
)
