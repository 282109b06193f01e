"""The library knows nothing of the command line around it."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import ssa
from ssa.datasets import CAMVID, DATASETS, DataError
from ssa.datasets.prepare import prepare
from ssa.errors import ConfigurationError, Remedy, SsaError
from ssa.models import load_model_card
from ssa.released.manifest import MissingWeightsError, require_weights

PACKAGE = Path(ssa.__file__).parent
#: the door, and an option of it; `--imagenet2012` inside a file's name is none
COMMAND_LINE = re.compile(r"run_all|(?<![\w.-])--[a-z][a-z-]+")


def texts(path):
    """Every string, docstring and comment of a module."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("text", ["`./run_all.sh list`", "by --from-scratch,", "(--results)"])
def test_the_search_finds_what_it_is_for(text):
    assert COMMAND_LINE.search(text)


def test_no_message_of_the_library_names_the_command_line():
    paths = sorted(PACKAGE.rglob("*.py"))
    assert len(paths) > 50
    named = [
        f"{path.relative_to(PACKAGE)}: {text!r}"
        for path in paths
        for text in texts(path)
        if COMMAND_LINE.search(text)
    ]
    assert not named
    assert not any(COMMAND_LINE.search(dataset.obtain) for dataset in DATASETS.values())


def remedy_of(call, kind=SsaError):
    with pytest.raises(kind) as caught:
        call()
    assert not COMMAND_LINE.search(str(caught.value))
    return caught.value.remedy


def test_what_mends_an_error_is_a_fact_beside_its_text(tmp_path):
    (tmp_path / "camvid").mkdir()
    assert remedy_of(lambda: CAMVID.layout(tmp_path), DataError) == Remedy("prepare", "camvid")
    assert remedy_of(lambda: CAMVID.locate(tmp_path), DataError) == Remedy("prepare", "camvid")
    for source in (None, tmp_path / "absent", tmp_path):
        given = remedy_of(lambda s=source: prepare("coco_stuff10k", s, tmp_path / "to"), DataError)
        assert given == Remedy("prepare", "coco_stuff10k")
    taken = remedy_of(lambda: prepare("camvid", tmp_path, tmp_path), DataError)
    assert taken == Remedy("verify", "camvid")
    weights = remedy_of(lambda: require_weights("swin_t", tmp_path), MissingWeightsError)
    assert weights == Remedy("from_scratch")
    card = remedy_of(lambda: load_model_card(tmp_path / "no.yaml"), ConfigurationError)
    assert card == Remedy("list_models")


def test_most_errors_have_no_remedy_but_their_text():
    assert SsaError("Something.").remedy is None


def test_importing_the_package_imports_nothing_heavy():
    asked = (
        "import sys, ssa; assert 'torch' not in sys.modules and 'pydantic' not in sys.modules; "
        "assert 'build_classifier' in dir(ssa); ssa.build_classifier('softmax', 4, 3); "
        "heavy = {'mmseg', 'mmengine', 'mmcv', 'cv2', 'pandas', 'yaml'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", asked], cwd=PACKAGE.parent, check=True, timeout=120)


def test_the_example_of_the_page_runs():
    page = PACKAGE.parent / "docs" / "library.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    names = {}
    exec(compile(block, str(page), "exec"), names)
    assert names["logits"].shape == (2, 19, 32, 32)


def test_what_the_package_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="build_clasifier"):
        _ = ssa.build_clasifier
