"""Names and switches of the classifiers are known before any of them, or torch, is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ssa.classifiers import CLASSIFIERS, config_class
from ssa.classifiers.catalogue import CONFIGS
from ssa.errors import ConfigurationError, UnknownNameError
from ssa.registry import Registry

WITHOUT_TORCH = """
import sys
from ssa.classifiers import CLASSIFIERS, ClassifierConfig, SoftmaxConfig, config_class
for name in CLASSIFIERS:
    config = config_class(name)
    assert issubclass(config, ClassifierConfig)
    config.preset(config.default_preset)
assert "ssa" in CLASSIFIERS and len(CLASSIFIERS) == 6
assert "torch" not in sys.modules and "numpy" not in sys.modules
CLASSIFIERS["softmax"]
assert "torch" in sys.modules
assert "ssa.classifiers.dnc" not in sys.modules
"""


def test_switches_are_read_without_torch() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", CONFIGS)
def test_a_classifiers_switches_are_those_of_its_name(name: str) -> None:
    assert config_class(name) is CLASSIFIERS[name].Config


def test_every_classifier_of_ours_has_its_switches_beside_it() -> None:
    ours = [n for n in CLASSIFIERS if CLASSIFIERS[n].__module__.startswith("ssa.")]
    assert ours == list(CONFIGS)


def test_an_unknown_name_proposes_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="softmax"):
        config_class("softmaxx")


@pytest.fixture
def colours(tmp_path, monkeypatch) -> Registry:
    """A registry whose only thing stands in a module that is not imported yet."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"{tmp_path.name}_red".replace("-", "_")
    registry: Registry = Registry("colour", {"red": name})
    monkeypatch.setattr(sys, "colours_of_the_test", registry, raising=False)
    (tmp_path / f"{name}.py").write_text(
        'import sys\n@sys.colours_of_the_test.register("red")\nclass Red: ...\n'
    )
    yield registry
    sys.modules.pop(name, None)


def test_an_announced_name_is_taken_before_its_module_is_imported(colours: Registry) -> None:
    with pytest.raises(ConfigurationError, match=r"'red' is already taken by .*Red"):
        colours.register("red")(type("Mine", (), {}))
    assert colours["red"].__name__ == "Red"


def test_what_was_announced_outlives_a_failure_that_imported_it(colours: Registry) -> None:
    def fail() -> None:
        with colours.all_or_nothing():
            colours.register("blue")(colours["red"])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(colours) == ["red"]
    assert colours["red"].__name__ == "Red"
