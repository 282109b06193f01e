"""Write lock.txt and lock-dev.txt from the environment that runs this: exact versions of all that
the project needs, followed through the installed packages' own requirements.

Run in an environment in which `./run_all.sh test` is green: .venv/bin/python requirements/lock.py
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tomllib
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
APART = {"torch"}  # chosen by machine, see torch.txt; its own requirements are locked
CORE = "lab"  # the extra with which every item of the registry can be run
HEAD = "# Written by requirements/lock.py; change pyproject.toml and run that instead.\n"


def closure(requirements: Iterable[str]) -> dict[str, str]:
    """Name → version of everything that ``requirements`` need, themselves included."""
    found: dict[str, str] = {}
    queue = [Requirement(text) for text in requirements]
    while queue:
        requirement = queue.pop()
        extras = requirement.extras or {""}
        if requirement.marker and not any(
            requirement.marker.evaluate({**default_environment(), "extra": extra})
            for extra in extras
        ):
            continue
        name = canonicalize_name(requirement.name)
        known = name in found
        if known and not requirement.extras:
            continue
        distribution = importlib.metadata.distribution(name)
        found[name] = distribution.version
        for text in distribution.requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(
                needed.marker.evaluate({**default_environment(), "extra": extra})
                for extra in extras
            ):
                needed.marker = None
                queue.append(needed)
    return found


def declared(extra: str, project: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """What an extra asks for, the project's other extras that it names opened up."""
    texts: list[str] = []
    for text in groups[extra]:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == canonicalize_name(project):
            for inner in sorted(requirement.extras):
                texts += declared(inner, project, groups)
        else:
            texts.append(text)
    return texts


def main() -> None:
    """Write both locks."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    core = closure(
        [*project["dependencies"], "setuptools", *declared(CORE, project["name"], groups)]
    )
    dev = closure([text for extra in groups for text in declared(extra, project["name"], groups)])
    for name, packages in (
        ("lock.txt", core),
        ("lock-dev.txt", {k: v for k, v in dev.items() if k not in core}),
    ):
        lines = [f"{k}=={v}\n" for k, v in sorted(packages.items()) if k not in APART]
        (HERE / name).write_text(HEAD + "".join(lines))
        print(f"{name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
