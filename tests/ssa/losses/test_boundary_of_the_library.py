"""What may enter a loss: kernel and fallback refuse the same and mean the same by a label."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ssa.classifiers import CLASSIFIERS, build_classifier
from ssa.errors import ConfigurationError
from ssa.losses import fused_losses, native, segmentation_losses
from ssa.losses.fused_losses import SecondDerivativeError, _operator
from ssa.losses.inputs import INTEGER_TYPES, LabelRangeError, LossInputError
from ssa.losses.pixel_losses import upsampled_cross_entropy
from ssa.losses.upsampling import blend

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"gmmseg": {"memory_size": 32}, "dnc": {"memory_size": 32}}
ZEROS = torch.zeros(2, 8, 8, dtype=torch.long)
WRONG = {
    "one map for many images": (torch.randn(64, 5, 4, 4), ZEROS[:1], "1 label maps for 64 images"),
    "more maps than images": (torch.randn(1, 5, 4, 4), ZEROS, "2 label maps for 1 images"),
    "another device": (torch.randn(2, 5, 4, 4), ZEROS.to("meta"), "labels are on meta"),
    "floating labels": (torch.randn(2, 5, 4, 4), ZEROS.float(), "labels are torch.float32"),
    "boolean labels": (torch.randn(2, 5, 4, 4), ZEROS.bool(), "labels are torch.bool"),
    "one-hot labels": (torch.randn(2, 5, 4, 4), ZEROS[:, None].expand(2, 5, 8, 8), "one-hot"),
    "rows": (torch.randn(2, 5, 4), ZEROS, "floating map"),
    "integers": (torch.ones(2, 5, 4, 4, dtype=torch.long), ZEROS, "floating map"),
    "an empty map": (torch.randn(2, 5, 0, 4), ZEROS, "something in it"),
    "no label": (torch.randn(2, 5, 4, 4), ZEROS[:, :0], "one-hot"),
    "a class too many": (torch.randn(2, 5, 4, 4), ZEROS + 5, "128 label pixels"),
}


@pytest.fixture(params=["1", "0"], ids=["kernel", "bands"], autouse=True)
def execution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SSA_NATIVE", request.param)
    return request.param


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_belong_together_is_refused(case: str) -> None:
    values, labels, sentence = WRONG[case]
    with pytest.raises(LossInputError, match=sentence):
        segmentation_losses(values, labels, dice=True)
    with pytest.raises(LossInputError, match=sentence):
        upsampled_cross_entropy(
            values, labels, 255, align_corners=False, average="all", class_weights=torch.ones(5)
        )
    for name in CLASSIFIERS:
        classifier = build_classifier(name, 5, 5, overrides=SMALL.get(name))
        with pytest.raises(LossInputError, match=sentence):
            classifier.loss(values, labels)


_MANY_FOR_ONE = """
import sys, torch
from ssa.classifiers import build_classifier
from ssa.losses import segmentation_losses
from ssa.losses.inputs import LossInputError
logits = torch.randn(64, 150, 64, 64, requires_grad=True)
labels = torch.zeros(1, 512, 512, dtype=torch.long)
softmax = build_classifier("softmax", 150, 150)
calls = [
    lambda: segmentation_losses(logits, labels, dice=True),
    lambda: softmax.loss(logits, labels),
    lambda: segmentation_losses(logits[:4], labels.expand(8, -1, -1)),
    lambda: segmentation_losses(logits[:1], labels.to("meta")),
]
for call in calls:
    try:
        call()
    except LossInputError as error:
        print(error)
"""


def test_many_images_with_one_label_map_end_no_process(execution: str) -> None:
    """It read beyond the labels: the whole process was gone."""
    environment = {**os.environ, "SSA_NATIVE": execution}
    command = [sys.executable, "-c", _MANY_FOR_ONE]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    one, classifier, fewer, elsewhere = made.stdout.splitlines()
    assert one == classifier
    assert one.startswith("There are 1 label maps for 64 images")
    assert fewer.startswith("There are 8 label maps for 4 images")
    assert elsewhere.startswith("The labels are on meta")


def both(logits: torch.Tensor, labels: torch.Tensor, **settings: Any) -> list[torch.Tensor]:
    """Both losses and the gradient of their sum."""
    logits = logits.detach().requires_grad_()
    ce, dice = segmentation_losses(logits, labels, dice=True, **settings)
    (gradient,) = torch.autograd.grad(ce + 2 * dice, logits)
    return [ce, dice, gradient]


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "strided": lambda x: torch.stack([x, -x], dim=-1)[..., 0],
    "transposed": lambda x: x.mT.contiguous().mT,
    "expanded": lambda x: x[:1].expand_as(x),
    "offset": lambda x: torch.cat([x[:1], x])[1:],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("label_layout", ["plain", "strided", "transposed", "expanded"])
def test_no_layout_in_memory_changes_a_loss(layout: str, label_layout: str) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 7, 9, 5), torch.randint(0, 7, (3, 20, 31))
    labels[:, :3] = 255
    change = LAYOUTS.get(label_layout, lambda x: x)
    given, ids = LAYOUTS[layout](logits), change(labels)
    expected = both(given.contiguous(), ids.contiguous())
    got = both(given, ids)
    assert got[:2] == expected[:2]
    torch.testing.assert_close(got[2], expected[2])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (9, 4), (200, 1), (1, 1000), (130, 67)])
@pytest.mark.parametrize("align_corners", [True, False])
def test_labels_of_any_size_against_torch(size: tuple[int, int], align_corners: bool) -> None:
    """Coarser than the logits too."""
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 8, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 5, (2, *size))
    ce, _ = segmentation_losses(logits, labels, align_corners=align_corners, average="valid")
    upsampled = F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)
    expected = F.cross_entropy(upsampled, labels)
    torch.testing.assert_close(ce, expected)
    got = torch.autograd.grad(ce, logits)
    torch.testing.assert_close(got, torch.autograd.grad(expected, logits))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("channel", range(3))
@pytest.mark.parametrize("size", [(4, 4), (16, 16)])
def test_one_logit_that_is_no_number_is_seen(
    value: float, channel: int, size: tuple[int, int]
) -> None:
    """Also where it belongs to a class that no label has."""
    logits = torch.randn(1, 3, 4, 4)
    logits[0, channel, 2, 2] = value
    ce, dice, gradient = both(logits, torch.ones(1, *size, dtype=torch.long))
    if channel == 1 or value > 0 or value != value:
        assert not ce.isfinite()
    if channel == 1 and (value != value or size != (4, 4)):
        assert not dice.isfinite()
    assert value == -float("inf") or not gradient.isfinite().all()


def test_large_finite_logits_stay_finite() -> None:
    for value in (1e4, -1e4, 88.8, -88.8, 1e30):
        logits = torch.randn(1, 3, 4, 4)
        logits[0, 1, 2, 2] = value
        labels = torch.zeros(1, 16, 16, dtype=torch.long)
        ce, dice, gradient = both(logits, labels)
        up = F.interpolate(logits.double(), size=(16, 16), mode="bilinear")
        torch.testing.assert_close(ce.double(), F.cross_entropy(up, labels), rtol=1e-4, atol=1e-4)
        assert dice.isfinite()
        assert gradient.isfinite().all()


def test_shapes_beyond_32_bits_need_no_data() -> None:
    """2³² logits, and as many upsampled."""
    logits = torch.empty(4, 2**9, 2**10, 2**11, device="meta", requires_grad=True)
    labels = torch.empty(4, 2**10, 2**11, dtype=torch.uint8, device="meta")
    ce, dice = segmentation_losses(logits, labels, dice=True)
    (gradient,) = torch.autograd.grad(ce + dice, logits)
    assert gradient.shape == logits.shape
    assert ce.device.type == "meta"


@pytest.mark.parametrize("classes", [2, 256, 257, 40000])
def test_any_number_of_classes(classes: int) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, classes, 2, 3), torch.randint(0, classes, (1, 5, 7))
    ce, _, gradient = both(logits, labels, ignore_index=-1)
    upsampled = F.interpolate(logits, size=(5, 7), mode="bilinear")
    torch.testing.assert_close(ce, F.cross_entropy(upsampled, labels))
    assert gradient.any()


def test_settings_that_mean_nothing_are_refused() -> None:
    logits, labels = torch.randn(2, 5, 4, 4), ZEROS
    for average in ("mean", "", None):
        with pytest.raises(LossInputError, match="'all' pixels or by the 'valid'"):
            segmentation_losses(logits, labels, average=average)
        for weights in (None, torch.ones(5)):
            with pytest.raises(LossInputError, match="'all' pixels or by the 'valid'"):
                upsampled_cross_entropy(
                    logits, labels, 255, align_corners=False, average=average, class_weights=weights
                )
    for ignore in (None, 255.0, True, "255", 2**31):
        with pytest.raises(LossInputError, match=r"^ignore_index .*(integers|32 bits)"):
            segmentation_losses(logits, labels, ignore_index=ignore)
    with pytest.raises(LossInputError, match="3 class weights for 5 classes"):
        upsampled_cross_entropy(
            logits, labels, 255, align_corners=False, average="all", class_weights=torch.ones(3)
        )


def test_the_teacher_is_shown_for_labels_that_fit() -> None:
    model = build_classifier("ssa", 5, 5)
    features = torch.randn(2, 5, 4, 4)
    assert model.inspect_teacher(features, ZEROS[:, None]).logits.shape == (2, 5, 16)
    with pytest.raises(LossInputError, match="1 label maps for 2 images"):
        model.inspect_teacher(features, ZEROS[:1])
    with pytest.raises(LabelRangeError):
        model.inspect_teacher(features, ZEROS + 5)
    with pytest.raises(ConfigurationError, match="no teacher"):
        model.deploy().inspect_teacher(features, ZEROS)


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(LossInputError, match="6 channels, but 5"):
        build_classifier("softmax", 5, 5).loss(torch.randn(2, 6, 4, 4), ZEROS)


@pytest.mark.parametrize("dtype", INTEGER_TYPES, ids=str)
@pytest.mark.parametrize("ignore_index", [255, -100, 3])
def test_every_integer_type_means_the_same(dtype: torch.dtype, ignore_index: int) -> None:
    logits, labels = torch.randn(2, 100, 4, 4), torch.randint(0, 100, (2, 16, 16))
    expected = segmentation_losses(logits, labels, ignore_index=ignore_index, dice=True)
    got = segmentation_losses(logits, labels.to(dtype), ignore_index=ignore_index, dice=True)
    assert got == expected


@pytest.mark.parametrize(
    ("dtype", "value", "classes", "ignore_index"),
    [
        (torch.int64, 2**32 + 1, 7, 255),
        (torch.int64, 2**32 + 255, 7, 255),
        (torch.uint8, 156, 7, -100),
        (torch.uint64, 2**32 + 1, 7, 255),
        (torch.uint64, 2**64 - 100, 7, -100),
        (torch.uint32, 2**32 - 100, 7, -100),
        (torch.uint16, 65535, 7, -1),
        (torch.int8, -1, 7, 255),
    ],
)
def test_no_id_wraps_around(
    dtype: torch.dtype, value: int, classes: int, ignore_index: int
) -> None:
    labels = torch.zeros(1, 8, 8, dtype=dtype)
    labels[0, 0, 0] = torch.tensor(value, dtype=dtype)
    with pytest.raises(LabelRangeError, match="1 label pixels"):
        segmentation_losses(torch.randn(1, classes, 4, 4), labels, ignore_index=ignore_index)


def test_all_values_of_a_byte_may_be_classes() -> None:
    labels = torch.arange(256).view(1, 16, 16)
    logits = torch.randn(1, 256, 4, 4)
    expected = segmentation_losses(logits, labels, ignore_index=-100)
    assert segmentation_losses(logits, labels.byte(), ignore_index=-100) == expected
    ignoring = segmentation_losses(logits, labels, average="valid")
    assert segmentation_losses(logits, labels.byte(), average="valid") == ignoring


def test_a_second_derivative_is_refused() -> None:
    logits = torch.randn(2, 5, 4, 4, requires_grad=True)
    for value in (
        segmentation_losses(logits, ZEROS)[0],
        _operator(logits, ZEROS.int(), 255, False, True, False, True)[0],
    ):
        with pytest.raises(SecondDerivativeError, match="differentiated once"):
            torch.autograd.grad(value, logits, create_graph=True)


def test_a_call_without_data_leaves_nothing_behind() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    def call(height: int) -> torch.Tensor:
        torch.manual_seed(0)
        logits = torch.randn(2, 5, 4, height, device="cpu")
        return segmentation_losses(logits, torch.zeros(2, 8, 31, dtype=torch.long, device="cpu"))[0]

    with FakeTensorMode():
        call(13)
    with torch.device("meta"):
        first = call(13)
    assert first.device.type == "cpu"
    assert call(13) == first
    plan = blend(13, 31, False, torch.float32)
    assert type(plan.low) is torch.Tensor
    with FakeTensorMode():
        call(13)


def test_threads_stay_within_cores_and_work(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    try:
        torch.set_num_threads(63)
        assert fused_losses._threads(10**6) == 1
        assert fused_losses._threads(5 * 10**6) == min(2, cores)
        assert fused_losses._threads(10**10) == min(63, cores)
    finally:
        torch.set_num_threads(before)


_LOAD = """
import os, sys
if "nouid" in sys.argv: del os.getuid
from ssa.losses import native
print(native.kernel_library() is not None)
"""


def load(*arguments: str, **environment: str) -> str:
    inherited = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    result = subprocess.run(
        [sys.executable, "-c", _LOAD, *arguments],
        cwd=ROOT,
        env={**inherited, "SSA_NATIVE": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result
    return result.stdout.strip()


def test_a_truncated_library_is_built_anew(tmp_path: Path, execution: str) -> None:
    if execution == "0" or native.kernel_library() is None:
        pytest.skip("about the kernel, which this machine or SSA_NATIVE=0 does without")
    folder = {"SSA_KERNEL_CACHE": str(tmp_path)}
    assert load(**folder) == "True"
    (library,) = tmp_path.iterdir()
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 3])
    assert load(**folder) == "True"
    assert [len(path.read_bytes()) for path in tmp_path.iterdir()] == [len(whole)]


def test_without_a_home_or_a_user_the_kernel_is_kept_in_the_temporary_folder(
    tmp_path: Path, execution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if execution == "0" or native.kernel_library() is None:
        pytest.skip("about the kernel, which this machine or SSA_NATIVE=0 does without")
    monkeypatch.delenv("SSA_KERNEL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert load("nouid", TMPDIR=str(tmp_path), HOME=str(tmp_path)) == "True"

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert [path.name for path in native._folders()] == [f"ssa-seg-lab-{os.getuid()}"]
