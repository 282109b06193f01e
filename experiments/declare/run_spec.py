"""What a run is when all is resolved; its hash is its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import field_validator

from experiments.declare.base import Declared
from experiments.declare.network import NetworkConfig, Settings
from experiments.declare.training import Evaluation, Training


class RunSpec(Declared):
    """Everything that decides what a run computes. Its hash is the run's identity."""

    model: str
    model_size: str
    segmentor: NetworkConfig  # mmengine config, classifier included, norms as built
    classifier: Settings  # name and every switch, resolved
    dataset: str
    dataset_digest: str
    dataset_settings: Settings
    working_size: tuple[int, int] | None
    num_classes: int
    weights: str | None  # entry of ssa/weights.yaml; None: from scratch
    weights_sha256: str | None
    training: Training
    evaluation: Evaluation
    profile: str
    seed: int
    #: from the profile's protocol, in plain words; no part of the identity
    deviations: tuple[str, ...] = ()

    @field_validator("classifier")
    @classmethod
    def _has_a_name(cls, classifier: Settings) -> Settings:
        if not isinstance(classifier.get("name"), str):
            raise ValueError("a classifier without a name")
        return classifier

    def canonical(self) -> str:
        """One line of JSON with sorted keys: specs that compute the same give equal text.

        The sentences of :attr:`deviations` are left out (the field stays, empty, as it is in most
        runs): what they describe stands in the other fields, and rewording one is no other run.
        """
        fields = self.model_dump(mode="json") | {"deviations": []}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @cached_property
    def run_id(self) -> str:
        """``<model>-<classifier>-<data>-<profile>-s<seed>-<12 digits of the spec's sha256>``."""
        digest = hashlib.sha256(self.canonical().encode()).hexdigest()[:12]
        name = self.classifier["name"]
        return f"{self.model}-{name}-{self.dataset}-{self.profile}-s{self.seed}-{digest}"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunSpec:
        """A changed copy; pydantic would copy the remembered identity as well."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("run_id", None)
        return copied
