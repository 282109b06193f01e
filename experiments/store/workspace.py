"""Where a call reads and writes: results, data, and what the project ships."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from experiments.machine import PROJECT

#: the checkout; installed as a package there is none, and the current folder serves
HOME = PROJECT if (PROJECT / "pyproject.toml").exists() else Path()
DEFAULT_RESULTS = HOME / "results"
DEFAULT_DATA_ROOT = HOME / "data"
REFERENCE = PROJECT / "results" / "reference"


@dataclass(frozen=True)
class Workspace:
    """The folders of one call; only ``results`` is ever written to."""

    results: Path = DEFAULT_RESULTS
    data_root: Path = DEFAULT_DATA_ROOT  # holds camvid/, ade20k/, …; may be read-only
    reference: Path = REFERENCE

    @property
    def weights(self) -> Path:
        """Pretrained files, brought by the user."""
        return self.data_root / "weights"

    @property
    def cache(self) -> Path:
        """Made data and digests, remembered between calls."""
        return self.scratch / "cache"

    @property
    def complexity(self) -> Path:
        """Counts of networks, remembered between calls."""
        return self.scratch / "complexity"

    @property
    def scratch(self) -> Path:
        """Where what is only remembered goes: the results, unless they are the shipped ones."""
        if self.results.resolve() != REFERENCE.resolve() and (
            not self.results.exists() or os.access(self.results, os.W_OK)
        ):
            return self.results
        from platformdirs import user_cache_path

        return user_cache_path("ssa-seg-lab")
