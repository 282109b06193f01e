"""DNC: the paper's balanced clustering and the released bank."""

import pytest
import torch
import torch.nn.functional as F

from ssa.classifiers import build_classifier
from ssa.errors import ConfigurationError

PAPER = {"centroids_per_class": 3, "memory_size": 40, "samples_per_step": 10, "momentum": 0.5}
RELEASED = {"centroids_per_class": 3, "bank_steps": 3, "bank_pixels": 60, "momentum": 0.5}


def example(preset="paper", seed=0, classes=4, **overrides):
    torch.manual_seed(seed)
    overrides = {**(PAPER if preset == "paper" else RELEASED), **overrides}
    model = build_classifier("dnc", 8, classes, preset=preset, overrides=overrides, dropout_ratio=0)
    return model, torch.randn(2, 8, 6, 5), torch.randint(0, classes, (2, 24, 20))


def test_paper_is_the_default():
    assert build_classifier("dnc", 8, 4).config.clustering == "memory"
    assert build_classifier("dnc", 8, 4).centroids.shape == (4, 10, 8)
    assert build_classifier("dnc", 8, 4, preset="released").centroids.shape == (4, 4, 8)


def test_paper_clusters_the_memory_into_balanced_groups():
    model, features, labels = example()
    for _ in range(6):
        model.loss(features, labels)
    assert model.memory.filled.tolist() == [40, 40, 40, 40]
    embeddings = model.embed(model.memory.entries[:, :, None])
    classes = torch.arange(4).repeat_interleave(40)
    unit = F.normalize(model.centroids, dim=-1)
    own = torch.einsum("nd,npd->np", embeddings, unit[classes])
    index = model.assign(own, classes)
    for k in range(4):
        assert index[classes == k].bincount(minlength=3).min() >= 8  # a third of 40 is 13


def test_paper_finds_the_clusters_inside_a_class():
    torch.manual_seed(0)
    centres = F.normalize(torch.randn(2, 3, 8), dim=-1)
    model, _, _ = example(classes=2, samples_per_step=40, memory_size=120)
    for _ in range(40):
        rows = centres[:, torch.randint(0, 3, (30,))] * 5 + 0.2 * torch.randn(2, 30, 8)
        features = rows.permute(0, 2, 1).reshape(2, 8, 6, 5)
        labels = torch.tensor([0, 1])[:, None, None].expand(2, 6, 5)
        model.loss(features, labels)
    target = F.normalize(F.layer_norm(centres * 5, (8,)), dim=-1)
    cosines = torch.einsum("kcd,kpd->kcp", target, F.normalize(model.centroids, dim=-1))
    assert cosines.max(2).values.min() > 0.9


def test_paper_learns_from_cross_entropy_alone():
    model, features, labels = example()
    features.requires_grad_()
    terms = model.loss(features, labels)
    assert list(terms) == ["ce"]
    terms["ce"].backward()
    assert features.grad.abs().sum() > 0
    assert not any("centroid" in name for name, _ in model.named_parameters())


def test_absent_classes_keep_their_centroids_and_remembered_ones_move_on():
    model, features, labels = example()
    labels[labels == 1] = 255
    before = F.normalize(model.centroids.clone(), dim=-1)
    model.loss(features, labels)
    torch.testing.assert_close(model.centroids[1], before[1])
    middle = model.centroids.clone()
    model.loss(features, torch.full_like(labels, 255))  # the memory still holds three classes
    torch.testing.assert_close(model.centroids[1], before[1])
    assert not torch.allclose(model.centroids[0], middle[0])


def test_released_moves_once_per_full_bank_and_gives_the_network_no_gradient_then():
    model, features, labels = example("released")
    moved, gradients = [], []
    for number in range(6):
        if number == 2:  # resume with a bank that is partly full
            state = model.state_dict()
            model, _, _ = example("released", seed=5)
            model.load_state_dict(state)
        x = (features + 0.01 * number).requires_grad_()
        before = F.normalize(model.centroids.clone(), dim=-1)
        model.loss(x, labels)["ce"].backward()
        moved.append(not torch.allclose(before, model.centroids))
        gradients.append(x.grad.abs().sum().item() > 0)
    assert moved == [False, False, True, False, False, True]
    assert gradients == [True, True, False, True, True, False]


def test_released_bank_holds_this_rounds_pixels():
    model, features, labels = example("released")
    for number in range(3):
        model.loss(features + number, labels)
    rows = (features + 2).permute(0, 2, 3, 1).reshape(-1, 8)
    assert torch.equal(model.bank.features[2], rows)
    assert torch.equal(model.bank.classes[0], labels[:, ::4, ::4].flatten())


def test_released_contrast_appears_on_bank_steps_only_and_only_if_on():
    model, features, labels = example("released", contrast_weight=0.005)
    keys = [sorted(model.loss(features, labels)) for _ in range(3)]
    assert keys == [["ce"], ["ce"], ["ce", "contrast"]]
    model, _, _ = example("released")
    assert [sorted(model.loss(features, labels)) for _ in range(3)] == [["ce"]] * 3


def test_deployed_copy_has_no_memory():
    for preset in ("paper", "released"):
        model, features, labels = example(preset)
        model.loss(features, labels)
        deployed = model.deploy()
        assert deployed.memory is None
        assert deployed.bank is None
        torch.testing.assert_close(deployed(features), model.eval()(features))


def test_impossible_memory_is_refused_with_a_sentence():
    with pytest.raises(ConfigurationError, match="must not exceed memory_size"):
        build_classifier("dnc", 8, 4, overrides={"memory_size": 4})
