"""What ``pip install`` brings: the method alone, which trains where nothing but torch is."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]

#: three steps of every classifier; prints what was and was not imported
TRAINING = """
import importlib.util, json, sys

import ssa
light = "torch" not in sys.modules
import torch
from ssa.classifiers import CLASSIFIERS
import ssa.losses

torch.manual_seed(0)
features = torch.randn(2, 16, 12, 12)
labels = torch.randint(0, 5, (2, 48, 48))
labels[:, :4] = 255
losses = {}
for name in CLASSIFIERS:
    encoder = torch.nn.Conv2d(16, 16, 1)
    classifier = ssa.build_classifier(name, 16, 5).train()
    parameters = [*encoder.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    losses[name] = []
    for _ in range(3):
        loss = sum(classifier.loss(encoder(features), labels).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[name].append(float(loss))
    assert classifier.deploy()(encoder(features)).shape == (2, 5, 12, 12)

print(json.dumps({
    "light": light,
    "version": ssa.__version__,
    "file": ssa.__file__,
    "losses": losses,
    "modules": sorted({name.split(".")[0] for name in sys.modules}),
    "findable": [n for n in ("experiments", "analysis") if importlib.util.find_spec(n)],
}))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout: building leaves folders beside the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("ssa", "experiments", "analysis"):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    return source


@pytest.fixture(scope="module")
def wheel(source):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--wheel-dir", str(source / "dist"), "."]
    made = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return next((source / "dist").glob("*.whl"))


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return importlib.metadata.PathDistribution(
            zipfile.Path(archive, name.removesuffix("METADATA"))
        ).metadata


def link_with_requirements(names, folder):
    """Links in ``folder`` to the installed packages ``names`` and all that they require."""
    queue, linked = list(names), set()
    while queue:
        name = canonicalize_name(queue.pop())
        if name in linked:
            continue
        linked.add(name)
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))
        requirements = [Requirement(text) for text in distribution.requires or []]
        queue += [r.name for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    return linked


@pytest.mark.slow
def test_the_wheel_holds_the_library_only_and_requires_torch_and_pydantic(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"ssa"}
    for file in ("py.typed", "losses/kernels/upsampled_losses.c", "released/weights.yaml"):
        assert f"ssa/{file}" in names
    needed = [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist")]
    assert {r.name for r in needed if r.marker is None} == {"torch", "pydantic"}
    extras = {
        "mmseg",
        "lab",
        "slurm",
        "tensorboard",
        "wandb",
        "mlflow",
        "share",
        "publish",
        "pretrained",
        "docs",
        "dev",
    }
    assert set(metadata(wheel).get_all("Provides-Extra")) == extras


@pytest.mark.slow
def test_with_torch_and_pydantic_alone_every_classifier_trains(wheel, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    ask = [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    linked = link_with_requirements(("torch", "pydantic"), site)
    assert not linked & {"numpy", "pandas", "pyyaml", "onedl-mmengine"}
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", site, wheel], check=True, capture_output=True)

    command = [python, "-I", "-W", "ignore", "-c", TRAINING]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert Path(seen["file"]).is_relative_to(site)
    assert seen["version"] == metadata(wheel)["Version"]
    assert seen["light"], "import ssa imported torch"
    assert seen["losses"].keys() >= {"softmax", "ssa", "cac", "gmmseg", "protoseg", "dnc"}
    for name, losses in seen["losses"].items():
        assert len(losses) == 3, name
        assert all(0 < loss < float("inf") for loss in losses), (name, losses)
    assert seen["findable"] == []
    unwanted = {"mmseg", "mmengine", "mmcv", "cv2", "pandas", "yaml", "numpy", "scipy"}
    assert not unwanted & set(seen["modules"])


@pytest.mark.slow
def test_an_editable_install_puts_the_checkout_on_the_path(source, tmp_path):
    """``python -m experiments`` then works from any folder, though the wheel does not hold it."""
    build = "import sys; from setuptools.build_meta import build_editable as b; b(sys.argv[1])"
    command = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        (path_file,) = [name for name in archive.namelist() if name.endswith(".pth")]
        assert archive.read(path_file).decode().strip() == str(source)
