"""A damaged file of any kind, and a package that is not there, end in one sentence."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import pytest
import tomllib
import torch
from torch import nn

from ssa.errors import ConfigurationError, Remedy
from ssa.models import build_segmentor, load_model_card
from ssa.released.manifest import (
    MissingWeightsError,
    UnfitWeightsError,
    require_weights,
    verify_weights,
    weights_entry,
)
from ssa.released.weights import load_pretrained, read_checkpoint

ROOT = Path(__file__).resolve().parents[3]
NAME = "efficientnet_lite0"
STATE = {f"layer{i}.weight": torch.ones(3, 4) for i in range(3)}


def saved(content: object, **form: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **form)
    return buffer.getvalue()


WHOLE = {"archive": saved(STATE), "former": saved(STATE, _use_new_zipfile_serialization=False)}


def damaged(whole: bytes, seed: int) -> bytes:
    """Cut, flipped, spliced or repeated somewhere."""
    chance, content = Random(seed), bytearray(whole)
    place = chance.randrange(len(content))
    kind = chance.choice(("cut", "flipped", "spliced", "repeated"))
    if kind == "cut":
        return bytes(content[:place])
    if kind == "flipped":
        content[place] ^= 1 << chance.randrange(8)
    elif kind == "spliced":
        content[place : place + chance.randrange(1, 40)] = chance.randbytes(chance.randrange(40))
    else:
        content[place:place] = content[place : place + 100] * 3
    return bytes(content)


@pytest.mark.parametrize("form", WHOLE)
def test_a_damaged_checkpoint_is_weights_or_one_sentence(tmp_path: Path, form: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(WHOLE[form])
    assert set(read_checkpoint(path)) == set(STATE)
    refused = 0
    for seed in range(150):
        path.write_bytes(damaged(WHOLE[form], seed))
        try:
            state = read_checkpoint(path)
        except UnfitWeightsError:
            refused += 1
        else:
            if form == "archive":  # it has checksums: what is read is what was written
                assert all(torch.equal(state[key], STATE[key]) for key in state)
    assert refused > 50


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 an archive that ends here",
        saved(STATE)[:-200],
        saved([1, 2, 3]),
        saved("weights"),
        saved({"state_dict": 7}),
        saved({"state_dict": {"a": [1.0]}}),
        saved({"a": torch.ones(2, 2).to_sparse()}),
        saved({"a": torch.ones(2, dtype=torch.complex64)}),
        saved({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}),
        saved({"a": torch.empty(2, device="meta")}),
    ],
    ids=[
        *("empty", "magic", "cut", "list", "text", "number", "no-tensor"),
        *("sparse", "complex", "quantised", "meta"),
    ],
)
def test_what_holds_no_plain_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UnfitWeightsError, match=r"weights\.pth"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda value: value.int(), "another kind of numbers"),
        (lambda value: value * float("nan"), "no finite numbers"),
        (lambda value: value / 0, "no finite numbers"),
    ],
)
def test_numbers_that_would_spoil_a_network_are_refused(tmp_path: Path, spoil, said) -> None:  # type: ignore[no-untyped-def]
    card = load_model_card(ROOT / "experiments" / "models" / "seaformer_b.yaml")
    network = build_segmentor(card, classifier={"name": "softmax"}, num_classes=3, size="tiny")
    state = dict(network.backbone.state_dict())
    state["stem.conv.weight"] = spoil(state["stem.conv.weight"] + 1)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    before = network.backbone.stem.conv.weight.clone()
    with pytest.raises(UnfitWeightsError, match=said):
        load_pretrained(network, "seaformer_b", path)
    assert torch.equal(network.backbone.stem.conv.weight, before)
    torch.save({key: value.half() for key, value in network.backbone.state_dict().items()}, path)
    assert load_pretrained(network, "seaformer_b", path).share == 1, "half precision is weights"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [a", "cannot be read"),
        ("segmentor: 3", "no 'segmentor' section"),
        ("segmentor: {type: os.system}", "names Python code"),
        ("segmentor: {backbone: {init_cfg: {checkpoint: /etc/passwd}}}", "would load a file"),
        ("segmentor: &a {b: *a}", "levels"),
    ],
)
def test_a_model_file_is_data(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        load_model_card(path)


# --- a package ------------------------------------------------------------------------------------


def as_released(backbone: nn.Module) -> dict[str, torch.Tensor]:
    """The entries of our backbone under the names of the released file."""
    names = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    state = {}
    for key, value in backbone.state_dict().items():
        if key.startswith("stem."):
            ours = key.replace("stem.conv", "_conv_stem").replace("stem.bn", "_bn0")
        else:
            blocks, index, part, kind, last = key.split(".")
            layer = names[part] if kind == "bn" else f"_{part}_conv"
            ours = f"_{blocks}.{index}.{layer}.{last}"
        state[ours] = value + 1
    return state


def test_a_strict_file_loads_whole_or_not_at_all(tmp_path: Path) -> None:
    card = load_model_card(ROOT / "experiments" / "models" / f"{NAME}.yaml")
    network = build_segmentor(card, classifier={"name": "softmax"}, num_classes=3)
    path = tmp_path / "weights.pth"
    state = as_released(network.backbone)
    spare = {
        "_blocks.15._bn2.weight": torch.ones(320),
        "_conv_head.weight": torch.ones(1280, 320, 1, 1),
        "_bn1.weight": torch.ones(1280),
        "_fc.bias": torch.ones(1000),
    }
    torch.save(state | spare, path)
    report = load_pretrained(network, NAME, path)
    assert report.share == 1
    assert set(report.unused) == set(spare)
    expected_key = "_blocks.1._bn0.weight"
    assert torch.equal(network.backbone.blocks[1].expand.bn.weight, state[expected_key])
    torch.save(state | {"_blocks.3._se_reduce.weight": torch.ones(2)}, path)
    with pytest.raises(UnfitWeightsError, match="_se_reduce"):
        load_pretrained(network, NAME, path)
    del state[expected_key]
    torch.save(state | spare, path)
    with pytest.raises(UnfitWeightsError, match="100% are needed"):
        load_pretrained(network, NAME, path)


def test_the_package_is_pinned_where_it_is_installed_from() -> None:
    package = weights_entry(NAME).package
    assert package is not None
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras["optional-dependencies"][package.extra] == [f"{package.name}=={package.version}"]


def test_a_missing_package_says_what_to_install() -> None:
    entry = weights_entry(NAME)
    assert entry.package is not None
    absent = entry.package.model_copy(update={"name": "no-such-package"})
    other = entry.model_copy(update={"package": absent, "file": "nowhere/weights.pth"})
    with pytest.raises(MissingWeightsError, match=r"no-such-package==0\.1\.0") as caught:
        require_weights(other, Path("data"))
    assert caught.value.remedy == Remedy("install_weights", "pretrained")
    assert not other.path(Path("data")).exists()
    assert other.path(Path("data")).name == "weights.pth"


def test_a_package_is_verified_as_a_file_is(tmp_path: Path) -> None:
    status = next(one for one in verify_weights(tmp_path) if one.entry.name == NAME)
    assert status.check in ("ok", "missing")
    if status.check == "missing":
        pytest.skip("the package is missing: .venv/bin/pip install -e '.[pretrained]'")
    assert require_weights(NAME, tmp_path) == status.path
