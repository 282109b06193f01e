"""A user's own classifiers and data sets: taken up like ours, refused with one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PROJECT, environment

from experiments.declare.extensions import PACKAGE, take_up
from experiments.declare.load import load_registry
from experiments.errors import RegistryError
from experiments.store.provenance import changed_modules, code_used
from ssa.classifiers import CLASSIFIERS, build_classifier
from ssa.datasets import DATASETS
from ssa.errors import SsaError

WHOLE = """
from ssa.classifiers import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
{extra}

class Config(ClassifierConfig):
    width: int = 1


@CLASSIFIERS.register("{name}")
class Mine(PixelClassifier):
    Config = Config

    def forward(self, features):
        return features[:, : self.num_classes]

    def _loss(self, features, labels):
        return {{"ce": features.sum()}}

    def inspect(self, features):
        return Inspection(features, features, features)
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a test registers is gone after it."""
    registries = (CLASSIFIERS, DATASETS)
    before = [dict(registry) for registry in registries]  # what is announced is imported by this
    yield
    for registry, things in zip(registries, before):
        registry._things = things  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


def write(folder: Path, stem: str, text: str) -> Path:
    path = folder / "classifiers" / f"{stem}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(folder: Path) -> str:
    with pytest.raises(SsaError) as caught:
        load_registry([folder])
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(folder) in sentence
    return sentence


def test_a_users_classifier_is_built_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, "built_by_name", WHOLE.format(name="built_by_name", extra=""))
    for _ in range(2):  # once is enough, twice does no harm
        load_registry([tmp_path])
    assert build_classifier("built_by_name", 4, 3).num_classes == 3
    assert not list(tmp_path.rglob("__pycache__")), "nothing is written into a user's folder"


def test_files_import_each_other_and_count_only_where_they_are_used(tmp_path: Path) -> None:
    write(tmp_path, "_helping", "WIDTH = 3\n")
    helper = tmp_path / "classifiers" / "_helping.py"
    uses = WHOLE.format(name="leaning", extra="from ._helping import WIDTH")
    write(tmp_path, "leaning", uses)
    alone = write(tmp_path, "standing", WHOLE.format(name="standing", extra=""))
    take_up([tmp_path])

    def used(name: str) -> dict[str, str]:
        code = code_used([build_classifier(name, 4, 3)])
        return {module: digest for module, digest in code.items() if PACKAGE in module}

    assert set(used("leaning")) == {f"{PACKAGE}.leaning", f"{PACKAGE}._helping"}
    assert set(used("standing")) == {f"{PACKAGE}.standing"}
    assert used("softmax") == {}
    code = code_used([build_classifier("leaning", 4, 3)])
    assert changed_modules(code) == []
    assert changed_modules(code | {f"{PACKAGE}._helping": "0" * 64}) == [f"{PACKAGE}._helping"]
    alone.unlink()
    helper.unlink()
    assert changed_modules(code | used("standing")) == [f"{PACKAGE}._helping"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def (:\n", ["line 1", "invalid syntax"]),
        ("import os\n\nimport no_such_package\n", ["line 3", "ModuleNotFoundError", "no_such"]),
        ("def f():\n    return 1 / 0\n\nf()\n", ["line 2", "ZeroDivisionError"]),
        ("", ["registers no classifier", "@CLASSIFIERS.register"]),
        (WHOLE.format(name="ssa", extra=""), ["line 9", "'ssa' is already taken"]),
        (WHOLE.format(name="a b", extra=""), ["letters, digits"]),
        (WHOLE.format(name="none", extra=""), ["means no classifier"]),
        (
            WHOLE.format(name="lossless", extra="").replace("def _loss", "def _lose"),
            ["'lossless' does not define _loss", "docs/classifiers.md"],
        ),
        (
            WHOLE.format(name="unset", extra="").replace("    Config = Config\n", ""),
            ["'unset' has no Config"],
        ),
        (
            WHOLE.format(name="other", extra="").replace("Mine(PixelClassifier)", "Mine"),
            ["'other' is not a subclass"],
        ),
    ],
)
def test_a_broken_classifier_is_one_sentence_with_file_and_line(
    tmp_path: Path, text: str, words: list[str], request: pytest.FixtureRequest
) -> None:
    before = dict(CLASSIFIERS)
    path = write(tmp_path, "broken", text)
    sentence = refused(tmp_path)
    for word in [str(path), *words]:
        assert word in sentence
    assert dict(CLASSIFIERS) == before, "what failed leaves nothing behind"


def test_a_mended_file_is_taken_up_in_the_same_process(tmp_path: Path) -> None:
    whole = WHOLE.format(name="mended", extra="")
    path = write(tmp_path, "mended", whole + "\nraise ValueError('late')\n")
    assert "ValueError: late" in refused(tmp_path)
    path.write_text(whole)
    load_registry([tmp_path])
    assert "mended" in CLASSIFIERS


@pytest.mark.parametrize("coding", ["utf-8-sig", "latin-1"])
def test_a_file_may_say_its_own_coding(tmp_path: Path, coding: str) -> None:
    cookie = "# coding: latin-1\n# é\n" if coding == "latin-1" else ""
    path = write(tmp_path, "coded", "")
    path.write_bytes((cookie + WHOLE.format(name="coded", extra="")).encode(coding))
    take_up([tmp_path])
    used = code_used([build_classifier("coded", 3, 2)])
    assert "user_classifiers.coded" in used


@pytest.mark.parametrize(
    "raw",
    [
        "# é\n".encode("latin-1"),
        b"# coding: nonsense\n",
        "x = 1\n".encode("utf-16"),
        b"x = 1\0\n",
        b"# coding: latin-1\n" + b"\xef\xbb\xbf",
        b"x = " + b"(" * 500,
    ],
    ids=["latin-1", "unknown", "utf-16", "null", "two", "deep"],
)
def test_a_file_that_is_no_python_text_is_one_sentence(tmp_path: Path, raw: bytes) -> None:
    path = write(tmp_path, "coded", "")
    path.write_bytes(raw)
    assert str(path) in refused(tmp_path)


def test_two_folders_cannot_hold_a_file_of_one_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, "twice", WHOLE.format(name=f"twice_{folder}", extra=""))
    with pytest.raises(RegistryError, match=r"takes the name of .*one/classifiers/twice\.py"):
        load_registry([tmp_path / "one", tmp_path / "two"])


def test_nothing_is_imported_where_no_registry_is_given() -> None:
    code = (
        "import sys; from experiments.declare.load import load_registry; load_registry();"
        f"sys.exit('{PACKAGE}' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment(), check=False)
    assert done.returncode == 0


# --- data sets ------------------------------------------------------------------------------------


def declare(folder: Path, name: str, text: str) -> Path:
    path = folder / "datasets" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_declared_data_set_is_found_by_its_name(tmp_path: Path) -> None:
    declare(tmp_path, "own_yards", "class_names: [a, b]\nimages: photos/{split}\nfolder: pics\n")
    load_registry([tmp_path])
    dataset = DATASETS["own_yards"]
    assert dataset.class_names == ("a", "b")
    assert dataset.folders == (str(tmp_path / "pics"),)
    assert dict(dataset.layouts[0].folders) == {
        "train": ("photos/train", "annotations/train"),
        "val": ("photos/val", "annotations/val"),
    }


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("d", "title: x\n", ["class_names: Field required"]),
        ("d", "class_names: [a]\nclas: 1\n", ["Unknown field", "'clas'", "class_names"]),
        ("d", "class_names: [a, a]\n", ["different names"]),
        ("d", "class_names: [a]\nlabel_map: {3: 7}\n", ["label_map: 3 → 7"]),
        ("d", "class_names: [a]\nlabel_map: [1]\n", ["label_map: ", "valid dictionary"]),
        ("d", "class_names: [a]\nsplits: train\n", ["splits: ", "valid list, not 'train'"]),
        ("d", "class_names: [a]\nsplits: [train]\n", ["no folder images/val", "only train"]),
        (
            "d",
            "class_names: [a]\nreduce_zero_label: 3\n",
            ["reduce_zero_label: ", "valid boolean, not 3"],
        ),
        ("d", "class_names: [a]\nname: a/b\n", ["letters, digits"]),
        ("d", "class_names: [a\n", ["not valid YAML"]),
        ("camvid", "class_names: [a]\n", ["'camvid'", "CamVid has that name", "choose another"]),
    ],
)
def test_a_wrong_declaration_is_one_sentence(
    tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    path = declare(tmp_path, name, text)
    sentence = refused(tmp_path)
    for word in [str(path), *words]:
        assert word in sentence
