"""Pretrained files load strictly, are converted, and are read without running their code."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from references import GOLDEN, PROTOCOL

from experiments.parity.model import fill_by_rule, reference_values
from ssa.errors import SsaError, UnknownNameError
from ssa.models import build_segmentor, build_segmentor_config, load_model_card
from ssa.released.manifest import (
    MissingWeightsError,
    UnfitWeightsError,
    list_weights,
    read_manifest,
    require_weights,
    verify_weights,
    weights_entry,
)
from ssa.released.weights import LEAST_SHARE, load_pretrained, load_segmentor, read_checkpoint

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "experiments" / "models"
SSA = {"name": "ssa", "preset": "released"}


def build(name: str, classifier: dict | None = None, size: str = "tiny", num_classes: int = 5):
    choice = {"classifier": classifier or {"name": "softmax"}, "num_classes": num_classes}
    card = load_model_card(MODELS / f"{name}.yaml")
    return (
        build_segmentor(card, size=size, **choice).eval(),
        build_segmentor_config(card, size=size, **choice),
    )


def released_state(case: str) -> dict[str, torch.Tensor]:
    """What a checkpoint of the authors' code holds, with values by the reference rule."""
    shapes = json.loads((GOLDEN / "models" / f"{case}.json").read_text())["state_dict"]
    return {key: torch.from_numpy(reference_values(key, shape)) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("case", "classifier"),
    [
        ("seaformer_b_ssa", SSA),
        ("afformer_b_softmax", None),
        pytest.param("cgrseg_b_softmax", None, marks=pytest.mark.slow),
    ],
)
def test_released_checkpoints_load_whole(tmp_path, case, classifier):
    """Baselines and SSA-Seg, in the form in which training tools save them."""
    path = tmp_path / "iter_160000.pth"
    state = released_state(case)
    leftovers = {"meta": {"args": argparse.Namespace(lr=0.1)}, "optimizer": {"state": {}}}
    torch.save({"state_dict": state, **leftovers}, path)
    model = case.rsplit("_", 1)[0]
    loaded, config = build(model, classifier, size="paper", num_classes=150)
    report = load_segmentor(loaded, config, path)
    assert report.share == 1
    assert report.missing == ()
    filled, _ = build(model, classifier, size="paper", num_classes=150)
    fill_by_rule(filled, config, {key: value.shape for key, value in state.items()}, salt="")
    for key, value in filled.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0, msg=key)


def test_a_classification_file_starts_the_backbone(tmp_path):
    """No prefix, averaged weights beside the last ones, a classifier that nobody needs."""
    state = {
        key.removeprefix("backbone."): value
        for key, value in released_state("seaformer_b_softmax").items()
        if key.startswith("backbone.")
    }
    worse = {key: torch.zeros_like(value) for key, value in state.items()}
    head = {"head.l.weight": torch.zeros(1000, 256), "head.l.bias": torch.zeros(1000)}
    path = tmp_path / "SeaFormer_B_cls_76.4.pth"
    torch.save({"state_dict": worse | head, "state_dict_ema": state | head, "epoch": 599}, path)
    network, _ = build("seaformer_b", size="paper")
    report = load_pretrained(network, "seaformer_b", path)
    assert report.share == 1
    assert set(report.unused) == set(head)
    expected = state["smb1.stem_block.0.c.weight"]
    torch.testing.assert_close(network.backbone.stem.conv.weight.detach(), expected)


def test_below_95_percent_is_refused_and_nothing_changes(tmp_path):
    network, _ = build("seaformer_b")
    state = {key: value + 1 for key, value in network.backbone.state_dict().items()}
    counted = [key for key in state if not key.endswith("num_batches_tracked")]
    lost = counted[: int((1 - LEAST_SHARE) * len(counted)) + 1]
    path = tmp_path / "part.pth"
    torch.save({key: value for key, value in state.items() if key not in lost}, path)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UnfitWeightsError, match=re.escape(lost[0])):
        load_pretrained(network, "seaformer_b", path)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    torch.save({key: value for key, value in state.items() if key not in lost[1:]}, path)
    report = load_pretrained(network, "seaformer_b", path)
    assert report.missing == tuple(lost[1:])
    assert torch.equal(network.backbone.state_dict()[counted[-1]], state[counted[-1]])


def test_another_shape_counts_as_missing(tmp_path):
    network, _ = build("seaformer_b")
    state = dict(network.backbone.state_dict())
    state["stem.conv.weight"] = torch.zeros(7, 3, 3, 3)
    path = tmp_path / "other.pth"
    torch.save(state, path)
    report = load_pretrained(network, "seaformer_b", path)
    assert report.missing == ("stem.conv.weight",)
    assert report.unused == ("stem.conv.weight",)


def test_a_plain_transformer_starts_the_adapter(tmp_path):
    """What the file cannot hold (the adapter) is not held against it, and stays as it was."""
    network, _ = build("vit_adapter_l")
    own = network.backbone.state_dict()
    adapter = ("prior", "interactions", "upsample", "norms", "level_embedding")
    state = {
        key: value + 1
        for key, value in own.items()
        if not key.startswith(adapter) and not key.endswith("_scale")
    }
    path = tmp_path / "vit.pth"
    torch.save(state, path)
    before = own["upsample.weight"].clone()
    report = load_pretrained(network, "vit_l_augreg", path)
    assert report.share == 1
    assert report.expected == len(state)
    assert torch.equal(network.backbone.upsample.weight, before)
    torch.save({key: state[key] for key in list(state)[:-5]}, path)
    with pytest.raises(UnfitWeightsError, match="at least 95%"):
        load_pretrained(network, "vit_l_augreg", path)


def test_our_own_checkpoint_loads(tmp_path):
    saved, config = build("segnext_t", SSA)
    path = tmp_path / "ours.pth"
    torch.save({"state_dict": saved.state_dict(), "message_hub": {}}, path)
    fresh, _ = build("segnext_t", SSA)
    assert load_segmentor(fresh, config, path).share == 1
    for key, value in saved.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_code_in_a_file_is_not_run(tmp_path):
    path, trace = tmp_path / "bomb.pth", tmp_path / "exploded"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "x": Bomb(trace)}, path)
    with pytest.raises(UnfitWeightsError, match="cannot be read as weights alone"):
        read_checkpoint(path)
    assert not trace.exists()


def test_what_is_not_a_checkpoint_is_refused(tmp_path):
    path = tmp_path / "text.pth"
    path.write_text("<html>quota exceeded</html>")
    with pytest.raises(UnfitWeightsError, match="cannot be read"):
        read_checkpoint(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(UnfitWeightsError, match="holds no weights"):
        read_checkpoint(path)


def test_a_missing_file_says_where_to_get_it_and_where_it_belongs(tmp_path):
    with pytest.raises(MissingWeightsError) as caught:
        require_weights("swin_t", tmp_path)
    entry = weights_entry("swin_t")
    for part in (entry.url, str(tmp_path / entry.file), "from scratch"):
        assert part in str(caught.value)


def test_verification_compares_the_published_digest(tmp_path):
    entry = weights_entry("swin_t")
    (tmp_path / entry.file).write_bytes(b"not the published bytes")
    (tmp_path / weights_entry("seaformer_l").file).write_bytes(b"anything")
    status = {one.entry.name: one for one in verify_weights(tmp_path)}
    assert status["swin_t"].check == "different"
    assert status["seaformer_l"].check == "unpublished"
    assert status["mit_b5"].check == "missing"
    files = [one for one in list_weights(tmp_path) if one.entry.package is None]
    assert [one.entry.name for one in files if one.present] == [
        "swin_t",
        "seaformer_l",
    ]
    with pytest.raises(UnfitWeightsError, match="download it again"):
        require_weights("swin_t", tmp_path)
    assert require_weights("seaformer_l", tmp_path) == tmp_path / "SeaFormer_L_cls_79.9.pth"


def test_the_manifest_serves_every_model_file():
    manifest = read_manifest()
    for path in sorted(MODELS.glob("*.yaml")):
        card = yaml.safe_load(path.read_text())
        assert card["weights"] in manifest, path.name
        if card.get("pixel_classifier", True):
            assert manifest[card["weights"]].backbone == card["segmentor"]["backbone"]["type"]
    files = {entry.file for entry in manifest.values()}
    for settings in json.loads(PROTOCOL.read_text())["models"].values():
        assert Path(settings["ADE20K"]["pretrained_file"]).name in files


def test_unknown_weights_propose_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'swin_t'"):
        require_weights("swin_tt", Path())
    assert issubclass(MissingWeightsError, SsaError)


def test_wrappers_are_stripped_and_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    from torch import nn

    class Small(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.backbone = nn.Sequential(*(nn.Linear(4, 4) for _ in range(20)))
            self.decode_head = nn.ModuleDict({"conv_seg": nn.Conv2d(4, classes, 1)})

    network, path = Small(7), tmp_path / "weights.pth"
    head = {"decode_head": {"type": "FCNHead"}}
    config = {"backbone": {"type": "ResNetV1c"}, "decode_head": head}
    torch.save(Small(5).state_dict(), path)
    with pytest.raises(UnfitWeightsError, match=r"another number of classes .*\(5, 4, 1, 1\)"):
        load_segmentor(network, config, path)
    state = Small(7).state_dict()
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        wrapped = {prefix + key: value for key, value in state.items()}
        if prefix.startswith("module."):
            wrapped["n_averaged"] = torch.tensor(3)
        torch.save(wrapped, path)
        assert load_segmentor(network, config, path).share == 1, prefix


@pytest.mark.parametrize("own", ["softmax", "ssa", "cac", "gmmseg"])
@pytest.mark.parametrize("other", ["softmax", "ssa", "cac", "gmmseg"])
def test_a_file_of_another_classifier_is_refused(tmp_path: Path, own: str, other: str) -> None:
    """Few entries belong to the classifier: of a real network 98 % fit, and it stays random."""
    small = {"gmmseg": {"overrides": {"memory_size": 32}}}
    network, config = build("segnext_t", {"name": own, **small.get(own, {})})
    made, _ = build("segnext_t", {"name": other, **small.get(other, {})})
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": made.state_dict()}, path)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    if own == other:
        assert load_segmentor(network, config, path).share == 1
        return
    with pytest.raises(UnfitWeightsError, match="made with another head or classifier"):
        load_segmentor(network, config, path)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_what_only_training_needs_may_be_missing_or_too_much(tmp_path: Path) -> None:
    """A deployed file has no teacher; the network of a row without one reads the rest."""
    without = {"teacher": False, **dict.fromkeys(_DISTILLATION, 0)}
    path = tmp_path / "checkpoint.pth"
    for own, other in (({}, without), (without, {})):
        network, config = build("segnext_t", SSA | {"overrides": own})
        made, _ = build("segnext_t", SSA | {"overrides": other})
        torch.save(made.state_dict(), path)
        load_segmentor(network, config, path)
        images = torch.randn(1, 3, 64, 64)
        torch.manual_seed(0)
        expected = made(images)
        torch.manual_seed(0)
        torch.testing.assert_close(network(images), expected, rtol=0, atol=0)


_DISTILLATION = ("response_weight", "semantic_weight", "spatial_weight")
