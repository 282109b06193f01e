"""The declared things, read from YAML files once and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from experiments.declare.base import Declared
from experiments.declare.figure import Figure
from experiments.declare.model import ModelCard
from experiments.declare.paper import Paper
from experiments.declare.profile import Profile, Protocol
from experiments.declare.table import Table
from experiments.errors import UnknownNameError

STUDY = "study_"  # how the names of our own studies begin


T = TypeVar("T", bound=Declared)


@dataclass(frozen=True)
class ExperimentRegistry:
    """All tables, figures, models, profiles and protocols by name, and whose they are."""

    paper: Paper
    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    models: Mapping[str, ModelCard]
    profiles: Mapping[str, Profile]
    protocols: Mapping[str, Protocol]
    folders: tuple[Path, ...] = ()  # of the user, which were read beside ours

    def table(self, name: str) -> Table:
        """The table ``name``; UnknownNameError proposes the nearest."""
        return _get("table", self.tables, name)

    def figure(self, name: str) -> Figure:
        """The figure ``name``; UnknownNameError proposes the nearest."""
        return _get("figure", self.figures, name)

    def model(self, name: str) -> ModelCard:
        """The model card ``name``; UnknownNameError proposes the nearest."""
        return _get("model", self.models, name)

    def profile(self, name: str) -> Profile:
        """The profile ``name``; UnknownNameError proposes the nearest."""
        return _get("profile", self.profiles, name)

    def protocol(self, name: str) -> Protocol:
        """The protocol ``name``; UnknownNameError proposes the nearest."""
        return _get("protocol", self.protocols, name)


def _get(kind: str, things: Mapping[str, T], name: str) -> T:
    if name not in things:
        raise UnknownNameError(kind, name, things)
    return things[name]
