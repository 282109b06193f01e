"""SSA-Seg: pixel classifiers whose prototypes adapt to each image, and what they are compared with.

``ssa.classifiers`` and ``ssa.losses`` need torch and pydantic alone; ``ssa.models`` and the rooms
that plug into mmsegmentation or read data sets need the extra ``mmseg``. Importing this package
imports none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssa.classifiers import build_classifier

__version__ = "0.1.0"
__all__ = ["__version__", "build_classifier"]


def __getattr__(name: str) -> object:
    """``build_classifier`` on its first use: torch takes a second or two to import."""
    if name == "build_classifier":
        from ssa.classifiers import build_classifier

        return build_classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
