"""A frozen backbone's features: the same bits computed, kept or looked up, and never outdated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssa.backbones.efficientnet_lite import EfficientNetLite
from ssa.backbones.feature_store import FeatureStore, key_of
from ssa.backbones.frozen import FOLDER, FrozenEfficientNetLite

STAGES = [[3, 1, 8, 1, 1], [3, 2, 12, 2, 2], [5, 2, 16, 2, 1], [3, 2, 24, 2, 1]]
IMAGES = torch.randn(3, 3, 40, 56, generator=torch.Generator().manual_seed(1))


def network(seed: int = 0) -> FrozenEfficientNetLite:
    torch.manual_seed(seed)
    built = FrozenEfficientNetLite(STAGES, [1, 3])
    with torch.no_grad():
        for norm in (each for each in built.modules() if isinstance(each, torch.nn.BatchNorm2d)):
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 2.0)
    return built


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path / "features"))
    return tmp_path / "features"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("features-*/*.maps"))


def equal(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    assert [each.stride() for each in ours] == [each.stride() for each in theirs]
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def counted(network: FrozenEfficientNetLite) -> list[int]:
    """Grows by one for every image that is computed."""
    seen: list[int] = []
    network.stem.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_it_computes_what_the_backbone_computes_in_evaluation() -> None:
    frozen = network()
    plain = EfficientNetLite(STAGES, [1, 3]).eval()
    plain.load_state_dict(frozen.state_dict())
    with torch.no_grad():
        theirs = [plain(image) for image in IMAGES.split(1)]
    assert equal(frozen(IMAGES), tuple(torch.cat(maps) for maps in zip(*theirs)))


def test_it_never_learns() -> None:
    frozen = network()
    before = {name: each.clone() for name, each in frozen.state_dict().items()}
    maps = frozen.train()(IMAGES)
    assert not any(each.training for each in frozen.modules())
    assert not any(each.requires_grad for each in (*maps, *frozen.parameters()))
    assert all(torch.equal(each, before[name]) for name, each in frozen.state_dict().items())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_looked_up_features_are_the_computed_ones_to_the_last_bit(
    folder: Path, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = network().to(memory_format=layout)
    monkeypatch.delenv(FOLDER)
    computed = frozen(IMAGES)
    monkeypatch.setenv(FOLDER, str(folder))
    kept = frozen(IMAGES)
    assert len(files(folder)) == len(IMAGES)
    seen = counted(frozen)
    looked_up = frozen(IMAGES)
    assert not seen
    assert equal(kept, computed)
    assert equal(looked_up, computed)
    other = network().to(memory_format=layout)  # as another run has it
    assert equal(other(IMAGES), computed)


def test_an_images_features_do_not_hang_on_its_batch(folder: Path) -> None:
    whole = network()(IMAGES)
    for path in files(folder):
        path.unlink()
    alone = [network()(image) for image in IMAGES.split(1)]
    for number, maps in enumerate(whole):
        assert torch.equal(maps, torch.cat([each[number] for each in alone]))


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "swapped", "no header"])
def test_a_damaged_file_is_computed_anew_and_written_over(folder: Path, damage: str) -> None:
    frozen = network()
    right = frozen(IMAGES)
    first, second, _ = files(folder)
    content = first.read_bytes()
    match damage:
        case "cut":
            first.write_bytes(content[:-4])
        case "changed":
            first.write_bytes(content[:-4] + bytes(4))
        case "empty":
            first.write_bytes(b"")
        case "swapped":
            first.write_bytes(second.read_bytes())
        case "no header":
            first.write_bytes(b"[1]\n" + content.partition(b"\n")[2])
    seen = counted(frozen)
    assert equal(frozen(IMAGES), right)
    assert len(seen) == 1
    assert first.read_bytes() == content


def test_other_weights_have_other_features(folder: Path) -> None:
    frozen = network()
    before = frozen(IMAGES)
    with torch.no_grad():
        frozen.blocks[0].project.bn.running_mean += 1e-3
    after = frozen(IMAGES)
    assert not torch.equal(before[0], after[0])
    assert len({path.parent for path in files(folder)}) == 2
    frozen.load_state_dict(network().state_dict())
    assert equal(frozen(IMAGES), before)
    assert len(files(folder)) == 2 * len(IMAGES)


def test_another_code_or_library_has_a_folder_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network()(IMAGES)
    monkeypatch.setattr(torch, "__version__", "0.0")
    network()(IMAGES)
    monkeypatch.setattr("ssa.backbones.frozen._source_digest", lambda module: "edited")
    network()(IMAGES)
    # what nobody lists: the probe sees that this process computes otherwise
    monkeypatch.setattr(torch.nn.ReLU6, "forward", lambda self, x: x.clamp(0, 0.5))
    network()(IMAGES)
    assert len({path.parent for path in files(folder)}) == 4


def test_a_full_store_keeps_no_more(tmp_path: Path) -> None:
    maps, key = [torch.randn(1, 4, 5, 6)], key_of(IMAGES[:1])
    size = maps[0].numel() * 4
    store = FeatureStore(tmp_path, "a" * 64, limit=size)
    store.put(key, maps)
    store.put(key_of(IMAGES[1:2]), maps)
    assert len(files(tmp_path)) == 1
    found = store.get(key)
    assert found is not None
    assert torch.equal(found[0], maps[0])
    assert FeatureStore(tmp_path, "b" * 64, limit=size).get(key) is None
    FeatureStore(tmp_path, "b" * 64, limit=size).put(key, maps)
    assert len(files(tmp_path)) == 1, "the files of all identities count"


def test_a_place_that_takes_nothing_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = network()(IMAGES)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file"))
    assert equal(network()(IMAGES), right)
