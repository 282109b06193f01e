"""GMMSeg: densities, Sinkhorn EM, its memory."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from ssa.classifiers import build_classifier
from ssa.errors import ConfigurationError

SMALL = {"embedding_channels": None, "components": 3, "memory_size": 16, "samples_per_step": 5}


def example(preset="released", seed=0, channels=8, classes=4, **overrides):
    torch.manual_seed(seed)
    overrides = {**SMALL, **overrides}
    model = build_classifier(
        "gmmseg", channels, classes, preset=preset, overrides=overrides, dropout_ratio=0
    )
    features = torch.randn(2, channels, 6, 5)
    labels = torch.randint(0, classes, (2, 24, 20))
    return model, features, labels


def test_log_densities_are_those_of_the_normal_distribution():
    model, features, _ = example()
    model.deviations.uniform_(0.2, 1.5)
    embeddings = model.embed(features)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(60))
    means = F.normalize(model.means, dim=-1)
    normal = torch.distributions.Normal(means[None], model.deviations[None])
    expected = normal.log_prob(embeddings[:, None, None]).sum(-1)
    torch.testing.assert_close(model.log_densities(embeddings), expected, rtol=1e-4, atol=1e-4)


def test_mixture_and_best_component_differ_as_they_should():
    released, features, _ = example()
    paper, _, _ = example("paper")
    log = released.log_densities(released.embed(features))
    mixture = (log.exp().mean(2)).log()
    torch.testing.assert_close(paper.class_scores(log), mixture, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(released.class_scores(log), log.max(2).values)
    assert (released.class_scores(log) >= paper.class_scores(log)).all()


def test_em_on_still_features_raises_the_likelihood():
    """Three separate clusters a class; the E and the M step alone, with a fast momentum."""
    torch.manual_seed(1)
    centres = F.normalize(torch.randn(2, 3, 8), dim=-1)
    points = centres[:, :, None] + 0.1 * torch.randn(2, 3, 20, 8)
    rows = F.normalize(points.reshape(-1, 8), dim=1)
    classes = torch.arange(2).repeat_interleave(60)
    model, _, _ = example(
        "paper", classes=2, mean_momentum=0.5, memory_size=60, samples_per_step=60
    )
    history = []
    for _ in range(25):
        log = model.log_densities(rows)
        history.append(model.class_scores(log)[torch.arange(120), classes].mean().item())
        _, plan = model.e_step(log, classes)
        model.memory.filled.zero_()
        model.memory.pointer.zero_()
        model.memory.entries.zero_()
        model.memory.write(rows, classes * 3 + plan.argmax(1), 60)
        model.m_step(torch.tensor([True, True]))
        model.means.copy_(F.normalize(model.means, dim=-1))
    assert history[-1] > history[0] + 10
    assert all(later > earlier - 0.5 for earlier, later in itertools.pairwise(history))
    # every true cluster has a mean of its own
    cosines = torch.einsum("kcd,kpd->kcp", centres, F.normalize(model.means, dim=-1))
    assert cosines.max(2).values.min() > 0.9
    assert model.class_scores(model.log_densities(rows)).argmax(1).eq(classes).float().mean() > 0.95


def test_m_step_is_momentum_of_the_means_and_moments_of_the_memory():
    model, _, _ = example(mean_momentum=0.9, deviation_momentum=0.25)
    means, deviations = model.means.clone(), model.deviations.clone()
    present = torch.tensor([True, False, True, True])
    model.m_step(present)
    queue = model.memory.entries.unflatten(0, (4, 3))
    centre = F.normalize(queue.sum(-1), dim=-1)
    spread = ((queue - centre[..., None]).square().mean(-1) + 0.01).sqrt()
    torch.testing.assert_close(model.means[0], 0.9 * means[0] + 0.1 * centre[0])
    torch.testing.assert_close(model.deviations[2], 0.25 * deviations[2] + 0.75 * spread[2])
    assert torch.equal(model.means[1], means[1])
    assert torch.equal(model.deviations[1], deviations[1])


def test_updates_come_every_fifth_step_from_the_first_and_survive_resuming():
    model, features, labels = example()
    moved = []
    for number in range(11):
        if number == 3:  # resume in the middle of an interval
            state = model.state_dict()
            model, _, _ = example(seed=9)
            model.load_state_dict(state)
        before = model.deviations.clone()
        model.loss(features, labels)
        moved.append(not torch.equal(before, model.deviations))
    assert [i for i, m in enumerate(moved) if m] == [0, 5, 10]
    assert model.counter.value == int(model.counter.steps) == 11


def test_only_correct_pixels_enter_the_memory():
    model, features, labels = example("paper")
    with torch.no_grad():
        wrong = model(features).argmax(1)
    labels = ((wrong + 1) % 4).repeat_interleave(4, 1).repeat_interleave(4, 2)
    model.loss(features, labels)
    assert model.memory.filled.sum() == 0
    right = wrong.repeat_interleave(4, 1).repeat_interleave(4, 2)
    model.loss(features, right)
    assert model.memory.filled.sum() > 0
    torch.testing.assert_close(
        model.memory.entries.norm(dim=1), (model.memory.entries != 0).any(1).float()
    )


def test_paper_starts_empty_and_an_empty_memory_moves_nothing():
    model, _, _ = example("paper")
    means = model.means.clone()
    model.m_step(torch.ones(4, dtype=torch.bool))
    assert torch.equal(model.means, means)
    released, _, _ = example("released")
    torch.testing.assert_close(released.memory.entries.norm(dim=1), torch.ones(12, 16))


def test_lost_target_is_the_released_trap():
    """Component 255 of K·P > 255 is left out of the contrast, unless the trap is repaired."""
    values = {}
    for lost in (255, None):
        model, features, _ = example(classes=33, components=8, lost_target=lost)
        labels = torch.full((2, 24, 20), 31)  # 31 · 8 + 7 = 255
        _, plan = model.e_step(model.log_densities(model.embed(features)), torch.full((60,), 31))
        assert (plan.argmax(1) == 7).any()
        values[lost] = model.loss(features, labels)["contrast"].item()
    assert values[255] != pytest.approx(values[None], rel=1e-6)


def test_reduction_to_64_channels_only_where_widths_differ():
    model = build_classifier("gmmseg", 96, 4, overrides={"memory_size": 20})
    assert model.means.shape == (4, 5, 64)
    assert model.projection[0].weight.shape == (64, 96, 1, 1)
    same = build_classifier("gmmseg", 64, 4, overrides={"memory_size": 20})
    assert not list(same.projection.parameters())


def test_impossible_memory_is_refused_with_a_sentence():
    with pytest.raises(ConfigurationError, match="must not exceed memory_size"):
        build_classifier("gmmseg", 8, 4, overrides={"memory_size": 4})


def test_contrast_is_cross_entropy_over_all_components():
    model, features, labels = example(contrast_weight=1.0)
    model.eval()
    embeddings = model.embed(features)
    log = model.log_densities(embeddings)
    classes = labels[:, ::4, ::4].flatten()
    _, plan = model.e_step(log, classes)
    target = classes * 3 + plan.argmax(1)
    expected = F.cross_entropy(log.flatten(1), target)
    torch.testing.assert_close(model.loss(features, labels)["contrast"], expected)
    assert math.isfinite(expected.item())
