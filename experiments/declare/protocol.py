"""From a model and a data set to the published way of training and scoring them.

A protocol file (``experiments/protocols/*.yaml``) says what holds in general and what differs by
data set, and may be laid over another one. Later wins: the other's general part, its part on the
data set, the own general part, the own part on the data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from experiments.declare.base import Declared
from experiments.declare.profile import Deviation, Profile, Protocol
from experiments.declare.training import Evaluation, Training
from experiments.errors import RegistryError, SsaError, UnknownNameError
from ssa.validation import first_problem

if TYPE_CHECKING:
    from experiments.declare.registry import ExperimentRegistry

T = TypeVar("T", bound=Declared)


class NoProtocolError(SsaError):
    """A model or data set for which a profile knows no protocol; its runs are blocked."""


@dataclass(frozen=True)
class Settings:
    """How one model is trained and scored on one data set."""

    training: Training
    evaluation: Evaluation
    deviations: tuple[Deviation, ...] = ()  # from the protocol's source
    protocol: str | None = None  # its name; None: the profile's own settings

    @property
    def sentences(self) -> tuple[str, ...]:
        """The deviations that can change a result, as records carry them."""
        return tuple(d.sentence for d in self.deviations if d.changes_results)


def settings_of(
    registry: ExperimentRegistry, profile: Profile, model: str, dataset: str
) -> Settings:
    """The settings of ``model`` on ``dataset`` in ``profile``.

    Raises:
        NoProtocolError: the profile names protocols, but none for these two.
    """
    if profile.training is not None and profile.evaluation is not None:
        settings = Settings(profile.training, profile.evaluation)
    elif model not in profile.protocols:
        raise NoProtocolError(
            f"The profile {profile.name} names no protocol for the model {model}; declare one "
            "(docs/protocol.md) in a profile of your own, or take --profile quick."
        )
    else:
        settings = resolve_protocol(registry, profile.protocols[model], dataset)
    if profile.from_scratch:
        training = settings.training.model_copy(update={"from_scratch": True})
        return Settings(training, settings.evaluation, settings.deviations, settings.protocol)
    return settings


def resolve_protocol(registry: ExperimentRegistry, name: str, dataset: str) -> Settings:
    """What the protocol ``name`` says of ``dataset``.

    Raises:
        UnknownNameError: no such protocol, or it extends one that there is not.
        NoProtocolError: it says nothing of the data set.
        RegistryError: what it says is not whole.
    """
    from ssa.models import merge

    chain = _chain(registry, name)
    own = chain[-1]
    if dataset in own.unpublished:
        raise NoProtocolError(
            f"The protocol {name} has no settings for {dataset}: {own.unpublished[dataset]}"
        )
    if not any(dataset in protocol.datasets for protocol in chain):
        known = sorted({name for protocol in chain for name in protocol.datasets})
        raise NoProtocolError(
            f"The protocol {name} says nothing of the data set {dataset} (it knows "
            f"{', '.join(known)}); declare it (docs/protocol.md) or take --profile quick."
        )
    training: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    deviations: list[Deviation] = []
    for protocol in chain:
        for part in (protocol, protocol.datasets.get(dataset)):
            if part is not None:
                training = merge(training, part.training)
                evaluation = merge(evaluation, part.evaluation)
        deviations = [
            d for d in deviations if d.field not in {n.field for n in protocol.deviations}
        ]
        deviations += protocol.deviations
    where = f"The protocol {name} on {dataset}"
    return Settings(
        _checked(Training, training, f"{where}: training"),
        _checked(Evaluation, evaluation, f"{where}: evaluation"),
        tuple(d for d in deviations if not d.datasets or dataset in d.datasets),
        name,
    )


def known_datasets(registry: ExperimentRegistry, name: str) -> list[str]:
    """The data sets that a protocol has settings for, in the order of the files."""
    chain = _chain(registry, name)
    unpublished = chain[-1].unpublished
    names = dict.fromkeys(known for protocol in chain for known in protocol.datasets)
    return [known for known in names if known not in unpublished]


def check_protocols(registry: ExperimentRegistry) -> None:
    """Resolve every protocol that a profile names on every data set that it knows.

    Raises:
        RegistryError: an unknown model or protocol, or settings that are not whole.
    """
    for profile in registry.profiles.values():
        _check_profile(registry, profile)


def _check_profile(registry: ExperimentRegistry, profile: Profile) -> None:
    try:
        for model, name in profile.protocols.items():
            registry.model(model)
            for dataset in known_datasets(registry, name):
                resolve_protocol(registry, name, dataset)
    except UnknownNameError as error:
        raise RegistryError(f"The profile {profile.name}: {error}") from None


def _chain(registry: ExperimentRegistry, name: str) -> list[Protocol]:
    """The protocol and those below it, the lowest first."""
    chain = [registry.protocol(name)]
    while (below := chain[0].extends) is not None:
        if below in [protocol.name for protocol in chain]:
            raise RegistryError(f"The protocol {name} extends itself, by way of {below}.")
        chain.insert(0, registry.protocol(below))
    return chain


def _checked(schema: type[T], fields: dict[str, Any], where: str) -> T:
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        raise RegistryError(f"{where}.{first_problem(error, schema)}") from None
