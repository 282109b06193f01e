"""What every classifier promises behind every decode head."""

import copy
import io

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead, SegformerHead, UPerHead
from mmseg.structures import SegDataSample

from ssa.classifiers import CLASSIFIERS, Inspection
from ssa.heads import ClassifierHead

CLASSES, BATCH, SIZE = 5, 2, 64
WIDTHS = [8, 12, 16, 24]
#: settings that make memories small; everything else is the classifier's default
SMALL = {
    "gmmseg": {"memory_size": 32},
    "dnc": {"memory_size": 32},
}
BANK = {"bank_steps": 2, "bank_pixels": 64}
CASES = [
    pytest.param(name, preset, id=f"{name}-{preset}")
    for name, cls in CLASSIFIERS.items()
    for preset in cls.Config.presets
]
HEADS = {
    "UPerHead": lambda: UPerHead(
        in_channels=WIDTHS, in_index=[0, 1, 2, 3], channels=16, pool_scales=(1, 2), **COMMON
    ),
    "SegformerHead": lambda: SegformerHead(
        in_channels=WIDTHS, in_index=[0, 1, 2, 3], channels=16, **COMMON
    ),
    "FCNHead": lambda: FCNHead(in_channels=12, in_index=1, channels=16, num_convs=1, **COMMON),
}
COMMON = {"num_classes": CLASSES, "norm_cfg": {"type": "BN"}, "align_corners": False}


def build(name, preset, head="FCNHead", seed=0, dropout_ratio=0.1):
    torch.manual_seed(seed)
    overrides = dict(SMALL.get(name, {}))
    if (name, preset) == ("dnc", "released"):
        overrides = BANK
    decode_head = HEADS[head]()
    decode_head.dropout_ratio = dropout_ratio
    return ClassifierHead(decode_head, {"name": name, "preset": preset, "overrides": overrides})


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(BATCH, width, SIZE // 4 // 2**i, SIZE // 4 // 2**i, generator=generator)
        for i, width in enumerate(WIDTHS)
    ]


def samples(labels):
    made = []
    for label in labels:
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=label[None])
        made.append(sample)
    return made


def blocks(seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, CLASSES, (BATCH, 4, 4), generator=generator)
    labels = coarse.repeat_interleave(SIZE // 4, 1).repeat_interleave(SIZE // 4, 2)
    labels[0, :4] = 255
    return labels


def finite(module):
    tensors = [*module.parameters(), *module.buffers()]
    return all(t.isfinite().all() for t in tensors if t.is_floating_point())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_forward_and_loss(name, preset, head):
    model = build(name, preset, head)
    maps = [m.requires_grad_() for m in inputs()]
    features = model.features(maps)
    terms = model.loss(maps, samples(blocks()), None)
    assert all(key.startswith("loss_") and value.ndim == 0 for key, value in terms.items())
    assert all(value.isfinite() for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert maps[1].grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert finite(model)
    logits = model.eval()([m.detach() for m in maps])
    assert logits.shape == (BATCH, CLASSES, *features.shape[2:])
    metas = [{"img_shape": (SIZE, SIZE)}] * BATCH
    assert model.predict(maps, metas, None).shape == (BATCH, CLASSES, SIZE, SIZE)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_inspect_shows_the_decision_and_changes_nothing(name, preset, head):
    model = build(name, preset, head).eval()
    features = model.features(inputs()).detach()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    shown = model.classifier.inspect(features)
    assert isinstance(shown, Inspection)
    torch.testing.assert_close(shown.logits, model.classifier(features))
    assert shown.embedded_features.shape[0] == BATCH
    assert shown.embedded_features.shape[2:] == features.shape[2:]
    assert shown.fixed_prototypes.shape[0] == CLASSES
    width = shown.embedded_features.shape[1]
    assert shown.fixed_prototypes.shape[-1] == width
    for part in ("adapted_prototypes", "semantic_prototypes", "spatial_prototypes"):
        value = getattr(shown, part)
        assert value is None or value.shape == (BATCH, CLASSES, width)
    assert not shown.logits.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_a_checkpoint_continues_where_it_was_written(name, preset, head):
    model = build(name, preset, head, dropout_ratio=0)
    for number in range(3):
        model.loss(inputs(number), samples(blocks(number)), None)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    resumed = build(name, preset, head, seed=7, dropout_ratio=0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for one in (model, resumed):
        torch.manual_seed(11)
        one.loss(inputs(5), samples(blocks(5)), None)
        one.loss(inputs(6), samples(blocks(6)), None)
    for key, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    torch.manual_seed(3)
    mine = model.loss(inputs(7), samples(blocks(7)), None)
    torch.manual_seed(3)
    theirs = resumed.loss(inputs(7), samples(blocks(7)), None)
    assert {k: v.item() for k, v in mine.items()} == {k: v.item() for k, v in theirs.items()}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_bf16(name, preset, head):
    model = build(name, preset, head)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.loss(inputs(), samples(blocks()), None)
    total = torch.stack([value.float() for value in terms.values()]).sum()
    assert total.isfinite()
    total.backward()
    assert finite(model)
    full = model.eval()(inputs())
    with torch.autocast("cpu", torch.bfloat16):
        half = model(inputs())
    torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.3)
    cast = copy.deepcopy(model).to(torch.bfloat16)
    assert cast([m.bfloat16() for m in inputs()]).isfinite().all()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_deployment_decides_the_same_with_less(name, preset, head):
    model = build(name, preset, head)
    model.loss(inputs(), samples(blocks()), None)
    model.eval()
    features = model.features(inputs()).detach()
    deployed = model.classifier.deploy()
    torch.testing.assert_close(deployed(features), model.classifier(features))
    assert not deployed.training
    for child in type(model.classifier).training_only:
        assert getattr(deployed, child, None) is None
    kept, all_of_it = (len(list(m.state_dict())) for m in (deployed, model.classifier))
    trained = [
        c
        for c in type(model.classifier).training_only
        if getattr(model.classifier, c, None) is not None
    ]
    assert kept < all_of_it if trained else kept == all_of_it


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_a_batch_without_any_label_is_harmless(name, preset):
    model = build(name, preset)
    for _ in range(2):
        maps = [m.requires_grad_() for m in inputs()]
        terms = model.loss(maps, samples(torch.full((BATCH, SIZE, SIZE), 255)), None)
        total = torch.stack(list(terms.values())).sum()
        assert total.isfinite()
        total.backward()
        assert maps[1].grad.isfinite().all()
    assert finite(model)


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_absent_classes_and_a_single_pixel_of_a_class_are_harmless(name, preset):
    model = build(name, preset)
    labels = torch.zeros(BATCH, SIZE, SIZE, dtype=torch.uint8)
    labels[0, :8, :8] = 3
    for _ in range(3):
        terms = model.loss(inputs(), samples(labels), None)
        assert all(value.isfinite() for value in terms.values())
    assert finite(model)


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_labels_of_any_integer_type_and_both_layouts(name, preset):
    found = set()
    for dtype in (torch.uint8, torch.int32, torch.int64):
        for layout in (lambda x: x, lambda x: x[:, None]):
            model = build(name, preset, dropout_ratio=0)
            features = model.features(inputs()).detach()
            torch.manual_seed(1)
            terms = model.classifier.loss(features, layout(blocks().to(dtype)))
            found.add(sum(value.item() for value in terms.values()))
    assert len(found) == 1


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_training_lowers_the_loss(name, preset):
    """A few dozen steps on four still images; the head's features learn too."""
    model = build(name, preset, dropout_ratio=0).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(40):
        terms = model.loss(inputs(), samples(blocks()), None)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        history.append(terms["loss_ce"].item())
    assert sum(history[-4:]) < 0.9 * sum(history[:4])
