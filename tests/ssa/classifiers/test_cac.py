"""CAC: what is adapted, what the teacher sees, how the losses average."""

import pytest
import torch
import torch.nn.functional as F

from ssa.classifiers import build_classifier
from ssa.classifiers.cac import CacConfig
from ssa.classifiers.parts.prototypes import class_softmax_centre
from ssa.classifiers.ssa_config import SSAConfig


def example(seed=0, classes=4):
    torch.manual_seed(seed)
    model = build_classifier("cac", 8, classes, dropout_ratio=0)
    torch.nn.init.normal_(model.conv_seg.weight)
    features = torch.randn(2, 8, 6, 5)
    labels = torch.randint(0, classes, (2, 24, 20))
    return model, features, labels


def test_context_prototypes_are_weighted_means_of_each_image():
    model, features, _ = example()
    coarse = model.conv_seg(features)
    share = coarse.softmax(1)
    context = class_softmax_centre(coarse.flatten(2), features.flatten(2))
    for b in range(2):
        for k in range(4):
            mean = (features[b] * share[b, k]).sum((1, 2)) / share[b, k].sum()
            torch.testing.assert_close(context[b, k], mean)


def test_permuting_the_images_permutes_the_decision():
    model, features, _ = example()
    torch.testing.assert_close(model(features.flip(0)), model(features).flip(0))


def test_decision_is_a_scaled_cosine():
    model, features, _ = example()
    logits = model(features)
    assert logits.abs().max() <= 15
    torch.testing.assert_close(logits, model(7 * features), rtol=1, atol=30)  # adapts, so not equal
    adapted = model.adapted_prototypes(features, model.conv_seg(features))
    expected = 15 * F.cosine_similarity(features[:, None], adapted[..., None, None], dim=2)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_it_shares_its_switches_and_their_defaults_with_ssa():
    for name, field in CacConfig.model_fields.items():
        assert SSAConfig.model_fields[name].default == field.default, name


def test_teacher_pools_a_class_over_the_batch_and_falls_back_to_its_weights():
    model, features, labels = example()
    labels[labels == 3] = 0
    rows = features.permute(0, 2, 3, 1).reshape(-1, 8)
    classes = labels[:, ::4, ::4].flatten()
    fixed = model.fixed_prototypes
    means = torch.stack([rows[classes == k].mean(0) for k in range(3)] + [fixed[3]])
    expected = model.teacher.semantic_adapter(means, fixed)
    taught = model.teacher_prototypes(model.guide(labels, features), features)
    torch.testing.assert_close(taught[0], expected)


def test_distillation_is_class_balanced_and_counts_no_ignored_pixel():
    model, features, labels = example()
    labels[0, :8] = 255
    classes = labels[:, ::4, ::4].flatten()
    guide = model.guide(labels, features)
    taught = model.cosine_logits(features, model.teacher_prototypes(guide, features))
    probability = taught.softmax(1).permute(0, 2, 3, 1).reshape(-1, 4)
    log = model(features).log_softmax(1).permute(0, 2, 3, 1).reshape(-1, 4)
    target = 0.5 * probability + 0.5 * F.one_hot(classes.clamp(max=3), 4)
    pixel = -(target * log).sum(1)
    weight = -(probability * probability.log()).sum(1)
    per_class = [
        (pixel * weight)[classes == k].sum() / weight[classes == k].sum() for k in range(4)
    ]
    loss = model.loss(features, labels)["response"]
    torch.testing.assert_close(loss, torch.stack(per_class).mean())


def test_distillation_teaches_only_the_student():
    model, features, labels = example()
    model.loss(features, labels)["response"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.semantic_adapter.parameters())


def test_a_weight_of_0_switches_its_term_off():
    model = build_classifier("cac", 8, 4, overrides={"response_weight": 0.0}, dropout_ratio=0)
    _, features, labels = example()
    assert set(model.loss(features, labels)) == {"ce", "coarse_ce", "teacher_ce"}


def test_main_loss_counts_ignored_pixels_in_its_divisor_only():
    model, features, labels = example()
    half = labels.clone()
    half[1] = 255
    one = model.loss(features, half)
    alone = F.cross_entropy(
        F.interpolate(model(features)[:1], (24, 20), mode="bilinear"), labels[:1]
    )
    torch.testing.assert_close(one["ce"], alone / 2)


def test_a_switch_of_weight_scales_its_own_term_only():
    model, features, labels = example()
    other = build_classifier("cac", 8, 4, overrides={"teacher_ce_weight": 3.0}, dropout_ratio=0)
    other.load_state_dict(model.state_dict())
    terms, scaled = model.loss(features, labels), other.loss(features, labels)
    for name in terms:
        factor = 3.0 if name == "teacher_ce" else 1.0
        assert scaled[name].item() == pytest.approx(factor * terms[name].item(), rel=1e-6)
