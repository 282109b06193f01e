"""ProtoSeg: assignment, contrast, movement of the prototypes."""

import pytest
import torch
import torch.nn.functional as F

from ssa.classifiers import build_classifier
from ssa.classifiers.parts.clustering import class_sinkhorn, own_class_scores
from ssa.errors import ConfigurationError


def example(preset="released", seed=0, classes=4, **overrides):
    torch.manual_seed(seed)
    overrides = {"prototypes_per_class": 3, "projection": "none", "momentum": 0.9, **overrides}
    model = build_classifier(
        "protoseg", 8, classes, preset=preset, overrides=overrides, dropout_ratio=0
    )
    return model, torch.randn(2, 8, 6, 5), torch.randint(0, classes, (2, 24, 20))


def test_decision_is_the_nearest_prototype_after_a_layer_norm():
    model, features, _ = example()
    rows = features.permute(0, 2, 3, 1).reshape(-1, 8)
    unit = F.normalize(model.prototypes, dim=-1)
    cosines = F.normalize(F.layer_norm(rows, (8,)), dim=1) @ unit.flatten(0, 1).T
    nearest = cosines.unflatten(1, (4, 3)).amax(2)
    expected = F.layer_norm(nearest, (4,)).view(2, 6, 5, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(model(features), expected, rtol=1e-4, atol=1e-4)


def test_losses_are_the_formulas():
    model, features, labels = example(contrast_weight=1.0, distance_weight=1.0)
    model.eval()
    embeddings = model.embed(features)
    cosines = model.similarities(embeddings)
    classes = labels[:, ::4, ::4].flatten()
    own = own_class_scores(cosines, classes)
    index = class_sinkhorn(own, classes, 4).argmax(1)
    terms = model.loss(features, labels)
    ppc = F.cross_entropy(cosines.flatten(1), classes * 3 + index)
    ppd = (1 - own.gather(1, index[:, None])).square().mean()
    torch.testing.assert_close(terms["ppc"], ppc)
    torch.testing.assert_close(terms["ppd"], ppd)
    up = F.interpolate(model(features), (24, 20), mode="bilinear", align_corners=True)
    torch.testing.assert_close(terms["ce"], F.cross_entropy(up, labels))


def test_temperature_sharpens_the_contrast_of_the_paper():
    released, features, labels = example(contrast_weight=1.0)
    paper, _, _ = example("paper", contrast_weight=1.0)
    paper.load_state_dict(released.state_dict())
    cosines = released.similarities(released.embed(features)).flatten(1)
    classes = labels[:, ::4, ::4].flatten()
    own = own_class_scores(cosines.unflatten(1, (4, 3)), classes)
    target = classes * 3 + class_sinkhorn(own, classes, 4).argmax(1)
    expected = F.cross_entropy(cosines / 0.1, target)
    torch.testing.assert_close(paper.eval().loss(features, labels)["ppc"], expected)


def test_prototypes_move_towards_the_pixels_that_the_plan_gives_them():
    model, features, labels = example("paper", only_correct=False)
    before = F.normalize(model.prototypes.clone(), dim=-1)
    embeddings = model.embed(features)
    classes = labels[:, ::4, ::4].flatten()
    own = own_class_scores(model.similarities(embeddings), classes)
    index = class_sinkhorn(own, classes, 4).argmax(1)
    model.loss(features, labels)
    for k in range(4):
        for p in range(3):
            mine = embeddings[(classes == k) & (index == p)].sum(0)
            expected = F.normalize(0.9 * before[k, p] + 0.1 * F.normalize(mine, dim=0), dim=0)
            torch.testing.assert_close(model.prototypes[k, p], expected)


def test_released_noise_decides_and_comes_from_the_global_generator():
    states = []
    for seed in (1, 1, 2):
        model, features, labels = example()
        torch.manual_seed(seed)
        model.loss(features, labels)
        states.append(model.prototypes.clone())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_paper_draws_nothing():
    model, features, labels = example("paper")
    before = torch.random.get_rng_state()
    model.loss(features, labels)
    assert torch.equal(before, torch.random.get_rng_state())


def test_absent_classes_keep_their_prototypes():
    model, features, labels = example(only_correct=False)
    labels[labels == 2] = 255
    before = F.normalize(model.prototypes.clone(), dim=-1)
    model.loss(features, labels)
    torch.testing.assert_close(model.prototypes[2], before[2])
    assert not torch.allclose(model.prototypes[1], before[1])


def test_evaluation_and_inspection_change_nothing():
    model, features, labels = example()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.inspect(features)
    model.eval()
    model(features)
    model.loss(features, labels)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_released_projection_normalises_along_the_width_the_paper_along_channels():
    for preset, axis in (("released", 3), ("paper", 1)):
        model = build_classifier("protoseg", 8, 4, preset=preset, dropout_ratio=0)
        projected = model.proj_head(torch.randn(2, 8, 6, 5))
        norms = projected.norm(dim=axis)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_class_weights_weigh_the_cross_entropy():
    weights = (1.0, 0.0, 2.0, 0.5)
    model, features, labels = example(class_weights=weights)
    labels[0, :8] = 255
    model.eval()
    up = F.interpolate(model(features), (24, 20), mode="bilinear", align_corners=True)
    expected = F.cross_entropy(up, labels, torch.tensor(weights), ignore_index=255)
    torch.testing.assert_close(model.loss(features, labels)["ce"], expected)
    with pytest.raises(ConfigurationError, match="class_weights"):
        example(class_weights=(1.0,))
