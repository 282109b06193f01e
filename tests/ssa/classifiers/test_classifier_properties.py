"""What must hold for softmax and SSA whatever the batch: symmetries, voids, sizes, precisions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssa.classifiers import PixelClassifier, SSAClassifier, build_classifier
from ssa.classifiers.ssa import resize_labels

IGNORE = 255
TABLE_7 = ("conditional", "sinusoidal", "learnable")
VARIANTS: dict[str, dict[str, Any]] = {
    "softmax": {"name": "softmax"},
    "softmax with everything": {
        "name": "softmax",
        "overrides": {"dice_weight": 1, "coarse_ce_weight": 1, "cosine_scale": 15},
    },
    **{f"ssa {preset}": {"name": "ssa", "preset": preset} for preset in ("full", "paper")},
    "ssa self-distilled": {"name": "ssa", "overrides": {"teacher_guide": "prediction"}},
    **{
        f"ssa {kind}": {"name": "ssa", "overrides": {"position_encoding": kind}}
        for kind in TABLE_7[1:]
    },
    "ssa basis only": {
        "name": "ssa",
        "overrides": {"spatial_basis_only": True, "spatial_weight": 0},
    },
}
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def build(variant: dict[str, Any], channels: int = 16, classes: int = 6, **rest: Any) -> Any:
    torch.manual_seed(0)
    return build_classifier(
        channels=channels, num_classes=classes, **{"dropout_ratio": 0, **variant, **rest}
    )


def make_batch(
    images: int = 3, channels: int = 16, classes: int = 6, size: tuple[int, int] = (14, 15)
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(images, channels, *size, generator=generator)
    labels = torch.randint(0, classes, (images, 1, 7, 5), generator=generator)
    labels = labels.repeat_interleave(8, 2).repeat_interleave(12, 3)
    labels[:, :, :6] = IGNORE
    return features, labels


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


@each_variant
def test_permuting_images_permutes_outputs_and_leaves_the_losses(variant: dict[str, Any]) -> None:
    classifier: PixelClassifier = build(variant)
    features, labels = make_batch()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(classifier(features[order]), classifier(features)[order])
    before, after = (
        classifier.loss(features, labels),
        classifier.loss(features[order], labels[order]),
    )
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=1e-5, atol=1e-6)


@each_variant
def test_an_image_is_decided_without_the_others(variant: dict[str, Any]) -> None:
    classifier = build(variant)
    features, _ = make_batch()
    torch.testing.assert_close(classifier(features)[1:2], classifier(features[1:2]))


@each_variant
def test_inspection_shows_what_forward_decides(variant: dict[str, Any]) -> None:
    classifier = build(variant)
    features, _ = make_batch()
    seen = classifier.inspect(features)
    torch.testing.assert_close(seen.logits, classifier(features))
    assert seen.embedded_features.shape == features.shape
    assert seen.fixed_prototypes.shape == (6, 16)
    if seen.adapted_prototypes is not None and variant["name"] == "ssa":
        assert seen.adapted_prototypes.shape == (3, 6, 16)
        cosine = 15 * torch.einsum(
            "bkd,bdhw->bkhw",
            F.normalize(seen.adapted_prototypes, dim=-1),
            F.normalize(seen.embedded_features, dim=1),
        )
        torch.testing.assert_close(cosine, seen.logits, rtol=1e-4, atol=1e-4)
        assert seen.coarse_logits is not None
        assert seen.coarse_logits.shape == seen.logits.shape


def test_what_stands_under_void_trains_no_other_pixel() -> None:
    """Void pixels' logits get no gradient from cross-entropy and L_rd (dice takes them as
    negatives, and adaptation reads features wherever they are)."""
    classifier: SSAClassifier = build({"name": "ssa"})
    features, labels = make_batch(size=(14, 15))
    small = resize_labels(labels[:, 0], (14, 15))
    decision = classifier._decide(features)
    logits = decision.logits.detach().requires_grad_()
    from ssa.classifiers.parts.teacher import guide_from
    from ssa.losses.distillation import response_loss

    one_hot = guide_from(torch.where(small == IGNORE, -1, small).flatten(1), 6, torch.float32)
    boundary = torch.rand(3, 14 * 15) < 0.3
    loss = response_loss(logits, decision.logits, one_hot.one_hot, boundary)
    (gradient,) = torch.autograd.grad(loss, logits)
    void = (small == IGNORE).flatten(1)
    assert void.any()
    assert not gradient.transpose(1, 2)[void].any()
    assert gradient.transpose(1, 2)[~void].any()


@pytest.mark.parametrize("key", ["ce", "coarse_ce", "teacher_ce", "response"])
def test_an_image_of_void_is_as_good_as_absent(key: str) -> None:
    """Turning a whole image to void equals leaving it out, for every term that sums pixels."""
    weights = {f"{name}_weight": 0 for name in ("dice", "teacher_dice")}
    classifier: SSAClassifier = build({"name": "ssa", "overrides": weights})
    features, labels = make_batch()
    labels[2] = IGNORE
    features = features.requires_grad_()
    whole = classifier.loss(features, labels)[key]
    (gradient,) = torch.autograd.grad(whole, features)
    without = classifier.loss(features[:2], labels[:2])[key] * (2 / 3 if key == "ce" else 1)
    torch.testing.assert_close(whole, without, rtol=1e-5, atol=1e-6)
    assert not gradient[2].any()
    assert gradient[:2].any()


@each_variant
def test_a_batch_of_void_has_finite_losses_and_gradients(variant: dict[str, Any]) -> None:
    classifier = build(variant)
    features, labels = make_batch()
    terms = classifier.loss(features.requires_grad_(), torch.full_like(labels, IGNORE))
    total(terms).backward()
    assert all(term.isfinite() for term in terms.values()), terms
    gradients = [p.grad for p in classifier.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in [features.grad, *gradients])
    for key in ("ce", "coarse_ce", "teacher_ce", "dice", "teacher_dice", "response"):
        assert terms.get(key, torch.zeros(())) == 0


def test_an_absent_class_falls_back_to_its_fixed_prototype_detached() -> None:
    classifier: SSAClassifier = build({"name": "ssa"})
    features, labels = make_batch()
    labels = torch.where(labels == 4, 1, labels)
    taught = classifier.inspect_teacher(features, labels)
    assert classifier.teacher is not None
    assert classifier.teacher.semantic_adapter is not None
    assert classifier.teacher.spatial_adapter is not None
    assert classifier.position_basis is not None
    fixed, basis = classifier.fixed_prototypes, classifier.position_basis
    torch.testing.assert_close(
        taught.semantic_prototypes[0, 4], classifier.teacher.semantic_adapter(fixed, fixed)[4]
    )
    assert taught.spatial_prototypes is not None
    for image in taught.spatial_prototypes:
        torch.testing.assert_close(image[4], classifier.teacher.spatial_adapter(basis, basis)[4])
    present = classifier.teacher.semantic_adapter(fixed, fixed)[1]
    assert not torch.allclose(taught.semantic_prototypes[0, 1], present)

    # Detached: of the absent class's row of W only φ's second input carries a gradient.
    from ssa.classifiers.parts.teacher import guide_from

    small = resize_labels(labels[:, 0], features.shape[2:]).flatten(1)
    guide = guide_from(torch.where(small == IGNORE, -1, small), 6, torch.float32)
    attached = fixed.detach().clone().requires_grad_()
    adapter = classifier.teacher.semantic_adapter
    output = classifier.teacher.semantic_prototypes(guide, features.flatten(2), attached)[0, 4]
    (gradient,) = torch.autograd.grad(output.sum(), attached)
    second = fixed.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(adapter(fixed.detach(), second)[4].sum(), second)
    torch.testing.assert_close(gradient, expected)


def test_the_teachers_semantic_centre_is_the_batchs_its_spatial_centre_the_images() -> None:
    classifier: SSAClassifier = build({"name": "ssa"})
    features, labels = make_batch()
    both = classifier.inspect_teacher(features, labels)
    alone = classifier.inspect_teacher(features[:1], labels[:1])
    assert both.semantic_prototypes.shape[0] == 1
    assert not torch.allclose(both.semantic_prototypes, alone.semantic_prototypes)
    assert both.spatial_prototypes is not None
    assert alone.spatial_prototypes is not None
    torch.testing.assert_close(both.spatial_prototypes[:1], alone.spatial_prototypes)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 33), st.integers(1, 33)),
    label=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    images=st.integers(1, 3),
    channels=st.integers(2, 9),
    classes=st.integers(2, 9),
    variant=st.sampled_from(sorted(VARIANTS)),
)
def test_any_size(
    size: tuple[int, int],
    label: tuple[int, int],
    images: int,
    channels: int,
    classes: int,
    variant: str,
) -> None:
    classifier = build(VARIANTS[variant], channels, classes)
    features = torch.randn(images, channels, *size, requires_grad=True)
    labels = torch.randint(0, classes, (images, *label))
    assert classifier(features).shape == (images, classes, *size)
    total(classifier.loss(features, labels)).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("classes", [2, 171])
@each_variant
def test_few_and_many_classes(variant: dict[str, Any], classes: int) -> None:
    classifier = build(variant, 16, classes)
    features = torch.randn(2, 16, 9, 9)
    terms = classifier.loss(features, torch.randint(0, classes, (2, 36, 36)))
    assert all(term.isfinite() for term in terms.values())
    assert classifier(features).shape == (2, classes, 9, 9)


@each_variant
def test_labels_of_any_form_give_the_same(variant: dict[str, Any]) -> None:
    classifier = build(variant)
    features, labels = make_batch()
    expected = classifier.loss(features, labels)
    for form in (labels[:, 0], labels.to(torch.uint8), labels.to(torch.int32)):
        for key, value in classifier.loss(features, form).items():
            assert torch.equal(value, expected[key])


@each_variant
def test_the_same_step_twice_is_bitwise_equal(variant: dict[str, Any]) -> None:
    features, labels = make_batch()
    results = []
    for _ in range(2):
        classifier = build(variant, dropout_ratio=0.1)
        torch.manual_seed(3)
        x = features.clone().requires_grad_()
        total(classifier.loss(x, labels)).backward()
        results.append([x.grad, *(p.grad for p in classifier.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results) if a is not None)


@each_variant
def test_bf16_autocast(variant: dict[str, Any]) -> None:
    classifier = build(variant)
    features, labels = make_batch()
    exact = classifier.loss(features, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = classifier.loss(features.requires_grad_(), labels)
        logits = classifier(features)
    total(terms).backward()
    torch.testing.assert_close(logits.float(), classifier(features), rtol=0.05, atol=0.5)
    for key, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[key], rtol=0.05, atol=0.05)
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_bf16_features_without_autocast_enter_a_bf16_classifier() -> None:
    classifier = build({"name": "ssa"}).to(torch.bfloat16)
    features, labels = make_batch()
    terms = classifier.loss(features.to(torch.bfloat16), labels)
    assert all(term.isfinite() for term in terms.values())
    assert classifier.deploy()(features.to(torch.bfloat16)).isfinite().all()


@pytest.mark.parametrize("variant", ["softmax with everything", "ssa full"])
def test_float64_is_float64_throughout(variant: str) -> None:
    """Every term, by finite differences along the features; centres and graph included."""
    classifier = build(VARIANTS[variant], 5, 3).double()
    torch.nn.init.normal_(classifier.conv_seg.weight)
    features = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 8, 8))
    direction = torch.randn_like(features)

    def loss(shift: Tensor) -> dict[str, Tensor]:
        return classifier.loss(features + shift * direction, labels)

    at = torch.zeros((), dtype=torch.float64, requires_grad=True)
    step = torch.tensor(1e-6, dtype=torch.float64)
    for key, value in loss(at).items():
        if key in ("semantic", "spatial", "response"):  # these detach a path on purpose
            assert value.dtype == torch.float64
            continue
        (slope,) = torch.autograd.grad(value, at, retain_graph=True)
        difference = (loss(step)[key] - loss(-step)[key]) / (2 * step)
        torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("variant", ["softmax", "ssa full"])
def test_under_torch_compile_the_step_is_equal(variant: str) -> None:
    classifier = build(VARIANTS[variant])
    features, labels = make_batch()
    torch._dynamo.reset()
    compiled = torch.compile(classifier.loss, backend="aot_eager", fullgraph=True)
    x, y = features.clone().requires_grad_(), features.clone().requires_grad_()
    mine, theirs = compiled(x, labels), classifier.loss(y, labels)
    for key in theirs:
        torch.testing.assert_close(mine[key], theirs[key])
    total(mine).backward()
    total(theirs).backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-7)


@each_variant
def test_dropout_is_the_heads_own(variant: dict[str, Any]) -> None:
    """It acts on the coarse mask or the fixed decision, in training alone."""
    classifier = build(variant, dropout_ratio=0.5)
    features, _ = make_batch()
    assert not torch.equal(classifier(features), classifier(features))
    classifier.eval()
    assert torch.equal(classifier(features), classifier(features))


@each_variant
def test_deployment_drops_what_only_training_needs_and_equals_forward(
    variant: dict[str, Any],
) -> None:
    classifier = build(variant, dropout_ratio=0.5).eval()
    torch.nn.init.normal_(classifier.conv_seg.weight)
    features, _ = make_batch()
    state = {name: value.clone() for name, value in classifier.state_dict().items()}
    deployed = classifier.deploy()
    with torch.no_grad():
        torch.testing.assert_close(deployed(features), classifier(features), rtol=1e-5, atol=1e-5)
    names = {name for name, _ in deployed.named_parameters()}
    assert not any(name.startswith(("teacher", "coarse_head")) for name in names)
    size = sum(p.numel() for p in deployed.parameters())
    assert size < sum(p.numel() for p in classifier.parameters()) or variant == VARIANTS["softmax"]
    assert all(torch.equal(value, state[name]) for name, value in classifier.state_dict().items())


def test_large_maps_are_deployed_image_by_image_with_equal_outputs() -> None:
    classifier: SSAClassifier = build({"name": "ssa"}, 64, 6).eval()
    features = torch.randn(3, 64, 64, 65)
    deployed = classifier.deploy()
    with torch.inference_mode():
        torch.testing.assert_close(deployed(features), classifier(features), rtol=1e-5, atol=1e-5)


def test_unfolded_deployment_keeps_its_parameters_names() -> None:
    classifier: SSAClassifier = build({"name": "ssa"})
    kept = {name for name, _ in classifier.named_parameters() if not name.startswith("teacher.")}
    assert {name for name, _ in classifier.deploy(fold=False).named_parameters()} == kept


@pytest.mark.parametrize(
    "variant", ["softmax", "ssa full", "ssa sinusoidal", "ssa learnable", "ssa basis only"]
)
def test_torch_export_of_the_deployed_form_is_equal(variant: str) -> None:
    deployed = build(VARIANTS[variant]).deploy()
    features, _ = make_batch()
    program = torch.export.export(
        deployed, (features,), dynamic_shapes=({2: torch.export.Dim.DYNAMIC},), strict=False
    )
    other = torch.randn(3, 16, 21, 15)
    with torch.no_grad():
        for x in (features, other):
            torch.testing.assert_close(program.module()(x), deployed(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["softmax", "ssa full"])
def test_onnx_of_the_deployed_form_is_equal(variant: str, tmp_path: Any) -> None:
    pytest.importorskip("onnx", reason="pip install onnx onnxscript onnxruntime (extra dev)")
    pytest.importorskip("onnxscript", reason="pip install onnxscript (extra dev)")
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime (extra dev)")
    deployed = build(VARIANTS[variant]).deploy()
    features, _ = make_batch()
    path = str(tmp_path / "classifier.onnx")
    torch.onnx.export(deployed, (features,), path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: features.numpy()})
    with torch.no_grad():
        expected = deployed(features)
    torch.testing.assert_close(torch.from_numpy(output), expected, rtol=1e-4, atol=1e-4)


def test_softmax_equals_mmsegmentations_baseline_loss() -> None:
    from mmseg.models.losses import CrossEntropyLoss

    classifier = build({"name": "softmax"})
    features, labels = make_batch()
    up = F.interpolate(classifier.conv_seg(features), labels.shape[2:], mode="bilinear")
    expected = CrossEntropyLoss()(up, labels[:, 0], ignore_index=IGNORE)
    torch.testing.assert_close(classifier.loss(features, labels)["ce"], expected)


def test_initialisation_is_mmsegmentations() -> None:
    for name in ("softmax", "ssa"):
        classifier = build({"name": name}, 256, 150)
        assert classifier.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not classifier.conv_seg.bias.any()
    assert classifier.position_basis.std().item() == pytest.approx(1, rel=0.05)


def test_softmax_switches_change_exactly_what_they_name() -> None:
    features, labels = make_batch()
    rows: list[tuple[dict[str, Any], set[str], set[str]]] = [
        ({}, {"conv_seg.weight", "conv_seg.bias"}, {"ce"}),
        ({"dice_weight": 1}, {"conv_seg.weight", "conv_seg.bias"}, {"ce", "dice"}),
        ({"cosine_scale": 15}, {"conv_seg.weight"}, {"ce"}),
        (
            {"coarse_ce_weight": 1},
            {"conv_seg.weight", "conv_seg.bias", "coarse_head.weight", "coarse_head.bias"},
            {"ce", "coarse_ce"},
        ),
    ]
    for override, parameters, terms in rows:
        classifier = build({"name": "softmax", "overrides": override})
        assert {name for name, _ in classifier.named_parameters()} == parameters
        assert set(classifier.loss(features, labels)) == terms
    second = build({"name": "softmax", "overrides": {"coarse_ce_weight": 1}})
    gradient = torch.autograd.grad(
        second.loss(features, labels)["coarse_ce"], second.conv_seg.weight, allow_unused=True
    )
    assert gradient == (None,)  # the second head decides nothing and trains no first head


def test_learnable_positions_are_interpolated_to_other_sizes() -> None:
    override = {"position_encoding": "learnable", "learnable_grid": 8}
    classifier = build({"name": "ssa", "overrides": override})
    table = classifier.position_encoding.table
    encode = classifier.position_encoding
    assert torch.equal(encode(torch.zeros(1, 16, 8, 8)), table)
    assert encode(torch.zeros(1, 16, 5, 31)).shape == (1, 16, 5, 31)
    constant = torch.nn.init.constant_(table, 0.5)
    assert torch.equal(encode(torch.zeros(1, 16, 20, 3)).unique(), constant.unique())


def test_sinusoidal_positions_tell_all_cells_apart() -> None:
    override = {"position_encoding": "sinusoidal"}
    encode = build({"name": "ssa", "overrides": override}).position_encoding
    cells = encode(torch.zeros(1, 16, 20, 30))[0].flatten(1).T
    assert torch.cdist(cells, cells).fill_diagonal_(1).min() > 1e-3
    assert cells.abs().max() <= 1
