"""The four mask classifiers as mmsegmentation segmentors."""

import builtins

import pytest
import torch
from mask_batches import NAMES, blocks, samples

from ssa.errors import SsaError
from ssa.mask_classifiers import semantic_scores
from ssa.mask_classifiers.pem import PemDecoder, PrototypeCrossAttention, sine_position
from ssa.mask_classifiers.yoso import DynamicSeparableAttention


def images(batch=2, height=64, width=64, seed=0):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_loss_reaches_every_parameter(build, name):
    network = build(name).train()
    terms = network.loss(images(), samples(blocks()))
    assert all(key.startswith("decode.loss_") for key in terms)
    assert all(value.isfinite() for value in terms.values())
    total, log = network.parse_losses(terms)
    total.backward()
    without = [k for k, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert float(log["loss"].detach()) == pytest.approx(
        sum(v.item() for v in terms.values()), rel=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_labels_is_harmless(build, name):
    network = build(name).train()
    terms = network.loss(images(), samples(torch.full((2, 64, 64), 255)))
    total, _ = network.parse_losses(terms)
    total.backward()
    assert total.isfinite()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(64, 96), (50, 71)])
def test_prediction_has_the_size_of_the_image(build, name, size):
    network = build(name).eval()
    network.test_cfg = {"mode": "whole"}
    made = samples(torch.zeros(2, *size, dtype=torch.long))
    with torch.no_grad():
        scores = network.encode_decode(images(2, *size), [s.metainfo for s in made])
        assert scores.shape == (2, 5, *size)
        assert (scores >= 0).all()
        alone = network(images(2, *size))  # tensor mode: stride 4 of the padded image
    assert alone.shape[2:] == tuple(-(-side // 32) * 8 for side in size)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_no_loss_beyond_its_own_pixels(build, name):
    network = build(name).train()
    terms = network.loss(images(2, 50, 71), samples(blocks(size=128)[:, :50, :71]))
    assert all(value.isfinite() for value in terms.values())


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_a_checkpoint(build, name):
    first, second = build(name, seed=0).eval(), build(name, seed=1).eval()
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first(images()), second(images()))


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_repeats_itself_and_images_are_independent(build, name):
    network = build(name).eval()
    with torch.no_grad():
        together = network(images())
        torch.testing.assert_close(network(images()[1:]), together[1:], rtol=1e-3, atol=1e-4)
        assert torch.equal(together, network(images()))


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast(build, name):
    network = build(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = network.loss(images(), samples(blocks()))
    total, _ = network.parse_losses(terms)
    total.backward()
    assert total.isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_training_learns_two_images_by_heart(build, name):
    network = build(name).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    labels = blocks()
    history = []
    for _ in range(60):
        total, _ = network.parse_losses(network.loss(images(), samples(labels)))
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        history.append(total.item())
    assert sum(history[-5:]) < 0.6 * sum(history[:5])
    prediction = semantic_scores(network.decode_head.decode(network.backbone(images()))[-1])
    low = labels[:, 2::4, 2::4]
    right = (prediction.argmax(1) == low)[low != 255].float().mean()
    assert right > 0.8


PAPER_PARAMETERS_M = {  # Table 3
    "maskformer_r50": 41.3,
    "mask2former_r50": 44.0,
    "yoso_r50": 42.0,
    "pem_r50": 35.6,
}


@pytest.mark.parametrize("name", NAMES)
def test_paper_size_has_the_papers_number_of_parameters(name):
    from pathlib import Path

    from ssa.models import build_segmentor, load_model_card

    if "mask" in name:
        pytest.importorskip("transformers", reason="pip install transformers")
    models = Path(__file__).resolve().parents[3] / "experiments" / "models"
    with torch.device("meta"):
        network = build_segmentor(
            load_model_card(models / f"{name}.yaml"), classifier={"name": "none"}, num_classes=150
        )
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(PAPER_PARAMETERS_M[name], rel=0.005)


def test_absent_transformers_is_a_sentence(build, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **settings):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *arguments, **settings)

    pytest.importorskip("transformers", reason="pip install transformers")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SsaError, match=r"pip install 'ssa-seg-lab\[mmseg\]'"):
        build("maskformer_r50")


def test_dynamic_attention_is_a_depthwise_kernel_then_a_mixture():
    torch.manual_seed(0)
    attention = DynamicSeparableAttention(channels=8, queries=4)
    query, values = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    weights = attention.weight_linear(query)[0]
    depthwise = torch.stack(
        [
            torch.nn.functional.conv1d(
                values[0, q][None, None], weights[q, :3][None, None], padding=1
            )[0, 0]
            for q in range(4)
        ]
    ).relu()
    expected = attention.norm(weights[:, 3:] @ depthwise)
    torch.testing.assert_close(attention(query, values)[0], expected, rtol=1e-4, atol=1e-5)


def test_prototype_attention_takes_one_position_inside_the_mask():
    torch.manual_seed(0)
    attention = PrototypeCrossAttention(16, 2, {"type": "BN"}).eval()
    query, embedding = torch.randn(1, 3, 16), torch.randn(3, 16)
    memory = torch.randn(1, 16, 4, 4, requires_grad=True)
    outside = torch.ones(1, 3, 16, dtype=torch.bool)
    outside[0, 0, 5] = outside[0, 1, 9] = False  # query 2 is blind: it takes position 0
    out = attention(query, embedding, memory, outside)
    keys = torch.nn.functional.normalize(attention.feature_proj(memory), dim=-1)
    chosen = keys[0, [5, 9, 0]]
    q = torch.nn.functional.normalize(attention.query_proj(query + embedding), dim=-1)
    mixed = torch.nn.functional.normalize(attention.proj(chosen[None] * q), dim=1)
    expected = query + attention.final(mixed * attention.alpha + chosen)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_blind_masks_are_dropped_only_if_every_query_is_blind():
    masks = torch.full((2, 3, 8, 8), -1.0)
    masks[0, 1, 2:4, 2:4] = 1
    outside = PemDecoder._outside(masks, torch.zeros(2, 4, 4, 4))
    assert outside[0, 0].all()  # this query is blind, another is not
    assert outside[0, 1].sum() == 15
    assert not outside[1].any()


def test_sine_position_puts_y_first_and_ends_at_a_full_turn():
    code = sine_position(5, 7, 8, torch.zeros(1))
    assert code.shape == (16, 5, 7)
    assert torch.equal(code[:8, :, 0], code[:8, :, 6])  # the first half does not know x
    assert torch.equal(code[8:, 0], code[8:, 4])
    torch.testing.assert_close(code[0, -1, 0], torch.tensor(0.0), rtol=0, atol=1e-4)  # sin 2π
