"""Protocol files: merged in order, whole, wrong ones named; the page says what they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from lab import assert_clear, finished, write_registry
from mmengine.optim import build_optim_wrapper
from torch import nn

from experiments.declare.load import load_registry
from experiments.declare.protocol import (
    NoProtocolError,
    known_datasets,
    resolve_protocol,
    settings_of,
)
from experiments.errors import RegistryError
from experiments.plan.cost import GpuHours
from experiments.plan.resolve import Blocked, Resolver
from experiments.show.protocol_page import BEGIN, PAGE, page
from experiments.store.workspace import Workspace
from experiments.train.components import register_components
from experiments.train.config import Surroundings, runner_config
from ssa.meta import meta_device
from ssa.models import build_segmentor

SHIPPED = load_registry()
PAPER = SHIPPED.profile("paper")
MASKS = [name for name, card in SHIPPED.models.items() if not card.pixel_classifier]

BELOW = """
name: below
title: below
source: nowhere
training:
  iterations: 10
  batch: 4
  optimizer: {type: AdamW, lr: 0.1, weight_decay: 0.0, betas: [0.9, 0.99]}
  schedule: {power: 0.9}
  augmentation: {scale: [96, 96], ratio_range: [1.0, 1.0], crop: [64, 64]}
evaluation: {interval: 5}
datasets:
  camvid:
    training: {iterations: 20, optimizer: {lr: 0.2}}
    evaluation: {scale: [64, 48]}
deviations:
  - {field: flip, ours: one, theirs: two, why: because}
  - {field: crop, ours: one, theirs: two, why: because, datasets: [ade20k]}
"""
ABOVE = """
name: above
title: above
source: nowhere
extends: below
training: {optimizer: {lr: 0.3}}
datasets:
  ade20k: {training: {batch: 8}}
deviations:
  - {field: flip, ours: three, theirs: two, why: because, changes_results: false}
unpublished: {pascal_context: Nobody did.}
"""
PROFILE = """
name: published
title: published
description: by protocols
dataset: null
model_size: tiny
protocols: {segnext_t: above, segformer_b5: below}
"""
NAMED = "protocols: {segnext_t: above, segformer_b5: below}"
SCORING = "evaluation: {interval: 1}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry of two protocols and a profile that names them."""
    folder = write_registry(tmp_path / "mine")
    (folder / "protocols").mkdir()
    (folder / "protocols" / "below.yaml").write_text(BELOW)
    (folder / "protocols" / "above.yaml").write_text(ABOVE)
    (folder / "profiles" / "published.yaml").write_text(PROFILE)
    return folder


def test_later_parts_win_field_by_field(folder: Path) -> None:
    registry = load_registry([folder])
    camvid = resolve_protocol(registry, "above", "camvid")
    assert camvid.training.iterations == 20
    assert camvid.training.optimizer.lr == 0.3
    assert camvid.training.optimizer.betas == (0.9, 0.99)
    assert camvid.evaluation.scale == (64, 48)
    ade20k = resolve_protocol(registry, "above", "ade20k")
    assert (ade20k.training.batch, ade20k.training.iterations) == (8, 10)
    assert resolve_protocol(registry, "below", "camvid").training.optimizer.lr == 0.2
    assert known_datasets(registry, "above") == ["camvid", "ade20k"]


def test_deviations_hold_where_they_say_and_an_upper_one_replaces_a_lower(folder: Path) -> None:
    registry = load_registry([folder])
    assert resolve_protocol(registry, "below", "camvid").sentences == ("flip: one (source: two)",)
    assert resolve_protocol(registry, "above", "camvid").sentences == ()
    upper = resolve_protocol(registry, "above", "ade20k")
    assert [(d.field, d.ours) for d in upper.deviations] == [("crop", "one"), ("flip", "three")]


def test_a_data_set_without_a_protocol_blocks_and_says_why(folder: Path, tmp_path: Path) -> None:
    registry = load_registry([folder])
    profile = registry.profile("published")
    for model, dataset, says in (
        ("segnext_t", "pascal_context", "Nobody did"),
        ("segnext_t", "coco_stuff10k", "says nothing of the data set coco_stuff10k"),
        ("cgrseg_b", "ade20k", "no protocol for the model cgrseg_b"),
    ):
        with pytest.raises(NoProtocolError, match=says):
            settings_of(registry, profile, model, dataset)
    workspace = Workspace(results=tmp_path / "results", data_root=tmp_path / "data")
    table = SHIPPED.table("table1")
    row = next(row for row in table.rows if row.id == "segnext-t-ssa.pascal_context")
    blocked = Resolver(registry, profile, workspace).resolve(table, row, 0)
    assert isinstance(blocked, Blocked)
    assert "No PASCAL-Context" in blocked.reasons[0]
    assert "Nobody did" in blocked.reasons[1]


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("protocols/above.yaml", "extends: below", "extends: belo", "Did you mean 'below'"),
        ("profiles/published.yaml", "t: above", "t: abve", "Did you mean 'above'"),
        ("profiles/published.yaml", "segnext_t", "segnext_x", "Did you mean 'segnext_t'"),
        ("protocols/above.yaml", "lr: 0.3", "lr: fast", r"above on .*training\.optimizer\.lr"),
        ("protocols/below.yaml", "interval: 5", "intervall: 5", "Did you mean 'interval'"),
        ("protocols/below.yaml", "  batch: 4\n", "", r" on .*training\.batch"),
        ("protocols/above.yaml", "extends: below", "extends: above", "extends itself"),
        ("protocols/above.yaml", "title", "titel", "above.yaml: titel: .*mean 'title'"),
        ("profiles/published.yaml", NAMED, f"{SCORING}{NAMED}", "not both"),
        ("profiles/published.yaml", NAMED, "", "are needed"),
    ],
)
def test_a_mistake_is_named(folder: Path, file: str, old: str, new: str, says: str) -> None:
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RegistryError, match=says) as caught:
        load_registry([folder])
    assert "\n" not in str(caught.value)


def test_every_model_has_a_protocol_on_every_data_set_of_its_rows() -> None:
    for number in range(1, 14):
        table = SHIPPED.table(f"table{number}")
        for row in table.rows:
            settings_of(
                SHIPPED, PAPER, str(row.model or table.model), str(row.dataset or table.dataset)
            )


def test_the_paper_profile_is_the_papers() -> None:
    assert PAPER.model_size == "paper"
    assert PAPER.seeds == 3
    assert PAPER.compares_with_paper
    assert not PAPER.classifier_overrides
    for name in PAPER.protocols.values():
        for dataset in known_datasets(SHIPPED, name):
            assert not resolve_protocol(SHIPPED, name, dataset).training.from_scratch


def test_a_run_by_the_paper_keeps_synchronised_norms(tmp_path: Path) -> None:
    table = SHIPPED.table("table8")
    workspace = Workspace(results=tmp_path / "results", data_root=tmp_path / "data")
    blocked = Resolver(SHIPPED, PAPER, workspace).resolve(table, table.rows[0], 2)
    assert isinstance(blocked, Blocked)
    assert blocked.draft is not None
    assert blocked.draft.segmentor["backbone"]["norm_cfg"]["type"] == "SyncBN"
    assert blocked.draft.seed == 2


@pytest.mark.parametrize("model", MASKS)
def test_mask_classifiers_have_their_authors_parameter_groups(model: str, tmp_path: Path) -> None:
    """detectron2's rule in all four: norms and embeddings undecayed, the backbone slower."""
    settings = settings_of(SHIPPED, PAPER, model, "ade20k")
    with meta_device():
        network = build_segmentor(
            SHIPPED.model(model).model_dump(), classifier={"name": "none"}, num_classes=150
        )
    table = SHIPPED.table("table3")
    row = next(row for row in table.rows if row.model == model)
    workspace = Workspace(results=tmp_path / "results", data_root=tmp_path / "data")
    blocked = Resolver(SHIPPED, PAPER, workspace).resolve(table, row, 0)
    assert isinstance(blocked, Blocked)
    assert blocked.draft is not None
    wrapper = runner_config(blocked.draft, Surroundings(*[tmp_path] * 4))["optim_wrapper"]
    wrapper["optimizer"].pop("fused")  # not on the meta device
    register_components()
    groups = build_optim_wrapper(network, wrapper).optimizer.param_groups
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    undecayed = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    rate, decay = settings.training.optimizer.lr, settings.training.optimizer.weight_decay
    for name, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                lr, own_decay = found[id(parameter)]
                assert lr == pytest.approx(rate * (0.1 if "backbone" in name else 1.0)), name
                assert own_decay == (0.0 if isinstance(module, undecayed) else decay), name


def test_gpu_hours_are_macs_times_work() -> None:
    assert PAPER.cost is not None
    hours = GpuHours(SHIPPED, PAPER.cost)
    table = SHIPPED.table("table1")
    row = next(row for row in table.rows if row.id == "upernet-swin-t-softmax.ade20k")
    workspace = Workspace(results=Path("/nowhere"), data_root=Path("/nowhere"))
    blocked = Resolver(SHIPPED, PAPER, workspace).resolve(table, row, 0)
    assert isinstance(blocked, Blocked)
    assert blocked.draft is not None
    by_hand = 236.1e9 * 3 * 16 * 160000 / (PAPER.cost.tmacs_per_s * 1e12) / 3600
    assert hours.of(table, row, blocked.draft) == pytest.approx(by_hand)
    table5 = SHIPPED.table("table5")  # prints no MACs: those of the same network elsewhere
    draft = blocked.draft
    assert table5.rows[0].reported.macs_g is None
    assert hours.of(table5, table5.rows[0], draft) == pytest.approx(by_hand * 6.4 / 236.1)


def test_a_plan_without_data_names_every_reason_and_the_cost(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "experiments", "table1", "--profile", "paper"]
    command += ["--dry-run", "--data-root", str(tmp_path / "data"), "--jobs", "1"]
    made = finished([*command, "--results", str(tmp_path / "results")])
    text = assert_clear(made, 0, "162 cells blocked", "GPU-hours are an estimate", "V100")
    assert text.count("│ blocked │") == 162
    for word in ("No ADE20K in", "No COCO-Stuff-10K in", "No PASCAL-Context in", "'swin_t'"):
        assert text.count(word) == 1
    assert "data prepare ade20k" in text
    lines = [line for line in text.splitlines() if "upernet-swin-t-ssa.ade20k" in line]
    assert len(lines) == 3
    assert all(re.search(r"\[\d+\] \[\d+\]", line) for line in lines), "the data and the weights"
    assert not (tmp_path / "results" / "runs").exists()


def test_the_page_says_what_the_files_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(SHIPPED, PAPER, text) == text, "run python -m experiments.show.protocol_page"
    made = text.partition(BEGIN)[2]
    for name in set(PAPER.protocols.values()):
        assert made.count(f"\n| `{name}` |") == 1 + len(known_datasets(SHIPPED, name))


def test_torch_counts_synchronised_norms_of_one_process_alike() -> None:
    """SyncBN in one process is BN, on a CPU too: a run by the paper needs no second config."""
    torch.manual_seed(0)
    plain, shared = nn.BatchNorm2d(4), nn.SyncBatchNorm(4)
    images = torch.randn(3, 4, 5, 5)
    assert torch.equal(plain(images), shared(images))
