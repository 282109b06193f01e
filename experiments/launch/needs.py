"""What a run needs of a cluster's node, declared by profile and model; no part of its identity.

The machine that submits says nothing about the nodes: not its torch, not its processors. Hours come
from past records, with a margin, and from here where nothing like the run is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.declare.profile import Profile
from experiments.errors import SsaError
from experiments.plan.plan import PlannedRun


@dataclass(frozen=True)
class Needs:
    """What one run asks a cluster for."""

    gpus: int = 0  # 1: on GPUs, as many as --gpus says
    threads: int = 1  # of each process; loading processes have a processor each besides
    memory_gb: float = 4.0  # of each process with its loading
    hours: float = 1.0  # where no past record says

    @property
    def device(self) -> str:
        """Where it trains: "cpu" or "cuda"."""
        return "cuda" if self.gpus else "cpu"


#: by profile. One thread on a CPU: their number changes a sum's last digits
PROFILES: Mapping[str, Needs] = {
    "smoke": Needs(memory_gb=3.0, hours=0.5),
    "quick": Needs(memory_gb=4.0, hours=1.0),
    "camvid": Needs(memory_gb=8.0, hours=6.0),
    "ccp": Needs(memory_gb=6.0, hours=1.0),
    "ccp_frozen": Needs(memory_gb=6.0, hours=1.0),
    "voc": Needs(memory_gb=8.0, hours=1.0),
    "camvid_full": Needs(gpus=1, threads=2, memory_gb=32.0, hours=24.0),
    "paper": Needs(gpus=1, threads=2, memory_gb=48.0, hours=48.0),
}
#: of a user's own profiles, by the size of its networks
SIZES: Mapping[str, Needs] = {"tiny": PROFILES["quick"], "small": PROFILES["camvid"]}
#: by model, where its networks have the paper's size: more than the profile says
MODELS: Mapping[str, Needs] = {
    "fcn_r101": Needs(gpus=1, threads=2, memory_gb=64.0, hours=72.0),
    "ocrnet_hr48": Needs(gpus=1, threads=2, memory_gb=64.0, hours=72.0),
    "mask2former_r50": Needs(gpus=1, threads=2, memory_gb=64.0, hours=96.0),
    "segformer_b5": Needs(gpus=1, threads=2, memory_gb=64.0, hours=96.0),
    "upernet_swin_b": Needs(gpus=1, threads=2, memory_gb=64.0, hours=96.0),
    "upernet_swin_l": Needs(gpus=1, threads=2, memory_gb=96.0, hours=120.0),
    "vit_adapter_l": Needs(gpus=1, threads=2, memory_gb=96.0, hours=120.0),
}

MARGIN = 2.0  # times the past: another node, a busy file system
START_H = 0.25  # to import, to look at the data
#: hours that are asked for: few values, so that runs share an array
STEPS_H = (0.5, 1, 2, 4, 8, 12, 24, 48, 72, 96, 120, 168)
#: that a caller may set for all runs of a call
SETTABLE = ("threads", "memory_gb", "hours")


class NeedsError(SsaError):
    """A need that is no number."""


def needs_of(profile: Profile, model: str | None = None) -> Needs:
    """What a run of this profile and model needs, before the past is asked.

    Args:
        profile: of the run.
        model: name of its card; None: any of the profile.
    """
    known = PROFILES.get(profile.name) or SIZES.get(profile.model_size) or PROFILES["paper"]
    if profile.model_size == "paper" and model is not None and model in MODELS:
        return MODELS[model]
    return known


def hours_of(run: PlannedRun, needs: Needs) -> float:
    """Hours to ask for: the past with a margin, else what is declared; rounded up to a step."""
    wanted = needs.hours
    if run.expected_s is not None:
        wanted = MARGIN * run.expected_s / 3600.0 + START_H
    return next((float(step) for step in STEPS_H if step >= wanted), float(math.ceil(wanted)))


def with_given(needs: Needs, given: Mapping[str, str]) -> Needs:
    """The needs with what a caller has set.

    Raises:
        NeedsError: a value is no positive number.
    """
    changes: dict[str, float] = {}
    for name in SETTABLE:
        if name not in given:
            continue
        try:
            value = float(given[name])
        except ValueError:
            value = math.nan
        if not 0.0 < value < math.inf or (name == "threads" and value != int(value)):
            whole = "whole " if name == "threads" else ""
            raise NeedsError(
                f"--slurm {name}={given[name]} is no {whole}number that a run can be given; for "
                f"example --slurm {name}=2."
            )
        changes[name] = int(value) if name == "threads" else value
    return replace(needs, **changes)  # type: ignore[arg-type]
