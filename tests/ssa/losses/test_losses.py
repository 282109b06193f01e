"""The fused losses equal the textbook formulation, whichever way they are executed."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssa.losses import native
from ssa.losses.fused_losses import LabelRangeError, upsampled_loss_sums
from ssa.losses.segmentation import segmentation_losses
from ssa.losses.upsampling import blend, blend_matrix

ROOT = Path(__file__).resolve().parents[3]
IGNORE = 255


#: the C kernel where it can be compiled; test_kernel_and_bands_agree says so where it cannot
EXECUTIONS = ["bands"] if native.kernel_library() is None else ["kernel", "bands"]
needs_compiler = pytest.mark.skipif(
    "kernel" not in EXECUTIONS, reason="no C compiler: apt-get install gcc libc6-dev"
)


@pytest.fixture(params=EXECUTIONS)
def execution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test through the C kernel and through banded PyTorch."""
    if request.param == "bands":
        monkeypatch.setenv("SSA_NATIVE", "0")
        # Several bands even on small maps.
        monkeypatch.setattr("ssa.losses.fused_losses._CPU_BAND_ELEMENTS", 500)
    return request.param


def plain(
    logits: Tensor, labels: Tensor, *, align_corners: bool, average: str = "all"
) -> tuple[Tensor, Tensor]:
    """Upsample everything, then take the losses, class by class and image by image."""
    up = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=align_corners)
    total = F.cross_entropy(up, labels, ignore_index=IGNORE, reduction="sum")
    valid = labels != IGNORE
    pixels = labels.numel() if average == "all" else max(int(valid.sum()), 1)
    dices = []
    for image, label in zip(up.sigmoid(), labels):
        for k in label[label != IGNORE].unique():
            mask = (label == k).to(up.dtype)
            inter, size = (image[k] * mask).sum(), image[k].sum() + mask.sum()
            dices.append(1 - (2 * inter + 1) / (size + 1))
    return total / pixels, sum(dices, up.sum() * 0) / max(len(dices), 1)


def random_labels(classes: int, *size: int, void: float, generator: torch.Generator) -> Tensor:
    labels = torch.randint(0, classes, size, generator=generator)
    return torch.where(torch.rand(size, generator=generator) < void, IGNORE, labels)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 3),
    classes=st.sampled_from([2, 3, 16, 17, 40]),
    feature=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    label=st.tuples(st.integers(1, 150), st.integers(1, 40)),
    void=st.sampled_from([0.0, 0.3, 1.0]),
    align_corners=st.booleans(),
    average=st.sampled_from(["all", "valid"]),
    execution=st.sampled_from(["1", "0"]),
)
def test_equals_the_plain_formulation_in_float64(
    seed: int,
    images: int,
    classes: int,
    feature: tuple[int, int],
    label: tuple[int, int],
    void: float,
    align_corners: bool,
    average: str,
    execution: str,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, *feature, generator=generator, dtype=torch.float64) * 4
    labels = random_labels(classes, images, *label, void=void, generator=generator)
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    before = os.environ.get("SSA_NATIVE")
    os.environ["SSA_NATIVE"] = execution
    try:
        got = segmentation_losses(
            mine, labels, align_corners=align_corners, average=average, dice=True
        )
    finally:
        os.environ.pop("SSA_NATIVE") if before is None else os.environ.update(SSA_NATIVE=before)
    expected = plain(theirs, labels, align_corners=align_corners, average=average)
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    (got[0] * 0.7 + got[1] * 1.9).backward()
    (expected[0] * 0.7 + expected[1] * 1.9).backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("term", [0, 1])
@pytest.mark.usefixtures("execution")
def test_gradcheck(align_corners: bool, term: int) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = random_labels(4, 2, 9, 7, void=0.2, generator=generator)

    def loss(x: Tensor) -> Tensor:
        return segmentation_losses(x, labels, align_corners=align_corners, dice=True)[term]

    assert torch.autograd.gradcheck(loss, (logits,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 14, 150, 171])
@pytest.mark.parametrize("scale", [1.0, 15.0, 200.0])
@pytest.mark.usefixtures("execution")
def test_float32_stays_close_to_float64(classes: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(2, classes, 12, 13, generator=generator) * scale
    labels = random_labels(classes, 2, 96, 80, void=0.1, generator=generator)
    mine, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    got = segmentation_losses(mine, labels, align_corners=True, dice=True)
    expected = plain(theirs, labels, align_corners=True)
    for a, b in zip(got, expected):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=3e-6, atol=3e-6)
    for a, b in zip(got, expected):
        (gradient,) = torch.autograd.grad(a, mine, retain_graph=True)
        (reference,) = torch.autograd.grad(b, theirs, retain_graph=True)
        assert (gradient - reference).abs().max() <= 2e-5 * reference.abs().max() + 1e-12


@pytest.mark.usefixtures("execution")
def test_terms_that_are_not_wanted_are_zero_and_change_nothing() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 5, 6, 7, generator=generator, requires_grad=True)
    labels = random_labels(5, 2, 70, 30, void=0.1, generator=generator)
    both = segmentation_losses(logits, labels, dice=True)
    ce, nothing = segmentation_losses(logits, labels)
    none, dice = segmentation_losses(logits, labels, cross_entropy=False, dice=True)
    assert nothing == none == 0
    assert torch.equal(ce, both[0])
    torch.testing.assert_close(dice, both[1])
    for alone, together in ((ce, both[0]), (dice, both[1])):
        (a,) = torch.autograd.grad(alone, logits, retain_graph=True)
        (b,) = torch.autograd.grad(together, logits, retain_graph=True)
        torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("execution")
def test_nothing_valid_gives_zero_and_a_zero_gradient() -> None:
    logits = torch.randn(2, 5, 6, 7, requires_grad=True)
    labels = torch.full((2, 1, 24, 28), IGNORE)
    for average in ("all", "valid"):
        ce, dice = segmentation_losses(logits, labels, average=average, dice=True)
        assert ce == dice == 0
        (gradient,) = torch.autograd.grad(ce + dice, logits)
        assert not gradient.any()


@pytest.mark.usefixtures("execution")
def test_a_diverged_network_is_not_hidden() -> None:
    logits = torch.zeros(1, 20, 4, 4)
    logits[0, 7, 2, 2] = float("nan")
    ce, dice = segmentation_losses(logits, torch.full((1, 32, 32), 7), dice=True)
    assert ce.isnan()
    assert dice.isnan()


@pytest.mark.parametrize("wrong", [7, -1, 254])
@pytest.mark.usefixtures("execution")
def test_a_label_out_of_range_is_one_sentence(wrong: int) -> None:
    labels = torch.zeros(2, 16, 16, dtype=torch.int64)
    labels[1, 3, :5] = wrong
    with pytest.raises(LabelRangeError, match="5 label pixels are neither a class id below 7"):
        segmentation_losses(torch.randn(2, 7, 4, 4), labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integer_type_of_labels(dtype: torch.dtype) -> None:
    labels = torch.randint(0, 7, (2, 16, 16))
    labels[0, :4] = IGNORE
    logits = torch.randn(2, 7, 4, 4)
    expected = segmentation_losses(logits, labels, dice=True)
    assert segmentation_losses(logits, labels.to(dtype), dice=True) == expected


def test_the_number_of_threads_changes_no_bit() -> None:
    """Large enough to be shared among threads."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 40, 25, 24, generator=generator, requires_grad=True)
    labels = random_labels(40, 3, 200, 190, void=0.1, generator=generator)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5, 1):
            torch.set_num_threads(threads)
            ce, dice = segmentation_losses(logits, labels, dice=True)
            (gradient,) = torch.autograd.grad(ce + dice, logits)
            results.append((ce, dice, gradient))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0]))


@needs_compiler
def test_kernel_and_bands_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 30, 20, 20, generator=generator, requires_grad=True)
    labels = random_labels(30, 2, 160, 160, void=0.1, generator=generator)
    results = []
    for execution in ("1", "0"):
        monkeypatch.setenv("SSA_NATIVE", execution)
        ce, dice = segmentation_losses(logits, labels, dice=True, align_corners=True)
        results.append((ce, dice, torch.autograd.grad(ce + dice, logits)[0]))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-8)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 90), st.booleans())
def test_the_blend_is_torchs_bilinear(source: int, target: int, align_corners: bool) -> None:
    plan = blend(source, target, align_corners, torch.float64)
    eye = torch.eye(source, dtype=torch.float64)[None, None]
    expected = F.interpolate(eye, (target, source), mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(
        blend_matrix(plan, 0, target, 0, source), expected[0, 0], rtol=0, atol=1e-12
    )


def test_under_torch_compile_loss_and_gradient_are_equal() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 9, 6, 7, generator=generator, requires_grad=True)
    labels = random_labels(9, 2, 48, 56, void=0.1, generator=generator)

    def loss(x: Tensor) -> Tensor:
        ce, dice = segmentation_losses(x, labels, dice=True)
        return 2 * ce + dice

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(logits), loss(logits))
    assert torch.equal(
        torch.autograd.grad(compiled(logits), logits)[0],
        torch.autograd.grad(loss(logits), logits)[0],
    )


def test_the_operator_passes_torchs_own_checks() -> None:
    from ssa.losses.fused_losses import _operator

    logits = torch.randn(2, 5, 4, 4, requires_grad=True)
    labels = torch.randint(0, 5, (2, 20, 20))
    torch.library.opcheck(_operator, (logits, labels, IGNORE, True, True, True, True))


_STEP = """
import logging, torch
logging.basicConfig(format="%(levelname)s %(message)s")
from ssa.losses import segmentation_losses
torch.manual_seed(0)
x = torch.randn(2, 9, 6, 7, requires_grad=True)
y = torch.randint(0, 9, (2, 48, 56))
for _ in range(3):
    ce, dice = segmentation_losses(x, y, dice=True)
(g,) = torch.autograd.grad(ce + dice, x)
print(f"{ce.item():.5f} {dice.item():.5f} {g.abs().sum().item():.5f}")
"""


def _start(**environment: str) -> subprocess.Popen[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("CC", "SSA_NATIVE")}
    return subprocess.Popen(
        [sys.executable, "-c", _STEP],
        cwd=ROOT,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_a_compiler_it_says_so_once_and_stays_correct(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho no such architecture >&2\nexit 1\n")
    broken.chmod(0o755)
    cache = str(tmp_path / "cache")
    missing = _start(CC="/nowhere/cc", SSA_KERNEL_CACHE=cache)
    failing = _start(CC=str(broken), SSA_KERNEL_CACHE=cache)
    silent = _start(SSA_NATIVE="0")
    results = [process.communicate(timeout=600) for process in (missing, failing, silent)]
    assert len({out for out, _ in results}) == 1, results
    for _, err in results[:2]:
        assert err.count("WARNING The fused losses run in plain PyTorch") == 1
    assert "no such architecture" in results[1][1]
    assert "fused" not in results[2][1]


@needs_compiler
def test_processes_that_compile_at_once_all_get_the_kernel(tmp_path: Path) -> None:
    processes = [_start(SSA_KERNEL_CACHE=str(tmp_path)) for _ in range(3)]
    results = [process.communicate(timeout=600) for process in processes]
    assert len({out for out, _ in results}) == 1, results
    assert all("WARNING" not in err for _, err in results)
    assert [path.suffix for path in tmp_path.iterdir()] == [".so"]


_EDITED = """
import sys
from pathlib import Path
import ssa
from ssa.losses import native
path = Path(ssa.__file__).parent / "losses" / "kernels" / "upsampled_losses.c"
path.write_text("#error edited")
assert native.kernel_library() is not None
"""


@needs_compiler
def test_what_is_compiled_is_the_source_that_was_imported(tmp_path: Path) -> None:
    """Else an edit in between would be kept under the name of the source before it."""
    shutil.copytree(ROOT / "ssa", tmp_path / "ssa")
    environment = os.environ | {"SSA_KERNEL_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ""}
    command = [sys.executable, "-c", _EDITED]
    made = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr


def test_a_library_of_another_user_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SSA_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr("os.getuid", lambda: tmp_path.stat().st_uid + 1)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="SSA_KERNEL_CACHE"):
        native._compile(["cc"])
    assert not list(tmp_path.glob("*.so"))


_MEMORY = """
import resource, torch
from ssa.losses import segmentation_losses
torch.manual_seed(0)
x = torch.randn(1, 150, 64, 64, requires_grad=True)
y = torch.randint(0, 150, (1, 512, 512))
small = torch.randn(1, 3, 4, 4, requires_grad=True)
sum(segmentation_losses(small, y % 3, dice=True)).backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sum(segmentation_losses(x, y, dice=True)).backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("execution", ["1", "0"])
def test_the_upsampled_map_never_exists(execution: str) -> None:
    """One map is 150 · 512² · 4 bytes = 154 MB, and the plain step holds several."""
    output = subprocess.run(
        [sys.executable, "-c", _MEMORY],
        cwd=ROOT,
        env={**os.environ, "SSA_NATIVE": execution},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert int(output) * 1024 < 110e6


_DISTRIBUTED = """
import sys, torch, torch.distributed as dist
from ssa.losses import segmentation_losses
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
x = torch.randn(2, 4, 4, 4, requires_grad=True)
y = torch.stack([torch.zeros(16, 16, dtype=torch.long), torch.arange(256).view(16, 16) % 4])
print(segmentation_losses(x[rank : rank + 1], y[rank : rank + 1], dice=True)[1].item())
if rank == 0:  # validates alone: nobody else joins, so nothing may wait
    with torch.no_grad():
        segmentation_losses(x, y, dice=True)
    segmentation_losses(x, y)
    segmentation_losses(x, y, dice=True, over_processes=False)
dist.destroy_process_group()
"""


def test_dice_divides_by_the_masks_averaged_over_devices(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _DISTRIBUTED, str(rank), str(tmp_path / "store")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    got = [float(process.communicate(timeout=600)[0]) for process in processes]
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 4, 4)
    labels = torch.stack(
        [torch.zeros(16, 16, dtype=torch.long), torch.arange(256).view(16, 16) % 4]
    )
    for rank, value in enumerate(got):  # device 0 has one mask, device 1 has four
        one = slice(rank, rank + 1)
        _, dice_sum, _, masks = upsampled_loss_sums(
            logits[one], labels[one], ignore_index=IGNORE, align_corners=False
        )
        assert masks == (1, 4)[rank]
        assert value == pytest.approx(dice_sum.item() / 2.5, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_bands_of_corners_sure_of_unlike_classes_stay_finite_and_equal(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between such corners every logit lies far below the blend of their maxima."""
    monkeypatch.setenv("SSA_NATIVE", "0")
    torch.manual_seed(0)
    logits = (scale * torch.randn(2, 6, 4, 5)).requires_grad_()
    labels = torch.randint(0, 6, (2, 32, 40))
    ours = sum(segmentation_losses(logits, labels, align_corners=True, dice=True))
    (gradient,) = torch.autograd.grad(ours, logits)
    theirs = sum(plain(logits, labels, align_corners=True))
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
