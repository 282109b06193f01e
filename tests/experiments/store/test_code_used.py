"""Which modules a run's numbers are credited to: all that make them, and no others."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PROJECT, Lab, environment

from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.store.provenance import changed_modules, code_used
from experiments.train.components import register_components
from experiments.train.config import Surroundings, runner_config
from ssa.datasets.segmentation import PairedFolder
from ssa.models import build_segmentor

# --- ours -----------------------------------------------------------------------------------------

EVERY_RUN = {
    *("experiments.train.loops", "experiments.train.optimizer", "experiments.store.areas"),
    *("ssa.datasets.segmentation", "ssa.datasets.transforms", "ssa.datasets.pixels"),
    *("ssa.datasets.sampler", "ssa.datasets.packed", "ssa.datasets.base", "ssa.processes"),
}
SCENES = {f"ssa.datasets.{n}" for n in ("scenes", "scene_appearance", "scene_layout", "draws")}
LOSSES = {"ssa.losses.segmentation", "ssa.losses.fused_losses", "ssa.losses.native"}
MASKS = {f"ssa.mask_classifiers.{n}" for n in ("criterion", "matching", "points", "head")}

#: network, classifier, data set, optimiser's constructor → modules that make its numbers
MADE_BY = {
    ("segnext_t", "softmax", "scenes", None): {*EVERY_RUN, *SCENES, *LOSSES}
    | {"ssa.classifiers.softmax", "ssa.heads.classifier_head"},
    ("segnext_t", "ssa", "scenes", None): {*EVERY_RUN, *SCENES, *LOSSES}
    | {"ssa.classifiers.ssa", "ssa.classifiers.ssa_config", "ssa.classifiers.parts.teacher"}
    | {"ssa.classifiers.parts.prototypes", "ssa.losses.distillation", "ssa.losses.boundary"}
    | {"ssa/losses/kernels/upsampled_losses.c"},
    ("segnext_t", "dnc", "scenes", None): {*EVERY_RUN, "ssa.classifiers.dnc"}
    | {"ssa.classifiers.parts.clustering"},
    ("vit_adapter_l", "ssa", "scenes", "LayerDecay"): {*EVERY_RUN, *SCENES}
    | {"ssa.backbones.vit_adapter", "ssa.backbones.deformable", "ssa.backbones.layer_decay"},
    ("yoso_r50", "none", "scenes", None): {*EVERY_RUN, *MASKS, "ssa.mask_classifiers.yoso"},
    ("segnext_t", "softmax", "camvid", None): {*EVERY_RUN, "ssa.datasets.camvid"},
    ("segnext_t", "softmax", "ade20k", None): {*EVERY_RUN, "ssa.datasets.ade20k"},
}
#: modules that make the numbers of one of them and not of the others
APART = [
    ("ssa.classifiers.dnc", "dnc"),
    ("ssa.backbones.layer_decay", "LayerDecay"),
    ("ssa.mask_classifiers.criterion", "none"),
    ("ssa.datasets.camvid", "camvid"),
    ("ssa.datasets.ade20k", "ade20k"),
]


@pytest.fixture(scope="module")
def codes(trained: Lab) -> dict[tuple[str, str, str, str | None], dict[str, str]]:
    """The code of each of these runs, as its training process would take it."""
    register_components()
    usual = trained.plan("baseline")
    data = trained.data(usual)
    return {which: code_of(which, usual, data) for which in MADE_BY}


def code_of(which: tuple[str, str, str, str | None], usual: RunSpec, data: Path) -> dict[str, str]:
    model, classifier, dataset, constructor = which
    card = load_registry().models[model].model_dump()
    network = build_segmentor(card, classifier={"name": classifier}, num_classes=16, size="tiny")
    optimizer = usual.training.optimizer.model_copy(update={"constructor": constructor})
    training = usual.training.model_copy(update={"optimizer": optimizer})
    spec = usual.model_copy(update={"training": training, "dataset": dataset})
    config = runner_config(spec, Surroundings(data, data, data, data))
    images = PairedFolder("scenes", data, "val", {"kind": "test"})
    if dataset != "scenes":  # the files are others, the code that describes them is what counts
        from ssa.datasets import DATASETS

        images.description = DATASETS[dataset]
    return code_used([*network.modules(), images], config)


@pytest.mark.parametrize(
    ("which", "module"),
    [(which, module) for which, modules in MADE_BY.items() for module in sorted(modules)],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else value,
)
def test_what_makes_a_runs_numbers_is_in_its_digest(
    codes: dict[tuple[str, str, str, str | None], dict[str, str]],
    which: tuple[str, str, str, str | None],
    module: str,
) -> None:
    code = codes[which]
    assert module in code
    assert changed_modules(code) == []
    assert changed_modules(code | {module: "0" * 64}) == [module]


@pytest.mark.parametrize(("module", "word"), APART)
def test_what_makes_none_of_them_is_not(
    codes: dict[tuple[str, str, str, str | None], dict[str, str]], module: str, word: str
) -> None:
    assert {which for which, code in codes.items() if module in code} == {
        which for which in codes if word in which
    }


def test_a_module_taken_instead_of_another_makes_a_record_stale(
    codes: dict[tuple[str, str, str, str | None], dict[str, str]],
) -> None:
    """Where a name comes from is no part of what a module means; what it then leads to is."""
    code = dict(codes["segnext_t", "ssa", "scenes", None])
    del code["ssa.losses.boundary"]  # as if the module that takes from it had not done so then
    assert changed_modules(code) == ["ssa.losses.boundary"]


def test_what_is_where_it_was_is_found_without_looking_through_all_files(
    codes: dict[tuple[str, str, str, str | None], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = codes["segnext_t", "ssa", "scenes", None]
    kernels = [name for name in code if name.endswith(".c")]
    assert kernels
    monkeypatch.setattr("experiments.store.provenance._meanings_in", lambda _second: frozenset())
    assert changed_modules(code) == []
    assert changed_modules(code | {kernels[0]: "0" * 64}) == [kernels[0]]


# --- a user's -------------------------------------------------------------------------------------

USERS = {
    "registry/classifiers/mine.py": """
        from ssa.classifiers import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
        from .lib.x import scaled
        from own_losses.cross import cross
        import yaml
        from pathlib import Path
        SCALE = yaml.safe_load((Path(__file__).parent / "scale.yaml").read_text())["scale"]

        class Config(ClassifierConfig):
            width: int = 1

        @CLASSIFIERS.register("mine")
        class Mine(PixelClassifier):
            Config = Config

            def forward(self, features):
                return features[:, : self.num_classes]

            def _loss(self, features, labels):
                from ._late import weight
                return {"ce": scaled(cross(features)) * weight * SCALE}

            def inspect(self, features):
                return Inspection(features, features, features)
    """,
    "registry/classifiers/scale.yaml": "scale: 2.0\n",
    "registry/classifiers/_late.py": "weight = 1.0\n",
    "registry/classifiers/lib/__init__.py": "",
    "registry/classifiers/lib/x.py": "from .y import same\n\ndef scaled(x): return same(x)\n",
    "registry/classifiers/lib/y.py": "def same(x): return x\n",
    "registry/classifiers/_unused.py": "a = 1\n",
    "path/own_losses/__init__.py": "FACTOR = 1\n",
    "path/own_losses/cross.py": "from . import deeper\ndef cross(x): return deeper.f(x)\n",
    "path/own_losses/deeper.py": "def f(x): return x.sum()\n",
    "path/own_losses/unused.py": "a = 1\n",
}
COUNT = {
    "registry/classifiers/mine.py": "user_classifiers.mine",
    "registry/classifiers/scale.yaml": "user_classifiers/scale.yaml",
    "registry/classifiers/_late.py": "user_classifiers._late",
    "registry/classifiers/lib/x.py": "user_classifiers.lib.x",
    "registry/classifiers/lib/y.py": "user_classifiers.lib.y",
    "path/own_losses/__init__.py": "own_losses",
    "path/own_losses/cross.py": "own_losses.cross",
    "path/own_losses/deeper.py": "own_losses.deeper",
}
#: says nothing, and counts as soon as it does
EMPTY = {"registry/classifiers/lib/__init__.py": "user_classifiers.lib"}
ASKED = """
    import json, sys
    from pathlib import Path
    import experiments.store.loaded as loaded
    loaded.listen()
    from experiments.declare.extensions import take_up
    from experiments.store.provenance import changed_modules, code_used, remember_code
    from ssa.classifiers import build_classifier
    root, edits = Path(sys.argv[1]), json.loads(sys.argv[2])
    remember_code([root / "registry"])
    loaded.watch([root / "registry" / "classifiers"])
    take_up([root / "registry"])
    code = code_used([build_classifier("mine", 4, 3)])
    found = {}
    for name in edits:
        path = root / name
        before = path.read_bytes()
        path.write_bytes(before + b"\\nedited: 1\\n")
        again = code_used([build_classifier("mine", 4, 3)])
        found[name] = [changed_modules(code), code == again]
        path.write_bytes(before)
    print(json.dumps([code, found]))
"""


@pytest.fixture(scope="module")
def users(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[dict[str, str], dict[str, tuple[list[str], bool]]]]:
    """The code of a user's classifier, and what each edit changes while the process goes on."""
    root = tmp_path_factory.mktemp("user")
    for name, text in USERS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    script = root / "ask.py"
    script.write_text(textwrap.dedent(ASKED))
    paths = f"{PROJECT}:{root / 'path'}"
    said = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(root), json.dumps(list(USERS))],
        env=environment() | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return tuple(json.loads(said.stdout))  # type: ignore[misc]


@pytest.mark.parametrize("path", USERS)
def test_what_a_users_classifier_uses_is_in_its_digest(
    users: tuple[dict[str, str], dict[str, tuple[list[str], bool]]], path: str
) -> None:
    code, edits = users
    changed, as_imported = edits[path]
    assert changed == ([COUNT.get(path) or EMPTY[path]] if path in COUNT | EMPTY else [])
    assert set(COUNT.values()) <= set(code)
    assert as_imported, "an edit after the import changes nothing of what this process runs"


def test_none_of_what_is_installed_counts(
    users: tuple[dict[str, str], dict[str, tuple[list[str], bool]]],
) -> None:
    tops = {name.split(".")[0].split("/")[0] for name in users[0]}
    assert tops == {"experiments", "ssa", "user_classifiers", "own_losses"}
