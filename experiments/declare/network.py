"""A network's config in declared files: data, checked by :mod:`ssa.network_check`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from ssa.network_check import NAMING, check_name, check_network, check_size

__all__ = [
    "NAMING",
    "NetworkConfig",
    "RegisteredName",
    "Settings",
    "check_name",
    "check_network",
    "check_size",
]

#: mmengine's config of a network, or what is laid over one
NetworkConfig = Annotated[dict[str, Any], AfterValidator(check_network)]
#: settings of another thing
Settings = Annotated[dict[str, Any], AfterValidator(check_size)]
#: a class of one of mmengine's registries
RegisteredName = Annotated[str, AfterValidator(check_name)]
