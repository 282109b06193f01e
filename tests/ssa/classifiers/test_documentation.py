"""docs/classifiers.md is executed, and its table names what there is."""

import re
from pathlib import Path

import pytest
import torch

from ssa.classifiers import CLASSIFIERS, Inspection, build_classifier

PAGE = Path(__file__).resolve().parents[3] / "docs" / "classifiers.md"


@pytest.fixture
def own_classifier():
    """The page's code block, executed; its registration is taken back afterwards."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    exec(compile(block, str(PAGE), "exec"), {"__name__": "scaled_cosine"})
    yield block
    del CLASSIFIERS._things["scaled_cosine"]


def test_the_code_block_makes_a_classifier_that_works(own_classifier):
    torch.manual_seed(0)
    model = build_classifier("scaled_cosine", 8, 4, overrides={"scale": 10.0}, dropout_ratio=0)
    features, labels = torch.randn(2, 8, 6, 5), torch.randint(0, 4, (2, 1, 24, 20))
    labels[0, :, :8] = 255
    logits = model(features)
    assert logits.shape == (2, 4, 6, 5)
    assert logits.abs().max() <= 10 + 1e-4
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    history = []
    for _ in range(20):
        (loss,) = model.loss(features, labels).values()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < history[0]
    shown = model.inspect(features)
    assert isinstance(shown, Inspection)
    torch.testing.assert_close(model.deploy()(features), model(features))


def test_it_fits_in_thirty_lines_or_little_more(own_classifier):
    lines = [line for line in own_classifier.splitlines() if line.strip()]
    assert len(lines) <= 30


def test_the_table_has_a_column_for_every_classifier():
    text = PAGE.read_text(encoding="utf-8")
    header = next(line for line in text.splitlines() if line.startswith("| | softmax"))
    columns = [cell.strip() for cell in header.strip("|").split("|")][1:]
    assert columns == ["softmax", "ssa", "cac", "gmmseg", "protoseg", "dnc"]
    assert set(columns) == set(CLASSIFIERS)
    row = next(line for line in text.splitlines() if line.startswith("| presets"))
    for name, cell in zip(columns, row.strip("|").split("|")[1:], strict=True):
        named = [preset.strip() for preset in cell.split(",")]
        config = CLASSIFIERS[name].Config
        assert set(named) == set(config.presets), name
        assert named[0] == config.default_preset, name


def test_the_losses_named_are_those_there_are():
    text = PAGE.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| losses"))
    small = {"gmmseg": {"memory_size": 32}, "dnc": {"memory_size": 32}}
    cells = row.strip("|").split("|")[1:]
    for name, cell in zip(
        ["softmax", "ssa", "cac", "gmmseg", "protoseg", "dnc"], cells, strict=True
    ):
        model = build_classifier(name, 8, 4, overrides=small.get(name))
        terms = model.loss(torch.randn(2, 8, 16, 16), torch.randint(0, 4, (2, 64, 64)))
        assert set(re.findall(r"`(\w+)`", cell)) == set(terms), name
