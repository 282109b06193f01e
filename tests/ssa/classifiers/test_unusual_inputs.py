"""What else may reach a classifier: layouts, sizes, values, devices, copies, threads, transforms.

Every classifier and preset, with the C kernel and without. Either the result is that of the plain
case, or an error of ours says what is wrong.
"""

from __future__ import annotations

import copy
import io
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssa.classifiers import CLASSIFIERS, build_classifier
from ssa.classifiers.parts.ring_memory import RingMemory
from ssa.errors import ConfigurationError, SsaError
from ssa.losses.inputs import LabelRangeError, LossInputError

ROOT = Path(__file__).resolve().parents[3]
CHANNELS, CLASSES = 16, 5
MEMORY = {"gmmseg": {"memory_size": 32}, "dnc": {"memory_size": 32}}
BANK = {"bank_steps": 2, "bank_pixels": 64}
CASES = [
    pytest.param(name, preset, id=f"{name}-{preset}")
    for name, cls in CLASSIFIERS.items()
    for preset in cls.Config.presets
]
of_every_classifier = pytest.mark.parametrize(("name", "preset"), CASES)


@pytest.fixture(params=["1", "0"], ids=["kernel", "bands"], autouse=True)
def execution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SSA_NATIVE", request.param)
    return request.param


def build(
    name: str, preset: str, channels: int = CHANNELS, classes: int = CLASSES, **settings: Any
) -> Any:
    torch.manual_seed(0)
    overrides = BANK if (name, preset) == ("dnc", "released") else MEMORY.get(name, {})
    settings = {"dropout_ratio": 0, "preset": preset, "overrides": overrides} | settings
    return build_classifier(name, channels, classes, **settings)


def example(side: int = 8, scale: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    features = torch.randn(2, CHANNELS, side, side)
    labels = torch.randint(0, CLASSES, (2, scale * side, scale * side))
    labels[0, :scale] = 255
    return features, labels


def total(model: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    torch.manual_seed(5)
    return sum(value.double() for value in model.loss(features, labels).values())


def close(value: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


# --- layouts and sizes ---------------------------------------------------------------------------


def strided(values: Tensor) -> Tensor:
    """The same values, every second of a larger tensor."""
    larger = values.new_zeros(*values.shape[:-1], 2 * values.shape[-1])
    larger[..., ::2] = values
    return larger[..., ::2]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "strided": strided,
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "not part of a graph": lambda x: x.detach(),
    "a parameter": nn.Parameter,
}


@of_every_classifier
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_in_memory_changes_nothing(name: str, preset: str, layout: str) -> None:
    features, labels = example()
    other = LAYOUTS[layout](features)
    assert torch.equal(other, features)
    close(total(build(name, preset), other, labels), total(build(name, preset), features, labels))
    mixed = total(build(name, preset), features, strided(labels))
    close(mixed, total(build(name, preset), features, labels))
    model = build(name, preset).eval()
    close(model(other), model(features))


@of_every_classifier
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 9), (2, 7, 1), (1, 3, 2)])
@pytest.mark.parametrize("labels", [(1, 1), (2, 5), (33, 17)])
def test_maps_of_any_size(
    name: str, preset: str, shape: tuple[int, int, int], labels: tuple[int, int]
) -> None:
    """Labels coarser than the features too."""
    images, *size = shape
    if name == "gmmseg" and shape == (1, 1, 1):
        with pytest.raises(LossInputError, match="normalises one value"):
            build(name, preset).loss(torch.randn(1, CHANNELS, 1, 1), torch.zeros(1, *labels).long())
        build(name, preset).eval()(torch.randn(1, CHANNELS, 1, 1))
        return
    features = torch.randn(images, CHANNELS, *size, requires_grad=True)
    model = build(name, preset)
    value = total(model, features, torch.randint(0, CLASSES, (images, *labels)))
    value.backward()
    assert value.isfinite()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert model.eval()(features).shape == (images, CLASSES, *size)


@of_every_classifier
def test_of_no_image_the_decision_is_empty_and_a_loss_refused(name: str, preset: str) -> None:
    features, labels = example()
    model = build(name, preset).eval()
    assert model(features[:0]).shape == (0, CLASSES, 8, 8)
    assert model.deploy()(features[:0]).shape == (0, CLASSES, 8, 8)
    with pytest.raises(LossInputError, match="something in it"):
        model.loss(features[:0], labels[:0])


NO_MAP: dict[str, Callable[[Tensor], Tensor]] = {
    "no row": lambda x: x[:, :, :0],
    "one image without its batch": lambda x: x[0],
    "rows of pixels": lambda x: x.flatten(2),
    "integers": lambda x: x.long(),
    "complex numbers": lambda x: x.to(torch.complex64),
    "other channels": lambda x: x[:, :7],
    "the labels' layout": lambda x: x.permute(0, 2, 3, 1),
}


@of_every_classifier
@pytest.mark.parametrize("wrong", NO_MAP)
def test_what_is_no_map_of_features_is_refused(name: str, preset: str, wrong: str) -> None:
    features, labels = example()
    other = NO_MAP[wrong](features)
    for model in (build(name, preset), build(name, preset).deploy()):
        with pytest.raises(LossInputError, match=r"floating map|channels, but 16"):
            model(other)
    with pytest.raises(LossInputError, match=r"floating map|channels, but 16"):
        build(name, preset).loss(other, labels)


# --- labels --------------------------------------------------------------------------------------


@of_every_classifier
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32])
def test_labels_of_any_integer_type(name: str, preset: str, dtype: torch.dtype) -> None:
    features, labels = example()
    labels[labels == 255] = 100
    model, other = (build(name, preset, ignore_index=100) for _ in range(2))
    assert total(model, features, labels.to(dtype)) == total(other, features, labels)


@of_every_classifier
@pytest.mark.parametrize("ignore", [-1, -100, 65535, 2**31 - 1, -(2**31)])
def test_any_ignore_value_means_what_255_means(name: str, preset: str, ignore: int) -> None:
    """Over a map with boundaries: their fixed point of 15 bits overflowed beyond 8192."""
    features, labels = example(side=20)
    moved = labels.where(labels != 255, ignore)
    value = total(build(name, preset, ignore_index=ignore), features, moved)
    expected = total(build(name, preset), features, labels)
    torch.testing.assert_close(value, expected, rtol=1e-2, atol=1e-2)
    assert value.isfinite()


@of_every_classifier
@pytest.mark.parametrize("wrong", [CLASSES, -1, 254, 2**32 + 1])
def test_a_label_that_is_no_class_is_refused_and_moves_nothing(
    name: str, preset: str, wrong: int
) -> None:
    features, labels = example()
    labels[1, 3, 4] = wrong
    model = build(name, preset)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LabelRangeError, match="1 label pixels"):
        model.loss(features, labels)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@of_every_classifier
def test_an_ignored_class_takes_no_part(name: str, preset: str) -> None:
    """``ignore_index`` may be one of the classes: its pixels are void."""
    features, labels = example()
    void = labels.where(labels != 255, 3)
    expected = total(build(name, preset), features, void.where(void != 3, 255))
    close(total(build(name, preset, ignore_index=3), features, void), expected)


@of_every_classifier
def test_more_classes_than_a_byte_counts(name: str, preset: str) -> None:
    features, labels = example()
    labels = torch.where(labels == 255, 255, labels * 50).byte()
    for ignore in (255, -1):
        model = build(name, preset, classes=300, ignore_index=ignore)
        same = build(name, preset, classes=300, ignore_index=ignore)
        assert total(model, features, labels) == total(same, features, labels.long())


# --- values --------------------------------------------------------------------------------------


@of_every_classifier
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("everywhere", [True, False])
def test_values_that_are_no_numbers_are_never_a_plausible_loss(
    name: str, preset: str, value: float, everywhere: bool
) -> None:
    features, labels = example()
    if everywhere:
        features[:] = value
    else:
        features[0, :, 4, 4] = value
    assert not total(build(name, preset), features, labels).isfinite()


@of_every_classifier
def test_a_gradient_taken_twice_is_twice_the_gradient(name: str, preset: str) -> None:
    features, labels = example()
    features.requires_grad_()
    value = total(build(name, preset), features, labels)
    value.backward(retain_graph=True)
    assert features.grad is not None
    once = features.grad.clone()
    assert once.any()
    value.backward()
    torch.testing.assert_close(features.grad, 2 * once)


@of_every_classifier
def test_without_gradients_the_loss_is_the_same(name: str, preset: str) -> None:
    features, labels = example()
    expected = total(build(name, preset), features, labels)
    with torch.inference_mode():
        assert total(build(name, preset), features, labels) == expected
        remembered = labels.clone()
    frozen = build(name, preset).requires_grad_(False)
    assert total(frozen, features, labels) == expected
    assert total(build(name, preset), features, remembered) == expected


@of_every_classifier
def test_double_precision_agrees(name: str, preset: str) -> None:
    features, labels = example()
    expected = total(build(name, preset), features, labels)
    close(total(build(name, preset).double(), features.double(), labels), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_class_weights_follow_the_classifier(dtype: torch.dtype) -> None:
    overrides = {"class_weights": (1.0, 2.0, 3.0, 4.0, 5.0)}
    features, labels = example()
    expected = build("protoseg", "released", overrides=overrides).loss(features, labels)["ce"]
    model = build("protoseg", "released", overrides=overrides).to(dtype)
    got = model.loss(features.to(dtype), labels)["ce"]
    torch.testing.assert_close(got.double(), expected.double(), rtol=0.05, atol=0.05)


# --- settings ------------------------------------------------------------------------------------


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "one class": ({"classes": 1}, "num_classes=2"),
    "no class": ({"classes": 0}, "nothing to decide"),
    "no channel": ({"channels": 0}, "nothing to look at"),
    "no ignore value": ({"ignore_index": None}, "ignore_index is None"),
    "a ratio for an ignore value": ({"ignore_index": 255.0}, "ignore_index is 255.0"),
    "an ignore value of 33 bits": ({"ignore_index": 2**31}, "32 bits"),
    "a dropout of all": ({"dropout_ratio": 1}, "less than 1"),
    "a dropout that is no number": ({"dropout_ratio": float("nan")}, "less than 1"),
}


@of_every_classifier
@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_mean_nothing_are_refused(name: str, preset: str, case: str) -> None:
    settings, sentence = SETTINGS[case]
    with pytest.raises(SsaError, match=sentence):
        build(name, preset, **settings)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("gmmseg", {"sinkhorn_epsilon": 0.01}),
        ("protoseg", {"sinkhorn_epsilon": 0.01}),
        ("dnc", {"epsilon": 0.01}),
        ("gmmseg", {"variance_floor": 0.0}),
    ],
)
def test_settings_beyond_float32_are_refused(name: str, overrides: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="greater than or equal to"):
        build_classifier(name, CHANNELS, CLASSES, overrides=overrides)


@pytest.mark.parametrize("name", ["gmmseg", "protoseg", "dnc"])
def test_plans_of_the_smallest_epsilon_are_finite(name: str) -> None:
    """Two pixels of a class as unlike as can be: exp(2/ε) lies between them."""
    from ssa.classifiers.parts.clustering import class_sinkhorn

    field = "epsilon" if name == "dnc" else "sinkhorn_epsilon"
    cls = CLASSIFIERS[name].Config
    epsilon = next(rule.ge for rule in cls.model_fields[field].metadata if hasattr(rule, "ge"))
    scores = torch.tensor([[1.0, 1.0], [-1.0, -1.0]] * 40000)
    plan = class_sinkhorn(scores, torch.zeros(80000, dtype=torch.long), 1, epsilon=epsilon)
    torch.testing.assert_close(plan, torch.full_like(plan, 0.5))


# --- copies and devices --------------------------------------------------------------------------


def through_a_file(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": through_a_file,
    "to and back": lambda model: copy.deepcopy(model).to("cpu", torch.float64).to(torch.float32),
}


@of_every_classifier
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_goes_on_as_the_original(name: str, preset: str, how: str) -> None:
    """What is remembered goes with it, and is not shared."""
    features, labels = example()
    model = build(name, preset)
    total(model, features, labels)
    twin = COPIES[how](model)
    before = copy.deepcopy(model.state_dict())
    first = total(twin, features, labels)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    close(first, total(model, features, labels))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[key], value, msg=key)


@of_every_classifier
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_taken_over_goes_on(name: str, preset: str, assign: bool) -> None:
    features, labels = example()
    model = build(name, preset)
    total(model, features, labels)
    fresh = build(name, preset)
    fresh.load_state_dict(copy.deepcopy(model.state_dict()), assign=assign)
    close(total(fresh, features, labels), total(model, features, labels))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[key], value, msg=key)


@of_every_classifier
def test_a_deployed_copy_decides_travels_and_has_no_loss(name: str, preset: str) -> None:
    features, labels = example()
    model = build(name, preset)
    total(model, features, labels)
    model.eval()
    for deployed in (model.deploy(), model.deploy().deploy(), copy.deepcopy(model.deploy())):
        for one in (deployed, pickle.loads(pickle.dumps(deployed)), through_a_file(deployed)):
            close(one(features), model(features))
            close(one.double()(features.double()).float(), model(features))
            assert not any(key.split(".")[0] in model.training_only for key in one.state_dict())
            for mode in (True, False):
                with pytest.raises(ConfigurationError, match="lacks what only training needs"):
                    one.train(mode).loss(features, labels)
            one.eval()
    total(model.train(), features, labels)  # the original still trains


@of_every_classifier
def test_shapes_alone_are_enough_for_the_meta_device(name: str, preset: str) -> None:
    features, labels = (one.to("meta") for one in example())
    with torch.device("meta"):
        made = build(name, preset)
    for model in (made, build(name, preset).to("meta")):
        value = total(model, features, labels)
        assert value.device.type == "meta"
        assert model.eval()(features).shape == (2, CLASSES, 8, 8)


@of_every_classifier
def test_labels_on_another_device_are_refused(name: str, preset: str) -> None:
    features, labels = example()
    with pytest.raises(LossInputError, match="labels are on meta"):
        build(name, preset).loss(features, labels.to("meta"))


# --- memories ------------------------------------------------------------------------------------


def test_a_memory_beyond_the_machine_is_refused_before_it_is_taken() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigurationError, match=r"takes \d+\.\d GB.*memory_size"):
        build_classifier("gmmseg", 64, 150, overrides={"memory_size": 10**9})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


_DEPLOY = """
import resource, torch
from ssa.classifiers import build_classifier
def limit(mebibytes):
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (mebibytes << 20), resource.RLIM_INFINITY))
torch.set_num_threads(1)
features = torch.randn(1, 64, 8, 8)
build_classifier("gmmseg", 64, 20, overrides={"memory_size": 20}).deploy()(features)
limit(400)  # the memory has 293
model = build_classifier("gmmseg", 64, 20, overrides={"memory_size": 12000}).eval()
limit(100)
deployed = model.deploy()
assert deployed(features).shape == (1, 20, 8, 8)
print(sum(x.numel() for x in deployed.state_dict().values()))
"""


def test_gmmsegs_memory_is_taken_once_and_never_copied_for_deployment() -> None:
    """Made by a normalisation out of place it took three times its size, a deployed copy two."""
    command = [sys.executable, "-c", _DEPLOY]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert int(made.stdout) < 100_000


def test_a_memory_starts_as_unit_vectors_of_every_direction() -> None:
    torch.manual_seed(0)
    entries = RingMemory(6, 8, 500, random_start=True).entries
    torch.testing.assert_close(entries.norm(dim=1), torch.ones(6, 500))
    assert entries.mean(dim=2).abs().max() < 0.1
    assert not torch.equal(entries[0], entries[1])


# --- threads, processes, transforms --------------------------------------------------------------


@of_every_classifier
def test_two_threads_at_once_compute_what_one_does(name: str, preset: str) -> None:
    features, labels = example(side=24)
    model = build(name, preset).eval()
    expected = {term: value.item() for term, value in model.loss(features, labels).items()}
    got: list[dict[str, float]] = []

    def work() -> None:
        for _ in range(3):
            terms = model.loss(features, labels)
            got.append({term: value.item() for term, value in terms.items()})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 12
    assert all(one == pytest.approx(expected, rel=1e-6) for one in got)


_FORK = """
import os, sys, torch
from ssa.classifiers import CLASSIFIERS, build_classifier
small = {"gmmseg": {"memory_size": 32}, "dnc": {"memory_size": 32}}
torch.manual_seed(0)
features, labels = torch.randn(2, 16, 64, 64), torch.randint(0, 5, (2, 512, 512))
def value(name):
    torch.manual_seed(0)
    model = build_classifier(name, 16, 5, overrides=small.get(name), dropout_ratio=0)
    return sum(model.loss(features, labels).values()).item()
before = [value(name) for name in CLASSIFIERS]
child = os.fork()
if child == 0:
    torch.set_num_threads(1)  # as a DataLoader's worker: torch's own pool does not survive a fork
    after = [value(name) for name in CLASSIFIERS]
    unlike = max(abs(a - b) / abs(b) for a, b in zip(after, before))
    os._exit(0 if unlike < 1e-4 else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_forked_after_the_losses_were_used_computes_the_same() -> None:
    command = [sys.executable, "-c", _FORK]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr


@of_every_classifier
def test_transforms_of_torch_func_are_refused_with_a_sentence(name: str, preset: str) -> None:
    features, labels = example()
    model = build(name, preset).eval()
    with pytest.raises(LossInputError, match=r"within torch\.func"):
        torch.func.grad(lambda x: total(model, x, labels))(features)
    with pytest.raises(LossInputError, match=r"within torch\.func"):
        torch.func.vmap(model.loss)(features[:, None], labels[:, None])
    close(torch.func.vmap(model)(features[:, None])[:, 0], model(features))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_compiled_forms_agree(name: str, execution: str) -> None:
    """Without a code generator: what is traced is what is run, one operator for both executions."""
    if execution == "0":
        pytest.skip("the operator is the same")
    torch._dynamo.reset()
    preset = CLASSIFIERS[name].Config.default_preset
    features, labels = example()
    values, traced = features.clone().requires_grad_(), features.clone().requires_grad_()
    expected = total(build(name, preset), values, labels)
    expected.backward()
    model = build(name, preset)
    torch.manual_seed(5)
    terms = torch.compile(model.loss, backend="aot_eager")(traced, labels)
    got = sum(value.double() for value in terms.values())
    got.backward()
    close(got, expected)
    close(traced.grad, values.grad)
    decided = build(name, preset).eval()
    close(torch.compile(decided, backend="aot_eager", fullgraph=True)(features), decided(features))
