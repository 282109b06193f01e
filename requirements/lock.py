"""Write lock.txt and lock-dev.txt from the environment that runs this: exact versions of all that
the project needs, followed through the installed packages' own requirements; and uv.lock with the
same versions, with hashes and addresses of the public index (needs a network).

Run in an environment in which `./run_all.sh test` is green: .venv/bin/python requirements/lock.py
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tomllib
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
APART = {"torch"}  # chosen by machine, see torch.txt; its own requirements are locked
#: extras of services of others, whose requirements are many: in uv.lock only
ALONE = {"wandb", "mlflow"}
INDEX = "https://pypi.org/simple"
HOSTS = {"pypi.org", "files.pythonhosted.org"}  # all that uv.lock may name
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


def lock_for_uv(packages: Mapping[str, str]) -> None:
    """Write ../uv.lock with these versions; what it has besides is what they need elsewhere.

    Raises:
        RuntimeError: it names another place than the public index.
    """
    from uv import find_uv_bin

    pins = [f"{name}=={version}" for name, version in packages.items()]
    versions = [word for pin in pins for word in ("--upgrade-package", pin)]
    # an index of this machine's configuration is nobody else's
    command = [find_uv_bin(), "lock", "--no-config", "--default-index", INDEX, *versions]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UV_")}
    subprocess.run(command, cwd=HERE.parent, env=environment, check=True)
    hosts = set(re.findall(r"https?://([^/\"]+)", (HERE.parent / "uv.lock").read_text()))
    if hosts - HOSTS:
        raise RuntimeError(f"uv.lock names {', '.join(sorted(hosts - HOSTS))}")


def main() -> None:
    """Write all three locks."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    core = closure(
        [*project["dependencies"], "setuptools", *declared(CORE, project["name"], groups)]
    )
    extras = [extra for extra in groups if extra not in ALONE]
    dev = closure([text for extra in extras for text in declared(extra, project["name"], groups)])
    for name, packages in (
        ("lock.txt", core),
        ("lock-dev.txt", {k: v for k, v in dev.items() if k not in core}),
    ):
        lines = [f"{k}=={v}\n" for k, v in sorted(packages.items()) if k not in APART]
        (HERE / name).write_text(HEAD + "".join(lines))
        print(f"{name}: {len(lines)} packages")
    torch = re.findall(r"^torch==(\S+)", (HERE / "torch.txt").read_text(), re.MULTILINE)
    lock_for_uv(dev | core | {"torch": torch[0]})


if __name__ == "__main__":
    main()
