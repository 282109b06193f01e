"""CITATION.cff, Dockerfile and the CI workflow name things that are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import date
from itertools import chain
from typing import Any

import pytest
import tomllib
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from experiments.declare.load import load_registry
from experiments.machine import PROJECT
from ssa import __version__

CITATION = PROJECT / "CITATION.cff"
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
#: of the Citation File Format 1.2.0: what a software citation and a reference may hold
KEYS = {
    "cff-version", "message", "title", "abstract", "type", "version", "authors", "license",
    "keywords", "references", "date-released", "identifiers", "repository-code", "url", "doi",
    "commit", "contact", "preferred-citation",
}  # fmt: skip
REFERENCE_KEYS = {
    "type", "title", "authors", "year", "month", "collection-title", "conference", "scope", "url",
    "identifiers", "doi", "pages", "publisher", "journal", "abstract", "notes",
}  # fmt: skip
PERSON = {"family-names", "given-names", "name-particle", "orcid", "affiliation", "email"}
ENTITY = {"name", "website", "email", "orcid", "date-start", "date-end"}


def citation() -> dict[str, Any]:
    return yaml.safe_load(CITATION.read_text())


def test_the_citation_file_follows_its_schema() -> None:
    """By hand what the schema asks; the schema's own validator is the next test."""
    document = citation()
    assert document["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(document) <= KEYS
    assert document["type"] in ("software", "dataset")
    assert isinstance(document["version"], str)
    assert all(isinstance(word, str) for word in document["keywords"])
    for reference in document["references"]:
        assert {"type", "title", "authors"} <= set(reference) <= REFERENCE_KEYS
        assert reference["type"] == "conference-paper"
        assert isinstance(reference["year"], int)
        assert 2000 < reference["year"] <= date.today().year
        assert re.fullmatch(r"https?://\S+", reference["url"])
        assert set(reference["conference"]) <= ENTITY
        for identifier in reference["identifiers"]:
            assert {"type", "value"} <= set(identifier) <= {"type", "value", "description"}
            assert identifier["type"] in ("doi", "url", "swh", "other")
    holders = [document, *document["references"]]
    for author in (author for holder in holders for author in holder["authors"]):
        assert set(author) <= PERSON or {"name"} <= set(author) <= ENTITY, author


def test_cffconvert_takes_the_citation_file() -> None:
    program = shutil.which("cffconvert")
    if program is None:
        pytest.skip("no cffconvert; it needs older packages than we: pipx install cffconvert")
    ended = subprocess.run(
        [program, "--validate", "-i", str(CITATION)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_citation_is_of_this_project_and_of_the_paper() -> None:
    document = citation()
    (paper,) = document["references"]
    assert document["version"] == __version__
    declared = (PROJECT / "pyproject.toml").read_text()
    assert f'license = "{document["license"]}"' in declared
    assert f'name = "{document["title"]}"' in declared
    readme = (PROJECT / "README.md").read_text()
    assert paper["url"] in readme
    assert paper["title"] in " ".join(readme.split())


def test_the_image_is_made_of_files_that_are_there_and_runs_an_item() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (PROJECT / name).exists(), name
    (command,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    item, option, place = yaml.safe_load(command)
    assert item in load_registry().tables
    assert option == "--results"
    assert f"VOLUME {place}" in DOCKERFILE, "results/reference would be hidden under a volume"
    assert 'ENTRYPOINT ["./run_all.sh"]' in DOCKERFILE
    pinned = re.search(r"^torch==\S+", (PROJECT / "requirements" / "torch.txt").read_text(), re.M)
    assert pinned is not None
    assert f"TORCH_SPEC={pinned.group()} " in DOCKERFILE, "the GPU image has the locked torch"


def test_the_image_leaves_out_what_git_ignores_of_results() -> None:
    left_out = (PROJECT / ".dockerignore").read_text().split()
    assert {".venv", "results/*", "!results/reference"} <= set(left_out)


LOCK = ".venv/bin/python requirements/lock.py"


def test_uv_lock_has_the_versions_of_the_requirements_and_what_pyproject_asks_for() -> None:
    lock = tomllib.loads((PROJECT / "uv.lock").read_text())
    locked = {package["name"]: package.get("version") for package in lock["package"]}
    for name in ("lock.txt", "lock-dev.txt", "torch.txt"):
        text = (PROJECT / "requirements" / name).read_text()
        for package, version in re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE):
            assert locked.get(package) == version, f"{package}: {LOCK} makes all locks anew"
    (own,) = [package for package in lock["package"] if package["name"] == "ssa-seg-lab"]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    asked = {
        (canonicalize_name(r.name), str(r.specifier))
        for r in map(Requirement, chain(project["dependencies"], *groups.values()))
        if r.name != "ssa-seg-lab"
    }
    written = {
        (each["name"], str(SpecifierSet(each.get("specifier", ""))))
        for each in own["metadata"]["requires-dist"]
        if each["name"] != "ssa-seg-lab"
    }
    assert written == asked, f"{LOCK} makes all locks anew"


def test_uv_lock_names_the_public_index_only() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (PROJECT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_ci_runs_what_lies_in_the_checkout() -> None:
    document = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = document["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs[-1] == ".ci/run"
    assert os.access(PROJECT / ".ci" / "run", os.X_OK)
    assert document["permissions"] == {"contents": "read"}
