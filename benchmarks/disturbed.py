"""Faults that befall the calls of a small table, and what is left of its results after each.

After a fault the same command is given again. Three things are counted: *lost*, a result that was
there and is not any more; *wrong*, a number that is not the one which undisturbed calls give; and
whether it *survived*: neither, a sentence without a traceback where one could still be said, and
in the end the same table, byte for byte.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.lab import (
    PAIR,
    PATIENCE_S,
    Lab,
    children_of,
    fill,
    is_alive,
    mounted,
    runs_of,
    wait_until,
)
from experiments.errors import CorruptRecordError, SsaError
from experiments.files import write_atomically
from experiments.machine import PROJECT
from experiments.store.folder import RunFolder
from experiments.store.progress import read_progress

#: the shipped profile ``smoke`` with more steps, so that there are checkpoints to go on from
PROFILE = """
name: {name}
title: {name}
description: Enough steps to be interrupted between two of them.
dataset: {dataset}
model_size: tiny
seeds: 1
training:
  iterations: 18
  batch: 4
  optimizer: {{type: AdamW, lr: 0.002, weight_decay: 0.01, paramwise: {{norm_decay_mult: 0.0}}}}
  schedule: {{power: 0.9, warmup_iterations: 2, warmup_ratio: 0.1}}
  augmentation: {{scale: [96, 96], ratio_range: [0.75, 1.5], crop: [64, 64]}}
evaluation: {{interval: 6, batch: 8}}
"""
SCENES = "{name: scenes, settings: {train: 24, val: 8}}"
SHAPES = PAIR.replace("name: pair", "name: shapes").replace("dataset: ade20k", "dataset: shapes")
#: a row that goes wrong after some steps, beside one that is well
TROUBLED = """
name: troubled
title: A row that is well and one that is not
source: nowhere
model: segnext_t
dataset: ade20k
rows:
  - {{id: baseline, label: Baseline, classifier: {{name: softmax}}}}
  - id: troubled
    label: Troubled
    classifier: {{name: troubled, overrides: {{how: {how}, at: {at}}}}}
"""
CLASSIFIER = '''
import resource
from pathlib import Path

import torch

from ssa.classifiers import CLASSIFIERS
from ssa.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig


class Config(SoftmaxConfig):
    how: str = "nan"
    at: int = 1


@CLASSIFIERS.register("troubled")
class Troubled(SoftmaxClassifier):
    """Softmax whose step ``at`` goes wrong."""

    Config = Config
    steps = 0

    def _loss(self, features, labels):
        losses = super()._loss(features, labels)
        self.steps += 1
        if self.steps != self.config.at:
            return losses
        if self.config.how == "nan":
            return {name: value * float("nan") for name, value in losses.items()}
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        few = pages * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (few, few))
        kept = []
        while True:
            kept.append(torch.ones(1 << 20))
'''
#: lets the processes that load it first read the time as many seconds off as a shared file says
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void) {
  static volatile long *said;
  if (!said) {
    const char *path = getenv("SSA_CAMPAIGN_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    static long none;
    said = map == MAP_FAILED ? &none : map;
    if (file >= 0) close(file);
  }
  return *said;
}

int clock_gettime(clockid_t which, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(which, now);
  if (!code && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += off();
  return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *into) {
  struct timespec exact;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  if (into) *into = exact.tv_sec;
  return exact.tv_sec;
}
"""
#: every run uses it; an edit that changes its meaning and no number
EDITED = "ssa/datasets/transforms.py"
#: the farthest that a clock is set back
YEARS_S = 3 * 365 * 86400


class UntriedError(Exception):
    """A fault that cannot be brought about on this machine; the text says why."""


@dataclass(frozen=True)
class Try:
    """What one fault left."""

    note: str  # what was done and when
    problems: tuple[str, ...] = ()  # what should not be
    lost: int = 0  # results that were there
    wrong: int = 0  # numbers that undisturbed calls do not give

    @property
    def survived(self) -> bool:
        """Whether nothing is lost, wrong or unclear, and the same command came to its end."""
        return not self.problems and not self.lost and not self.wrong


@dataclass
class Campaign:
    """An undisturbed table, and the places where the same is disturbed.

    Args:
        folder: of the campaign's own, for what it makes.
        reference: the table as undisturbed calls made it.
        profile: in which.
        duration_s: of a call that trains all of it.
    """

    folder: Path
    reference: Lab
    profile: str
    duration_s: float
    #: run → digest of its result
    expected: dict[str, str] = field(default_factory=dict, init=False)
    _places: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.expect(self.reference)

    @classmethod
    def made(cls, folder: Path) -> Campaign:
        """Write a registry and train its table undisturbed.

        Raises:
            RuntimeError: that failed.
        """
        registry = write_registry(folder / "registry")
        lab = Lab(folder / "reference", registry)
        began = time.perf_counter()
        _must(lab, "pair", "disturbed")
        return cls(folder, lab, "disturbed", time.perf_counter() - began)

    def expect(self, lab: Lab) -> None:
        """Take the results of undisturbed calls for what the same runs must give."""
        for run_id in lab.store.run_ids():
            record = lab.store.read(run_id)
            assert record is not None
            self.expected[run_id] = record.result_digest

    @functools.cached_property
    def shapes(self) -> Lab:
        """A table on images of a user's own, undisturbed."""
        lab = self.reference.blank(self.place())
        _must(lab, "shapes", "own")
        self.expect(lab)
        return lab

    @functools.cached_property
    def other_checkout(self) -> Path:
        """Another version of the project, which computes the same."""
        root = self.place()
        for package in ("ssa", "experiments"):
            shutil.copytree(
                PROJECT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        with (root / EDITED).open("a", encoding="utf-8") as file:
            file.write("\nEDITED = True\n")
        return root

    @functools.cached_property
    def clock(self) -> Path:
        """A library that sets back the clock of who loads it.

        Raises:
            UntriedError: there is no compiler.
        """
        root = self.place()
        root.mkdir()
        (root / "clock.c").write_text(CLOCK)
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", "clock.so", "clock.c", "-ldl"]
        try:
            subprocess.run(command, cwd=root, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UntriedError(f"a clock cannot be made ({error}); install gcc") from None
        return root / "clock.so"

    def place(self) -> Path:
        """A folder that is not there yet."""
        self._places += 1
        return self.folder / f"place{self._places:03d}"

    @contextmanager
    def blank(self) -> Iterator[Lab]:
        """Made data and no run; removed in the end."""
        lab = self.reference.blank(self.place())
        try:
            yield lab
        finally:
            shutil.rmtree(lab.results, ignore_errors=True)

    def wrong(self, lab: Lab) -> set[str]:
        """Runs with a record, or in an exported table, that undisturbed calls do not give."""
        digests: list[tuple[str, str]] = []
        for run_id in lab.store.run_ids():
            try:
                record = lab.store.read(run_id)
            except CorruptRecordError:
                continue  # it says so itself and passes for no number
            if record is not None:
                digests.append((run_id, record.result_digest))
        for path in (lab.results / "tables").glob("*.json"):
            for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
                digests += [(run["run_id"], run["result_digest"]) for run in row["runs"]]
        return {run_id for run_id, digest in digests if digest != self.expected.get(run_id)}

    def settled(
        self,
        lab: Lab,
        note: str,
        problems: list[str],
        before: dict[str, bytes],
        table: str = "pair",
        *,
        against: Lab | None = None,
    ) -> Try:
        """Give the same command again and look at what comes of it.

        Args:
            lab: where the fault was.
            note: what was done.
            problems: what was wrong already.
            before: records that were whole before the fault or when it was over.
            table: that the calls are for.
            against: the same undisturbed; None: the campaign's.
        """
        against = against or self.reference
        wrong = self.wrong(lab)
        profile = self.profile if table == "pair" else "own"
        said = lab.call(table, profile=profile)
        problems = [*problems, *unclear(said.stdout + said.stderr)]
        if said.returncode != 0:
            problems.append(f"the same command ends with code {said.returncode}: {tail(said)}")
        elif lab.exports() != against.exports():
            problems.append("the exported table is not that of undisturbed calls")
        wrong |= self.wrong(lab)
        lost = sum(read(lab, run_id) != raw for run_id, raw in before.items())
        return Try(note, tuple(problems), lost, len(wrong))


def write_registry(folder: Path) -> Path:
    """Tables, profiles, a classifier and a data set of the campaign."""
    example = PROJECT / "experiments" / "examples" / "bring_your_own"
    files = {
        "tables/pair.yaml": PAIR,
        "tables/shapes.yaml": SHAPES,
        "profiles/disturbed.yaml": PROFILE.format(name="disturbed", dataset=SCENES),
        "profiles/own.yaml": PROFILE.format(name="own", dataset="null"),
        "classifiers/troubled.py": CLASSIFIER,
        "datasets/shapes.yaml": (example / "datasets" / "shapes.yaml").read_text(),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    maker = [str(example / "make_images.py"), str(folder / "data" / "shapes")]
    subprocess.run([sys.executable, *maker], capture_output=True, check=True)
    return folder


# --- looking --------------------------------------------------------------------------------------


def whole_records(lab: Lab) -> dict[str, bytes]:
    """The records that are whole, as bytes."""
    records = {}
    for run_id in lab.store.run_ids():
        try:
            lab.store.read(run_id)
        except CorruptRecordError:
            continue
        records[run_id] = read(lab, run_id)
    return records


def finished_by(lab: Lab, before: dict[str, bytes]) -> dict[str, bytes]:
    """The records that were whole before a fault, as they were then, and those whole after it."""
    return whole_records(lab) | before


def read(lab: Lab, run_id: str) -> bytes:
    """The record of a run as bytes; none where it is gone."""
    try:
        return lab.store.folder(run_id).record.read_bytes()
    except FileNotFoundError:
        return b""


def unclear(text: str, *words: str) -> list[str]:
    """What a call should not have said, or should have.

    Args:
        text: its output.
        words: one of them must stand in it.
    """
    flat = " ".join(text.split())
    problems = ["a traceback on the console"] if "Traceback" in flat else []
    if words and not any(each in flat for each in words):
        problems.append(f"no word of '{words[0]}' in: {flat[-300:]}")
    return problems


def tail(said: subprocess.CompletedProcess[str]) -> str:
    """The end of what a call said."""
    return " ".join((said.stdout + said.stderr).split())[-300:]


def family(pid: int) -> dict[int, str]:
    """A call's living processes and what each is."""
    servers = children_of(pid)
    trainers = [each for server in servers for each in children_of(server)]
    roles = {pid: "the launcher"} if is_alive(pid) else {}
    roles |= dict.fromkeys(servers, "the fork server")
    return roles | dict.fromkeys(trainers, "a training process")


def iteration_of(folder: RunFolder) -> int:
    """How far a run is."""
    progress = read_progress(folder.progress)
    return progress.iteration if progress else 0


def passed(call: subprocess.Popen[str], seconds: float) -> float:
    """Let so many seconds of a call pass, or what it takes; returns them."""
    began = time.monotonic()
    while call.poll() is None and time.monotonic() - began < seconds:
        time.sleep(0.01)
    return time.monotonic() - began


def trains(lab: Lab, chance: Random, call: subprocess.Popen[str]) -> RunFolder | None:
    """Wait until a run of a call trains; None: it ended before."""
    wait_until(
        lambda: call.poll() is not None or any(map(iteration_of, runs_of(lab))), "the first step"
    )
    at_work = [each for each in runs_of(lab) if iteration_of(each) and not each.record.exists()]
    return chance.choice(at_work) if at_work else None


def ended(call: subprocess.Popen[str]) -> str:
    """All that a call says until its end."""
    out, err = call.communicate(timeout=PATIENCE_S)
    return out + err


def _must(lab: Lab, table: str, profile: str) -> None:
    said = lab.call(table, profile=profile)
    if said.returncode != 0:
        raise RuntimeError(f"the undisturbed call for {table} failed: {tail(said)}")


# --- signals --------------------------------------------------------------------------------------


def kill(campaign: Campaign, chance: Random) -> Try:
    """SIGKILL at a random moment: all processes of the call, or one of them."""
    everything, moment = chance.random() < 0.5, chance.uniform(0.0, campaign.duration_s)
    problems: list[str] = []
    with campaign.blank() as lab:
        with lab.calling("pair", profile=campaign.profile) as call:
            at = passed(call, moment)
            roles = family(call.pid)
            one = chance.choice(sorted(roles)) if roles else 0
            before = whole_records(lab)
            victim = "all processes" if everything else roles.get(one, "nobody: it had ended")
            if everything and roles:
                os.killpg(call.pid, signal.SIGKILL)
            elif roles and is_alive(one):
                os.kill(one, signal.SIGKILL)
            said = ended(call)
            wait_until(lambda: not any(map(is_alive, roles)), "the end of all processes")
            if call.returncode not in (0, 1, -signal.SIGKILL):
                problems.append(f"the call ended with code {call.returncode}")
            problems += unclear(said, *(("the same command",) if call.returncode == 1 else ()))
        note = f"{victim}, {at:.1f} s after the start"
        return campaign.settled(lab, note, problems, finished_by(lab, before))


def sigterm(campaign: Campaign, chance: Random) -> Try:
    """SIGTERM at a random moment, as a batch system or a shutdown sends it."""
    moment = chance.uniform(0.0, campaign.duration_s)
    problems: list[str] = []
    with campaign.blank() as lab:
        with lab.calling("pair", profile=campaign.profile) as call:
            at = passed(call, moment)
            roles = family(call.pid)
            before = whole_records(lab)
            call.send_signal(signal.SIGTERM)
            said = ended(call)
            wait_until(lambda: not any(map(is_alive, roles)), "the end of all processes")
            # what is asked to end while Python starts cannot say anything yet
            starting = call.returncode == -signal.SIGTERM and at < campaign.duration_s / 4
            if call.returncode not in (0, 130) and not starting:
                problems.append(f"the call ended with code {call.returncode}")
            problems += unclear(said, *(("the same command",) if call.returncode == 130 else ()))
        note = f"{at:.1f} s after the start, code {call.returncode}"
        return campaign.settled(lab, note, problems, finished_by(lab, before))


# --- disks ----------------------------------------------------------------------------------------


@contextmanager
def small_disk(campaign: Campaign, size: str = "96m") -> Iterator[Path]:
    """A file system that can be filled.

    Raises:
        UntriedError: none can be mounted here.
    """
    try:
        with mounted(campaign.place(), size) as disk:
            yield disk
    except PermissionError as error:
        raise UntriedError(f"no small disk can be mounted ({error}); run it as root") from None


def _weights_size(campaign: Campaign) -> int:
    folders = campaign.reference.runs
    return max(folder.weights.stat().st_size for folder in folders)


def full_at_a_checkpoint(campaign: Campaign, chance: Random) -> Try:
    """A disk that is full when the first checkpoint is written."""
    size = 3 * _weights_size(campaign)  # the state of AdamW has each weight three times
    return _full_in_training(campaign, chance, int(chance.uniform(0, size / 2)), checkpoints=0)


def full_at_a_record(campaign: Campaign, chance: Random) -> Try:
    """A disk that is full when weights, areas and record are written."""
    return _full_in_training(
        campaign, chance, int(chance.uniform(0, _weights_size(campaign))), checkpoints=2
    )


def _full_in_training(campaign: Campaign, chance: Random, but: int, checkpoints: int) -> Try:
    with small_disk(campaign) as disk:
        lab = campaign.reference.blank(disk / "results")
        row = chance.choice(("baseline", "full"))
        written: set[int] = set()

        def due() -> bool:
            for folder in runs_of(lab):
                if folder.checkpoint.exists():
                    written.add(folder.checkpoint.stat().st_mtime_ns)
            steps = any(map(iteration_of, runs_of(lab)))
            return call.poll() is not None or (steps and len(written) >= checkpoints)

        words = ("pair", "--rows", row)
        with lab.calling(*words, profile=campaign.profile) as call:
            wait_until(due, "the moment to fill the disk")
            fill(disk, but)
            said = ended(call)
        note = f"{row}, {but} bytes free after {len(written)} checkpoints, code {call.returncode}"
        problems = unclear(said, *(("The disk is full",) if call.returncode == 1 else ()))
        if call.returncode not in (0, 1):  # 0: it had room
            problems.append(f"the call ended with code {call.returncode}")
        before = whole_records(lab)
        (disk / "filler").unlink()
        return campaign.settled(lab, note, problems, before)


def full_at_an_export(campaign: Campaign, chance: Random) -> Try:
    """A disk that is full when the table's files are written."""
    with small_disk(campaign) as disk:
        lab = campaign.reference.copy(disk / "results")
        outdated = chance.choice(sorted((lab.results / "tables").iterdir()))
        outdated.write_bytes(outdated.read_bytes()[: chance.randrange(20)])
        but = chance.choice((0, 4096, 8192))
        fill(disk, but)
        before = whole_records(lab)
        said = lab.call("pair", profile=campaign.profile)
        note = f"{but} bytes free, {outdated.name} out of date, code {said.returncode}"
        words = ("The disk is full",) if said.returncode else ()
        problems = unclear(said.stdout + said.stderr, *words)
        (disk / "filler").unlink()
        return campaign.settled(lab, note, problems, before)


# --- damaged files --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A file that is kept between calls."""

    name: str
    path: Path
    #: what it says, to be compared; None: it says that it is damaged, or is left aside
    read: Callable[[], Any]


def kept_files(campaign: Campaign) -> list[Kept]:
    """A record, its areas, a checkpoint, and the index of a data set's digests."""
    from benchmarks.fuzz import readers, write_yard
    from experiments.declare.profile import DataChoice
    from experiments.plan.data import locate
    from experiments.store.tensors import read_tensors
    from experiments.store.workspace import Workspace
    from experiments.train.attempt import is_whole

    place = campaign.place()
    source = campaign.reference.runs[0]
    lab = Lab(place, campaign.reference.registry)
    folder = lab.store.folder(source.path.name)
    folder.path.mkdir(parents=True)
    for name in ("record.json", "per_image.npz"):
        shutil.copy(source.path / name, folder.path / name)

    def record() -> Any:
        try:
            return lab.store.read(folder.path.name)
        except CorruptRecordError:
            return None

    whole = next(each for each in readers() if each.name == "checkpoint").whole(place)
    checkpoint = place / "checkpoint.pth"
    checkpoint.write_bytes(whole)

    def state() -> Any:
        if not is_whole(checkpoint):
            return None
        held = read_tensors(checkpoint)
        return repr({key: held[key] for key in sorted(held)})

    data = place / "data" / "yard"
    write_yard(data)
    workspace = Workspace(place, place / "data")

    def located() -> Any:
        where = locate(DataChoice(name="yard"), workspace, anew=True)
        return where.digest, where.unfit

    located()
    index = [*workspace.cache.glob("digest-*.json"), *workspace.cache.glob("labels-*")]
    return [
        Kept("record", folder.record, record),
        Kept("areas", folder.per_image, record),
        Kept("checkpoint", checkpoint, state),
        *(Kept(f"index {path.name.split('-')[0]}", path, located) for path in index),
    ]


def cut(campaign: Campaign, chance: Random, tries: int | None) -> Iterator[Try]:
    """Record, areas, checkpoint and index cut at every length, or at ``tries`` of each."""
    for kept in kept_files(campaign):
        whole, said = kept.path.read_bytes(), kept.read()
        lengths = range(len(whole))
        for length in lengths if tries is None else sorted(chance.choices(lengths, k=tries)):
            yield _damaged(kept, whole[:length], said, f"{kept.name} cut at {length}")
        kept.path.write_bytes(whole)


def flip(campaign: Campaign, chance: Random, tries: int | None) -> Iterator[Try]:
    """Up to twenty bits flipped in record, areas and checkpoint, ``tries`` times each."""
    for kept in kept_files(campaign):
        if kept.name.startswith("index"):
            continue  # has no checksum: what it costs is a run of another name, never a number
        whole, said = kept.path.read_bytes(), kept.read()
        for _ in range(1000 if tries is None else tries):
            spoilt = bytearray(whole)
            places = [chance.randrange(8 * len(whole)) for _ in range(chance.choice((1, 1, 2, 20)))]
            for bit in places:
                spoilt[bit // 8] ^= 1 << bit % 8
            yield _damaged(kept, bytes(spoilt), said, f"{kept.name} flipped at bits {places}")
        kept.path.write_bytes(whole)


def _damaged(kept: Kept, content: bytes, said: Any, note: str) -> Try:
    """Whether a damaged file is told from a whole one, or still says the same."""
    kept.path.write_bytes(content)
    try:
        value = kept.read()
    except SsaError as error:
        problems = () if str(error).strip() else ("an error without a sentence",)
        return Try(note, problems)
    except Exception as error:  # noqa: BLE001  whatever it is: it is no error of ours
        return Try(note, (f"{type(error).__name__}: {error}"[:300],))
    return Try(note, wrong=int(value is not None and value != said))


def damaged_result(campaign: Campaign, chance: Random) -> Try:
    """A record or its areas cut or flipped; then the same command."""
    place = campaign.place()
    lab = campaign.reference.copy(place)
    folder = chance.choice(lab.runs)
    path = chance.choice((folder.record, folder.per_image))
    note = _spoil(path, chance)
    try:
        before = whole_records(lab)
        said = lab.call("pair", profile=campaign.profile)
        problems = unclear(said.stdout + said.stderr, "is damaged")
        return campaign.settled(lab, note, problems, before)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def damaged_checkpoint(campaign: Campaign, chance: Random) -> Try:
    """A checkpoint cut or flipped between the kill of its run and the same command."""
    with campaign.blank() as lab:
        with lab.calling("pair", profile=campaign.profile) as call:
            kept = [False]

            def ready() -> bool:
                kept[0] = any(folder.checkpoint.exists() for folder in runs_of(lab))
                return kept[0] or call.poll() is not None

            wait_until(ready, "a checkpoint")
            roles = family(call.pid)
            os.killpg(call.pid, signal.SIGKILL)
            ended(call)
            wait_until(lambda: not any(map(is_alive, roles)), "the end of all processes")
        paths = [f.checkpoint for f in runs_of(lab) if f.checkpoint.exists()]
        note = _spoil(chance.choice(paths), chance) if paths else "there was no checkpoint"
        return campaign.settled(lab, note, [], whole_records(lab))


def _spoil(path: Path, chance: Random) -> str:
    """Cut a file or flip a byte of it; says what was done."""
    raw = bytearray(path.read_bytes())
    place = chance.randrange(len(raw))
    if chance.random() < 0.5:
        path.write_bytes(bytes(raw[:place]))
        return f"{path.name} cut at {place} of {len(raw)}"
    raw[place] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(raw))
    return f"{path.name} flipped at byte {place} of {len(raw)}"


# --- clocks, folders ------------------------------------------------------------------------------


def clock_set_back(campaign: Campaign, chance: Random) -> Try:
    """A clock that is set back while the call runs, which is then killed; files of the future."""
    library, place = campaign.clock, campaign.place()
    said = place.with_suffix(".clock")
    said.write_bytes(struct.pack("l", 0))
    back = int(10 ** chance.uniform(1.8, 8))  # a minute to three years
    back = min(back, YEARS_S)
    plain = campaign.reference.blank(place)
    variables = {"LD_PRELOAD": str(library), "SSA_CAMPAIGN_CLOCK": str(said)}
    lab = Lab(plain.results, plain.registry, variables)
    moment, killed = chance.uniform(0.0, campaign.duration_s), chance.random() < 0.5
    try:
        with lab.calling("pair", profile=campaign.profile) as call:
            at = passed(call, moment)
            before = whole_records(lab)
            with said.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
                shared[:8] = struct.pack("l", -back)
            roles = {}
            if killed:
                passed(call, chance.uniform(0.0, campaign.duration_s / 2))
                roles = family(call.pid)
                if roles:
                    os.killpg(call.pid, signal.SIGKILL)
            words = ended(call)
            wait_until(lambda: not any(map(is_alive, roles)), "the end of all processes")
        problems = unclear(words)
        if call.returncode not in (0, -signal.SIGKILL):
            problems.append(f"the call ended with code {call.returncode}: {words[-300:]}")
        future = time.time() + back
        for path in lab.results.rglob("*"):
            if path.is_file() and "cache" not in path.parts:
                os.utime(path, (future, future))
        note = f"{back} s back, {at:.1f} s after the start, killed: {killed}"
        return campaign.settled(lab, note, problems, finished_by(lab, before))
    finally:
        shutil.rmtree(place, ignore_errors=True)
        said.unlink()


def folder_deleted(campaign: Campaign, chance: Random) -> Try:
    """A run's folder that is removed while the run trains."""
    with campaign.blank() as lab:
        with lab.calling("pair", profile=campaign.profile) as call:
            folder = trains(lab, chance, call)
            at = passed(call, chance.uniform(0.0, 1.0))
            removed = folder is not None and not folder.record.exists()
            before = whole_records(lab)
            if folder is not None and removed:
                shutil.rmtree(folder.path, ignore_errors=True)
                before.pop(folder.path.name, None)  # it ended just now
            said = ended(call)
        name = folder.path.name if folder is not None and removed else "nothing"
        note = f"{name} removed {at:.1f} s after its first step, code {call.returncode}"
        problems = unclear(said, *(("same command",) if call.returncode == 1 else ()))
        if call.returncode not in (0, 1):
            problems.append(f"the call ended with code {call.returncode}")
        return campaign.settled(lab, note, problems, finished_by(lab, before))


# --- what goes wrong inside a run -----------------------------------------------------------------


def not_a_number(campaign: Campaign, chance: Random) -> Try:
    """A loss that is no number from some step on."""
    return _troubled(campaign, chance.randint(1, 18), "nan", "is no longer a finite number")


def memory_exhausted(campaign: Campaign, chance: Random) -> Try:
    """Memory that is used up in some step, by a limit of the address space."""
    said = "of a batch of 4 images, 4 at a time (accumulation 1)"
    return _troubled(campaign, chance.randint(1, 18), "memory", said)


def _troubled(campaign: Campaign, at: int, how: str, sentence: str) -> Try:
    registry = campaign.place()
    shutil.copytree(campaign.reference.registry, registry)
    (registry / "tables" / "troubled.yaml").write_text(TROUBLED.format(how=how, at=at))
    with campaign.blank() as plain:
        lab = Lab(plain.results, registry)
        said = lab.call("troubled", profile=campaign.profile)
        problems = unclear(said.stdout + said.stderr, sentence)
        if said.returncode != 1:
            problems.append(f"the call ended with code {said.returncode}")
        if len(whole_records(lab)) != 1:
            problems.append("the row that is well has no record, or the other has")
        wrong = len(campaign.wrong(lab))
    shutil.rmtree(registry, ignore_errors=True)
    return Try(f"at step {at}", tuple(problems), wrong=wrong)


def image_unreadable(campaign: Campaign, chance: Random) -> Try:
    """An image that is removed, emptied, cut, overwritten or exchanged while runs train on it."""
    against = campaign.shapes
    photos = sorted((campaign.reference.registry / "data" / "shapes" / "photos").rglob("*.jpg"))
    path = chance.choice(photos)
    raw = path.read_bytes()
    how = chance.choice(("removed", "emptied", "cut", "overwritten", "exchanged"))
    with campaign.blank() as lab:
        try:
            with lab.calling("shapes", profile="own") as call:
                trains(lab, chance, call)
                at = passed(call, chance.uniform(0.0, 0.5))
                before = whole_records(lab)
                if how == "removed":
                    path.unlink()
                elif how == "exchanged":
                    path.write_bytes(next(p for p in photos if p != path).read_bytes())
                else:
                    keep = {"emptied": 0, "cut": len(raw) // 2, "overwritten": 0}[how]
                    filler = b"x" * len(raw) if how == "overwritten" else b""
                    path.write_bytes(raw[:keep] + filler)
                said = ended(call)
        finally:
            write_atomically(path, raw)
        note = f"{path.parent.name}/{path.name} {how} {at:.1f} s after the first step"
        note += f", code {call.returncode}"
        words = (path.name, "changed while") if call.returncode else ()
        problems = unclear(said, *words)
        if call.returncode not in (0, 1):
            problems.append(f"the call ended with code {call.returncode}")
        before = finished_by(lab, before)
        return campaign.settled(lab, note, problems, before, "shapes", against=against)


# --- several --------------------------------------------------------------------------------------


def three_callers(campaign: Campaign, chance: Random) -> Try:
    """Three calls on one folder, of which one may be killed with all its processes."""
    problems: list[str] = []
    killed = chance.random() < 0.5
    with campaign.blank() as lab, ExitStack() as stack:
        calls, before = [], {}
        for _ in range(3):
            calls.append(stack.enter_context(lab.calling("pair", profile=campaign.profile)))
            time.sleep(chance.uniform(0.0, 2.0))
        if killed:
            passed(calls[0], chance.uniform(0.0, campaign.duration_s))
            before = whole_records(lab)
            if calls[0].poll() is None:
                os.killpg(calls[0].pid, signal.SIGKILL)
        for number, call in enumerate(calls):
            said = ended(call)
            problems += unclear(said)
            if call.returncode != 0 and not (killed and number == 0):
                problems.append(f"call {number} ended with code {call.returncode}: {said[-300:]}")
        before = finished_by(lab, before)
        return campaign.settled(lab, f"one killed: {killed}", problems, before)


def two_versions(campaign: Campaign, chance: Random) -> Try:
    """Two versions of the project on one folder, of which one is killed with all its processes."""
    problems: list[str] = []
    with campaign.blank() as lab:
        other = Lab(lab.results, lab.registry, checkout=campaign.other_checkout)
        pair = [lab, other]
        chance.shuffle(pair)
        with ExitStack() as stack:
            calls = []
            for each in pair:
                calls.append(stack.enter_context(each.calling("pair", profile=campaign.profile)))
                time.sleep(chance.uniform(0.0, 3.0))
            at = passed(calls[0], chance.uniform(0.0, campaign.duration_s))
            before = whole_records(lab)
            if calls[0].poll() is None:
                os.killpg(calls[0].pid, signal.SIGKILL)
            for call in calls:
                problems += unclear(ended(call))
            if calls[1].returncode != 0:
                problems.append(f"the other version ended with code {calls[1].returncode}")
        before, wrong = finished_by(lab, before), campaign.wrong(lab)
        for each in pair:
            said = each.call("pair", profile=campaign.profile)
            problems += unclear(said.stdout + said.stderr)
            if said.returncode != 0:
                problems.append(f"a version ends with code {said.returncode}: {tail(said)}")
            wrong |= campaign.wrong(lab)
        lost = sum(read(lab, run_id) != raw for run_id, raw in before.items())
        first = "this version" if pair[0] is lab else "the other version"
        return Try(f"{first} killed after {at:.1f} s", tuple(problems), lost, len(wrong))
