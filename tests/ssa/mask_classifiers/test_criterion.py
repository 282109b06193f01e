"""Matching, point sampling and the losses of mask classifiers."""

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_batches import blocks

from ssa.mask_classifiers import MaskCriterion, MaskPrediction, semantic_scores
from ssa.mask_classifiers.matching import (
    ClassTargets,
    binary_cost,
    class_targets,
    dice_cost,
    focal_cost,
    match,
)
from ssa.mask_classifiers.points import sample_class_masks, sample_maps, uncertain_points


def prediction(batch=2, queries=6, classes=5, size=16, seed=0, gradient=False):
    torch.manual_seed(seed)
    return MaskPrediction(
        torch.randn(batch, queries, size, size, requires_grad=gradient),
        torch.randn(batch, queries, classes + 1, requires_grad=gradient),
    )


def perfect(labels, classes=5, queries=6):
    """Query k is class k's mask in every image; the last query is 'no object'."""
    low = labels[:, ::4, ::4]
    masks = torch.stack([(low == k).float() * 40 - 20 for k in range(queries)], 1)
    logits = torch.full((len(labels), queries, classes + 1), -20.0)
    for image, label in enumerate(labels):
        for k in range(queries):
            present = k < classes and bool((label == k).any())
            logits[image, k, k if present else classes] = 20
    return MaskPrediction(masks, logits)


def test_targets_are_the_classes_present():
    labels = torch.tensor([[[3, 1], [255, 3]], [[0, 0], [255, 7]], [[255] * 2] * 2])
    targets = class_targets(labels, 5)
    assert targets.counts == [2, 1, 0]
    assert targets.classes.tolist() == [[1, 3], [0, -1], [-1, -1]]


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), points=st.integers(1, 50))
def test_class_masks_at_points_equal_sampled_one_hot_maps(seed, points):
    torch.manual_seed(seed)
    labels = torch.randint(0, 4, (2, 7, 5))
    labels[0, 0] = -2
    where = torch.rand(3, points, 2)
    images, classes = torch.tensor([0, 1, 0]), torch.tensor([[0, 3], [2, -1], [1, 1]])
    found = sample_class_masks(labels, images, where, classes)
    for row in range(3):
        for column in range(2):
            one_hot = (labels[images[row]] == classes[row, column]).float()
            expected = sample_maps(one_hot[None, None], where[row : row + 1])[0, 0]
            torch.testing.assert_close(found[row, column], expected, rtol=1e-4, atol=1e-5)


def test_points_at_pixel_centres_give_the_pixels():
    x = torch.randn(1, 2, 4, 6)
    centres = torch.stack(
        [(torch.arange(6).repeat(4) + 0.5) / 6, (torch.arange(4).repeat_interleave(6) + 0.5) / 4],
        -1,
    )
    torch.testing.assert_close(sample_maps(x, centres[None])[0].view(2, 4, 6), x[0])


def test_uncertain_points_lie_where_the_mask_changes_sign():
    masks = torch.linspace(-30, 30, 32).expand(3, 32, 32).contiguous()
    points = uncertain_points(masks, 400)
    assert points.shape == (3, 400, 2)
    certainty = sample_maps(masks[:, None], points)[:, 0].abs()
    assert certainty[:, :300].mean() < 0.6 * certainty[:, 300:].mean()
    assert ((points >= 0) & (points <= 1)).all()


def test_pairwise_costs_are_the_losses_of_each_pair():
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 40), (torch.rand(2, 4, 40) > 0.5).float()
    bce, dice, focal = (f(logits, targets) for f in (binary_cost, dice_cost, focal_cost))
    for b, q, t in itertools.product(range(2), range(3), range(4)):
        x, y = logits[b, q], targets[b, t]
        plain = F.binary_cross_entropy_with_logits(x, y, reduction="none")
        torch.testing.assert_close(bce[b, q, t], plain.mean())
        share = x.sigmoid()
        overlap = (2 * (share * y).sum() + 1) / (share.sum() + y.sum() + 1)
        torch.testing.assert_close(dice[b, q, t], 1 - overlap)
        right = torch.where(y > 0, share, 1 - share)
        weight = torch.where(y > 0, 0.25, 0.75) * (1 - right) ** 2
        torch.testing.assert_close(focal[b, q, t], (weight * plain).mean())


def test_matching_is_the_cheapest_of_all_assignments():
    torch.manual_seed(1)
    costs = torch.rand(1, 1, 5, 3)
    targets = ClassTargets(torch.tensor([[2, 4, 7]]), [3])
    pairs = match(costs, targets)[0]
    found = sum(
        costs[0, 0, q, [2, 4, 7].index(k)].item()
        for q, k in zip(pairs.queries.tolist(), pairs.classes.tolist(), strict=True)
    )
    cheapest = min(
        sum(costs[0, 0, q, t].item() for t, q in enumerate(choice))
        for choice in itertools.permutations(range(5), 3)
    )
    assert found == pytest.approx(cheapest)
    assert sorted(pairs.classes.tolist()) == [2, 4, 7]


@pytest.mark.parametrize("mask", ["bce", "focal"])
def test_a_perfect_prediction_costs_next_to_nothing_and_any_other_more(mask):
    labels = blocks()
    labels[0, :8] = labels[0, 8:16]  # nothing ignored
    criterion = MaskCriterion(5, mask=mask, points=400)
    torch.manual_seed(0)
    good = sum(criterion([perfect(labels)], labels).values())
    bad = sum(criterion([prediction()], labels).values())
    assert good < 1.5  # dice at the borders between bilinear samples
    assert bad > 5 * good


def test_every_stage_is_matched_on_its_own():
    labels = blocks()
    first = perfect(labels)
    swapped = MaskPrediction(first.masks.flip(1), first.classes.flip(1))
    criterion = MaskCriterion(5, mask="focal")
    terms = criterion([first, swapped], labels)
    for name in ("ce", "mask", "dice"):
        torch.testing.assert_close(terms[f"{name}_0"], terms[f"{name}_1"])


def test_a_stage_without_classes_is_matched_by_masks_alone():
    labels = blocks()
    masks_only = MaskPrediction(perfect(labels).masks, None)
    terms = MaskCriterion(5, mask="focal")([masks_only], labels)
    assert sorted(terms) == ["dice_0", "mask_0"]
    assert terms["mask_0"] < 0.01


def test_no_object_weighs_a_tenth():
    labels = torch.full((2, 64, 64), 255)
    made = prediction(gradient=True)
    terms = MaskCriterion(5, class_weight=1.0, points=50)([made], labels)
    assert terms["mask_0"].item() == terms["dice_0"].item() == 0
    nobody = torch.full((2 * 6,), 5)
    expected = F.cross_entropy(made.classes.flatten(0, 1), nobody)  # one class: weights cancel
    torch.testing.assert_close(terms["ce_0"], expected)
    sum(terms.values()).backward()
    assert made.masks.grad.abs().sum() == 0


def test_ignored_pixels_belong_to_no_mask_and_change_nothing_if_moved():
    labels = blocks()
    other = labels.clone()
    other[labels == 255] = 200  # another id that is no class
    made = prediction()
    one, two = (MaskCriterion(5, mask="focal")([made], x) for x in (labels, other))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name])


def test_more_queries_than_classes_is_not_required():
    made = prediction(queries=2)
    terms = MaskCriterion(5, points=50)([made], torch.arange(5).repeat(2, 64, 13)[:, :, :64])
    assert all(value.isfinite() for value in terms.values())


@pytest.mark.parametrize("seed", range(3))
def test_maskformer_losses_equal_those_of_transformers(seed):
    """Its criterion draws no points, so both must agree to rounding."""
    pytest.importorskip("transformers", reason="pip install transformers")
    from transformers.models.maskformer.modeling_maskformer import (
        MaskFormerHungarianMatcher,
        MaskFormerLoss,
    )

    labels, made = blocks(seed=seed), prediction(seed=seed)
    weights = {"cost_class": 1.0, "cost_mask": 20.0, "cost_dice": 1.0}
    theirs = MaskFormerLoss(5, MaskFormerHungarianMatcher(**weights), {}, 0.1)
    present = [label.unique()[label.unique() != 255] for label in labels]
    masks = [torch.stack([(la == k).float() for k in p]) for la, p in zip(labels, present)]
    expected = theirs(made.masks, made.classes, masks, present)
    criterion = MaskCriterion(5, class_weight=1.0, mask_weight=20.0, dice_weight=1.0, mask="focal")
    terms = criterion([made], labels)
    torch.testing.assert_close(terms["ce_0"], expected["loss_cross_entropy"])
    torch.testing.assert_close(terms["mask_0"], 20 * expected["loss_mask"])
    torch.testing.assert_close(terms["dice_0"], expected["loss_dice"])


def test_mask2former_costs_equal_those_of_transformers(monkeypatch):
    """With the same points, its pairwise costs are ours."""
    module = pytest.importorskip(
        "transformers.models.mask2former.modeling_mask2former", reason="pip install transformers"
    )
    labels, made = blocks(), prediction()
    points = torch.rand(2, 300, 2)
    for b in range(2):
        present = labels[b].unique()[labels[b].unique() != 255]
        masks = torch.stack([(labels[b] == k).float() for k in present])
        at = points[b : b + 1]
        wanted = module.sample_point(
            masks[:, None], at.repeat(len(masks), 1, 1), align_corners=False
        ).squeeze(1)
        logits = sample_maps(made.masks[b : b + 1], at)[0]
        ours = sample_class_masks(labels, torch.tensor([b]), at, present[None])[0]
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
        bce = module.pair_wise_sigmoid_cross_entropy_loss(logits, wanted)
        torch.testing.assert_close(binary_cost(logits[None], ours[None])[0], bce)
        dice = module.pair_wise_dice_loss(logits, wanted)
        torch.testing.assert_close(dice_cost(logits[None], ours[None])[0], dice)


def test_semantic_scores_leave_no_object_out():
    made = prediction()
    scores = semantic_scores(made)
    share = made.classes.softmax(-1)
    by_hand = sum(
        share[:, q, :5, None, None] * made.masks[:, q : q + 1].sigmoid() for q in range(6)
    )
    torch.testing.assert_close(scores, by_hand)
    labels = blocks()
    labels[0, :8] = labels[0, 8:16]
    full = semantic_scores(perfect(labels), (64, 64))
    assert (full.argmax(1) == labels).float().mean() > 0.9
    with pytest.raises(ValueError, match="no classes"):
        semantic_scores(SimpleNamespace(classes=None, masks=made.masks))
