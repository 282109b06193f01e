"""A number belongs to the code that made it: edits while a run trains, and between its attempts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab import JOBS, PATIENCE_S, PROJECT, Lab, environment, heeding_interrupts, wait_until

from experiments.store.folder import RunFolder
from experiments.store.meaning import meaning_of_file
from experiments.store.progress import read_progress
from experiments.store.provenance import INERT
from experiments.store.records import Record

#: imported by every run, and by none of softmax
USED, LATER, UNUSED = (
    f"ssa/{name}.py" for name in ("datasets/transforms", "datasets/sampler", "classifiers/dnc")
)


@dataclass
class Copy:
    """A checkout that may be edited, and what its calls said."""

    root: Path
    lab: Lab
    said: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        jobs = ["--jobs", str(JOBS)] if words[0] != "plan" else []
        start = [sys.executable, "-W", "ignore", str(self.root / "experiments" / "start.py")]
        places = ["--registry", str(self.lab.registry), "--results", str(self.lab.results)]
        return [*start, "experiments", *words, "--profile", "long", *places, *jobs]

    @property
    def environment(self) -> dict[str, str]:
        return environment() | {"PYTHONPATH": str(self.root)}

    def edit(self, path: str) -> None:
        with (self.root / path).open("a") as file:
            file.write("\nEDITED = True\n")

    def plan(self) -> str:
        said = subprocess.run(
            self.command("plan", "one"), env=self.environment, capture_output=True, text=True,
            check=True, timeout=PATIENCE_S,
        )  # fmt: skip
        return " ".join(said.stdout.split())

    @contextmanager
    def training(self) -> Iterator[subprocess.Popen[str]]:
        with heeding_interrupts():
            process = subprocess.Popen(
                self.command("one"), env=self.environment, start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @property
    def folder(self) -> RunFolder:
        (folder,) = self.lab.runs
        return folder

    @property
    def log(self) -> str:
        return self.folder.log.read_text()

    def killed_at_a_checkpoint(self, after_ns: int = 0) -> int:
        """Train until there is a checkpoint newer than that; then kill all. Returns its time."""
        with self.training() as process:

            def newer() -> bool:
                kept = [folder.checkpoint for folder in self.runs if folder.checkpoint.exists()]
                return bool(kept) and kept[0].stat().st_mtime_ns > after_ns

            wait_until(newer, "a checkpoint")
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=PATIENCE_S)
        return self.folder.checkpoint.stat().st_mtime_ns

    @property
    def runs(self) -> list[RunFolder]:
        return self.lab.runs if self.lab.store.runs.exists() else []


@pytest.fixture(scope="module")
def story(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A run killed, taken up after one edit, begun anew after another, edited while it trains."""
    root = tmp_path_factory.mktemp("checkout")
    for package in ("ssa", "experiments"):
        shutil.copytree(PROJECT / package, root / package)
    copy = Copy(root, trained.blank(root / "results"))
    first = copy.killed_at_a_checkpoint()
    copy.edit(UNUSED)
    copy.killed_at_a_checkpoint(first)
    copy.said["log of the second"] = copy.log
    copy.edit(USED)
    copy.said["plan of the third"] = copy.plan()
    begun = f" training {copy.folder.path.name}"
    with copy.training() as process:
        wait_until(lambda: copy.log.count(begun) == 2, "the new start")
        wait_until(lambda: read_progress(copy.folder.progress), "the first step")
        copy.said["meaning before"] = meaning_of_file(root / LATER)
        copy.edit(LATER)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    copy.said["console"] = " ".join(err.split())
    copy.said["plan at the end"] = copy.plan()
    return copy


def record(copy: Copy) -> Record:
    found = copy.lab.store.read(copy.folder.path.name)
    assert found is not None
    return found


def name_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


@pytest.mark.slow
class TestStory:
    def test_an_edit_while_a_run_trains_is_not_credited_with_its_result(self, story: Copy) -> None:
        code, later = record(story).environment.code, name_of(LATER)
        assert code[later] == story.said["meaning before"]
        assert code[later] != meaning_of_file(story.root / LATER)
        assert "stale" in story.said["plan at the end"]
        assert f"changed since: {later} " in story.said["plan at the end"]

    def test_a_checkpoint_of_other_code_is_left_and_the_caller_told(self, story: Copy) -> None:
        assert "interrupted; starts anew" in story.said["plan of the third"]
        reason = f"its checkpoint was made with other code ({name_of(USED)}); it is kept as"
        assert f"starts anew: {reason} checkpoint.pth.other" in story.said["console"]
        assert (story.folder.path / "checkpoint.pth.other").exists()
        assert record(story).resumed_at == ()

    def test_an_edit_of_what_the_run_does_not_use_keeps_its_checkpoint(self, story: Copy) -> None:
        assert "starts anew" not in story.said["log of the second"]
        assert f" resuming {story.folder.path.name}" in story.said["log of the second"]


# --- what is noted as it is imported --------------------------------------------------------------

STALE_BYTECODE = """
    import json, os, sys, importlib
    from pathlib import Path
    place = Path(sys.argv[1])
    sys.path.insert(0, str(place))
    if sys.argv[2] == "heard":
        from experiments.store.loaded import listen, source_as_loaded
        listen()
    import helper
    heard = sys.argv[2] == "heard" and source_as_loaded(place / "helper.py").decode()
    print(json.dumps([helper.SCALE, heard]))
"""


def test_a_compiled_copy_of_a_file_with_its_old_time_is_not_what_runs(tmp_path: Path) -> None:
    """Python takes its copy for current where size and time are, which rsync -t and tar restore."""
    file, script = tmp_path / "helper.py", tmp_path / "run.py"
    script.write_text(textwrap.dedent(STALE_BYTECODE))

    def scale(how: str) -> list[object]:
        command = [sys.executable, str(script), str(tmp_path), how]
        said = subprocess.run(
            command, env=environment() | {"PYTHONDONTWRITEBYTECODE": ""}, capture_output=True,
            text=True, check=True, cwd=PROJECT,
        )  # fmt: skip
        return list(json.loads(said.stdout))

    file.write_text("SCALE = 1\n")
    os.utime(file, (1e9, 1e9))
    assert scale("unheard") == [1, False]
    file.write_text("SCALE = 2\n")
    os.utime(file, (1e9, 1e9))
    assert scale("unheard") == [1, False], "this Python looks at more than size and time"
    assert scale("heard") == [2, "SCALE = 2\n"]


EXECUTED = """
    import json, sys, threading
    from pathlib import Path
    from experiments.train import attempt
    from experiments.train.components import register_components
    from experiments.machine import PROJECT
    register_components()  # what importing calls, of all that a config may name, decides nothing
    files = set()
    def note(frame, event, _argument):
        if event == "call":
            files.add(frame.f_code.co_filename)
    threading.setprofile(note)
    sys.setprofile(note)
    code = attempt.main(sys.argv[2:])
    sys.setprofile(None)
    ours = [Path(f).relative_to(PROJECT) for f in files if f.startswith(str(PROJECT / "ssa"))]
    names = sorted({".".join(p.with_suffix("").parts).removesuffix(".__init__") for p in ours})
    Path(sys.argv[1]).write_text(json.dumps(names))
    sys.exit(code)
"""


def test_every_module_whose_code_ran_is_in_the_record(trained: Lab, tmp_path: Path) -> None:
    """What is followed by imports is held against what Python really called, loading included."""
    lab = trained.blank(tmp_path / "results")
    usual = lab.plan("full")
    # what a run's config names, and no object of it is an instance of
    paramwise = {"num_layers": 2, "layer_decay_rate": 0.9}
    change = {"constructor": "LayerDecay", "paramwise": paramwise}
    optimizer = usual.training.optimizer.model_copy(update=change)
    training = usual.training.model_copy(update={"optimizer": optimizer})
    spec = usual.model_copy(update={"training": training})
    folder = lab.store.write_spec(spec)
    script, called = tmp_path / "note.py", tmp_path / "called.json"
    script.write_text(textwrap.dedent(EXECUTED))
    command = [sys.executable, "-W", "ignore", str(script), str(called), str(folder.path)]
    said = subprocess.run(
        [*command, "--data", str(lab.data(spec))], env=environment(), capture_output=True,
        text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    names = set(json.loads(called.read_text()))
    found = lab.store.read(spec.run_id)
    assert found is not None
    counted = set(found.environment.code)
    assert {"ssa.datasets.transforms", "ssa.losses.native", "ssa.backbones.layer_decay"} <= names
    # the attempt itself only asks whether a user has described the data set
    assert names - counted <= INERT | {"ssa.datasets.folder"}
