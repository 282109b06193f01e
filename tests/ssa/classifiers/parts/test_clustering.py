"""The mathematics that ProtoSeg, GMMSeg and DNC share."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssa.classifiers.parts.clustering import (
    class_sinkhorn,
    class_softmin,
    component_sums,
    gumbel_noise,
    mean_where,
    moved_prototypes,
    pixel_classes,
)
from ssa.classifiers.parts.pixel_bank import PixelBank
from ssa.classifiers.parts.ring_memory import RingMemory


def random_pixels(seed, pixels=240, components=4, num_classes=5, absent=(3,)):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(pixels, components, generator=generator) * 2 - 1
    classes = torch.randint(0, num_classes + 1, (pixels,), generator=generator)
    for k in absent:
        classes[classes == k] = num_classes
    return scores, classes


def one_class_sinkhorn(scores, iterations, epsilon):
    """Sinkhorn–Knopp of one class, written down step by step in float64."""
    plan = torch.exp(scores.double() / epsilon)
    plan /= plan.sum()
    pixels, components = plan.shape
    for _ in range(iterations):
        plan /= plan.sum(0, keepdim=True) * components
        plan /= plan.sum(1, keepdim=True) * pixels
    return plan * pixels


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), components=st.integers(1, 6), iterations=st.integers(1, 5))
def test_sinkhorn_of_all_classes_at_once_equals_class_by_class(seed, components, iterations):
    scores, classes = random_pixels(seed, components=components)
    plan = class_sinkhorn(scores, classes, 5, iterations=iterations, epsilon=0.05)
    for k in classes.unique().tolist():
        expected = one_class_sinkhorn(scores[classes == k], iterations, 0.05)
        torch.testing.assert_close(plan[classes == k].double(), expected, rtol=2e-4, atol=1e-6)


def test_sinkhorn_marginals():
    scores, classes = random_pixels(0, pixels=2000)
    plan = class_sinkhorn(scores, classes, 5, iterations=200, epsilon=0.2)
    torch.testing.assert_close(plan.sum(1), torch.ones(len(plan)))  # every pixel has mass 1
    for k in (0, 1, 2, 4):
        mass = plan[classes == k].sum(0)
        torch.testing.assert_close(mass, mass.mean().expand_as(mass), rtol=1e-3, atol=0)


def test_sinkhorn_assigns_every_pixel_and_balances_what_argmax_would_not():
    torch.manual_seed(0)  # all pixels prefer component 0, by more or less
    scores = torch.tensor([0.9, 0.0, 0.0]) + 0.2 * torch.rand(300, 3)
    classes = torch.zeros(300, dtype=torch.long)
    assert scores.argmax(1).bincount(minlength=3).tolist() == [300, 0, 0]
    plan = class_sinkhorn(scores, classes, 2, iterations=50, epsilon=0.05)
    shares = plan.argmax(1).bincount(minlength=3) / 300
    assert shares.min() > 0.2
    assert shares.sum() == 1


def test_pixels_of_one_class_do_not_touch_another():
    scores, classes = random_pixels(1)
    other = scores.clone()
    other[classes == 2] = torch.rand_like(other[classes == 2])
    mine = classes != 2
    plan, changed = (class_sinkhorn(s, classes, 5) for s in (scores, other))
    assert torch.equal(plan[mine], changed[mine])


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_softmin_plan_is_the_closed_form(seed):
    scores, classes = random_pixels(seed)
    plan = class_softmin(scores, classes, 5)
    assert plan.dtype == torch.float64
    for k in classes.unique().tolist():
        own = scores[classes == k].double()
        expected = torch.exp(-own * 3 * math.log(len(own)) / 0.05)
        torch.testing.assert_close(plan[classes == k], expected / expected.sum())


def test_softmin_of_a_single_pixel_is_uniform_and_extremes_do_not_overflow():
    scores = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(100_000, 1)
    classes = torch.zeros(200_000, dtype=torch.long)
    classes[0] = 1
    plan = class_softmin(scores, classes, 2)
    assert plan.isfinite().all()
    assert plan[0].tolist() == [0.5, 0.5]


def test_gumbel_noise_follows_its_law_and_the_global_seed():
    torch.manual_seed(3)
    first = gumbel_noise(torch.empty(200_000))
    torch.manual_seed(3)
    assert torch.equal(first, gumbel_noise(torch.empty(200_000)))
    assert first.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert first.var().item() == pytest.approx(math.pi**2 / 6, abs=0.05)


def test_prototypes_move_by_momentum_and_only_those_with_pixels():
    prototypes = torch.nn.functional.normalize(torch.randn(2, 2, 8), dim=-1)
    embeddings = torch.nn.functional.normalize(torch.randn(30, 8), dim=-1)
    slots = torch.tensor([0, 3, 4]).repeat(10)  # slot 4 of 4 takes no part
    sums, counts = component_sums(embeddings, slots, 4)
    assert counts.tolist() == [10, 0, 0, 10]
    torch.testing.assert_close(sums[3], embeddings[slots == 3].sum(0))
    moved = moved_prototypes(prototypes, sums, counts, 0.9)
    torch.testing.assert_close(moved[0, 1], prototypes[0, 1])
    target = torch.nn.functional.normalize(sums[0], dim=0)
    expected = 0.9 * prototypes[0, 0] + 0.1 * target
    torch.testing.assert_close(moved[0, 0], expected / expected.norm())
    assert moved[0, 0] @ target > prototypes[0, 0] @ target
    torch.testing.assert_close(moved.norm(dim=-1), torch.ones(2, 2))


def test_labels_are_resized_by_nearest_and_foreign_ids_ignored():
    labels = torch.tensor([[0, 1, 2, 255], [9, 1, 2, 2]], dtype=torch.uint8).repeat_interleave(4, 1)
    labels = labels.repeat_interleave(4, 0)[None]
    rows = pixel_classes(labels, (2, 4), 3, 255)
    assert rows.tolist() == [0, 1, 2, 3, 3, 1, 2, 2]
    assert torch.equal(rows, pixel_classes(labels[:, None].int(), (2, 4), 3, 255))


def test_mean_over_nothing_is_zero_with_zero_gradient():
    values = torch.randn(5, requires_grad=True)
    mean = mean_where(values, torch.zeros(5, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0
    assert values.grad.tolist() == [0] * 5


class SlowMemory:
    """The ring memory as one would write it down: lists, one embedding after another."""

    def __init__(self, memory):
        self.entries, self.pointer = memory.entries.clone(), memory.pointer.clone()

    def write(self, embeddings, slots, limit):
        for slot in range(len(self.entries)):
            mine = embeddings[slots == slot]
            if len(mine) > limit:
                mine = mine[[i * (len(mine) - 1) // (limit - 1) for i in range(limit)]]
            for embedding in mine:
                self.entries[slot, :, self.pointer[slot]] = embedding
                self.pointer[slot] = (self.pointer[slot] + 1) % self.entries.shape[2]


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), limit=st.integers(2, 7), steps=st.integers(1, 4))
def test_ring_memory_equals_writing_one_after_another(seed, limit, steps):
    torch.manual_seed(seed)
    memory = RingMemory(6, 3, 7, random_start=bool(seed % 2))
    slow = SlowMemory(memory)
    written = torch.zeros(6)
    for _ in range(steps):
        embeddings, slots = torch.randn(40, 3), torch.randint(0, 7, (40,))
        slots[slots == 2] = 6
        memory.write(embeddings, slots, limit)
        slow.write(embeddings, slots, limit)
        written += slots.bincount(minlength=7)[:6].clamp(max=limit)
    assert torch.equal(memory.entries, slow.entries)
    assert torch.equal(memory.pointer, slow.pointer)
    if not seed % 2:
        assert torch.equal(memory.filled, written.clamp(max=7).long())


def test_pixel_bank_keeps_labelled_pixels_first_and_pads():
    bank = PixelBank(steps=2, pixels=6, channels=3, num_classes=4)
    rows = torch.randn(50, 3)
    classes = torch.full((50,), 4)
    classes[[5, 17, 31]] = torch.tensor([0, 1, 2])
    bank.put(1, rows, classes)
    kept = bank.classes[1] < 4
    assert bank.classes[1][kept].tolist() == [0, 1, 2]
    assert torch.equal(bank.features[1][kept], rows[[5, 17, 31]])
    bank.put(1, rows[:2], torch.tensor([3, 3]))
    assert bank.classes[1].tolist() == [3, 3, 4, 4, 4, 4]
    assert (bank.classes[0] == 4).all()
