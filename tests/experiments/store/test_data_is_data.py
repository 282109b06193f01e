"""What is loaded is data: it executes nothing, leaves no folder, takes no memory that it claims."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.runner.checkpoint import load_checkpoint
from rich.console import Console
from samples import make_areas, make_record, make_spec, put

from benchmarks import fuzz
from benchmarks.fuzz import Bomb, Damage, Reader, readers
from experiments.declare.load import _read
from experiments.declare.model import ModelCard
from experiments.declare.network import check_network
from experiments.declare.profile import DataChoice
from experiments.declare.training import Optimizer
from experiments.declare.yaml_files import read_yaml
from experiments.errors import CorruptRecordError, RegistryError, StoreError
from experiments.files import parsed_json, read_bounded
from experiments.machine import PROJECT
from experiments.nested import flatten
from experiments.plan.data import locate
from experiments.plan.plan import PastCosts
from experiments.show.watch import RunWatch, drawn
from experiments.store.arrays import npz_arrays, npz_bytes
from experiments.store.lock import run_lock
from experiments.store.progress import read_progress
from experiments.store.records import seal
from experiments.store.store import Store
from experiments.store.tensors import read_data_alone, read_tensors
from experiments.store.workspace import Workspace
from experiments.train.attempt import STATE, is_whole, spec_of
from experiments.train.trained import MissingWeightsError, read_weights
from ssa.datasets.base import DataError
from ssa.datasets.scenes import META

AREAS = make_areas(0)
READERS = {reader.name: reader for reader in readers()}


@pytest.fixture(scope="module")
def damages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Damage]:
    return {
        name: Damage(reader, tmp_path_factory.mktemp("read")) for name, reader in READERS.items()
    }


@pytest.mark.parametrize("name", READERS)
def test_any_file_ends_in_a_value_or_in_our_own_error(
    damages: dict[str, Damage], name: str
) -> None:
    """A hundred files a reader."""
    damage = damages[name]

    @settings(max_examples=100, database=None)
    @given(kind=st.sampled_from(Damage.KINDS), number=st.integers(0, 2**63))
    def one(kind: str, number: int) -> None:
        damage.outcome(kind, number)

    one()


def test_the_whole_files_are_read(damages: dict[str, Damage]) -> None:
    """Or else the test above would say nothing of what comes after the first check."""
    for name, damage in damages.items():
        damage.path.write_bytes(damage.whole)
        read: Reader = READERS[name]
        assert read.read(damage.folder) is not False, name


#: a file of which readers see the beginning only, or that others read; and why
ELSEWHERE = {
    "picture of a figure": "it has a size of its own, of pixels, in its header",
    "data set's digests": "what is kept is replaced by a name that the reader chooses",
}


@pytest.mark.parametrize("what", ["a terabyte of nothing", "a pipe", "nested without end"])
@pytest.mark.parametrize("name", [name for name in READERS if name not in ELSEWHERE])
def test_no_reader_waits_or_takes_memory_for_what_is_no_file_of_ours(
    tmp_path: Path, name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "PATIENCE_S", 20.0)
    reader = READERS[name]
    path = Damage(reader, tmp_path).path
    path.unlink(missing_ok=True)
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "nested without end":
        path.write_bytes(b"[" * 200_000)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)  # takes no room
    with fuzz.ending(), contextlib.suppress(*reader.own):
        reader.read(tmp_path)


@pytest.mark.parametrize("classifier", [{}, {"name": None}, {"name": ["ssa"]}])
def test_a_spec_without_a_classifiers_name_is_damaged(
    tmp_path: Path, classifier: dict[str, object]
) -> None:
    folder = Store(tmp_path).folder("a-run")
    folder.path.mkdir(parents=True)
    document = make_spec().model_dump(mode="json") | {"classifier": classifier}
    folder.spec.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"is damaged .*give the same command again"):
        spec_of(folder)


@pytest.mark.parametrize("content", [b"[" * 200_000, b"[]", b"{}", None])
@pytest.mark.parametrize("name", ["yard", "scenes"])
def test_what_is_kept_of_a_data_set_is_looked_at_first(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    """``cache/`` lies in the results folder, which others may write to."""
    fuzz.write_yard(tmp_path / "yard")
    workspace = Workspace(tmp_path, tmp_path)
    choice = DataChoice(name=name, settings={"train": 2, "val": 1} if name == "scenes" else {})
    whole = locate(choice, workspace, anew=True)
    kept = {"yard": "digest-*.json", "scenes": f"scenes-*/{META}"}[name]
    (path,) = workspace.cache.glob(kept)
    if content is None:
        with path.open("wb") as file:
            file.truncate(1 << 40)  # takes no room
    else:
        path.write_bytes(content)
    if name == "yard" and content is not None:  # made anew
        assert locate(choice, workspace, anew=True) == whole
        return
    with pytest.raises(DataError, match=r"delete .*made again"):
        locate(choice, workspace, anew=True)


#: where something is parsed without a bound, and why it needs none
UNBOUNDED = {
    "experiments/declare/yaml_files.py": "what read_bounded gave",
    "experiments/files.py": "parsed_json itself",
    "experiments/launch/fork_server.py": "what a process of ours says through a pipe",
    "experiments/plan/data.py": "settings of this process as text",
    "experiments/plan/one_image.py": "a network of this process as text",
    "experiments/show/count_table.py": "a table of this process as text",
    "experiments/store/areas.py": "not called for stored files; Store.read_areas is",
    "experiments/store/provenance.py": "a file of the package",
    "analysis/embedding.py": "what read_bounded gave",
}
PARSERS = {
    *("json.load", "json.loads", "np.load", "np.loadtxt", "np.genfromtxt", "pickle.load"),
    *("pickle.loads", "torch.load", "yaml.load", "yaml.safe_load"),
}


def test_whatever_parses_a_file_looks_at_it_first() -> None:
    """By its text: read_bounded, parsed_json, npz_arrays, read_tensors and read_yaml do."""
    unbounded = set()
    for package in ("analysis", "experiments"):
        for path in (PROJECT / package).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(call, ast.Call):
                    continue
                name, given = ast.unparse(call.func), " ".join(map(ast.unparse, call.args))
                whole = ".read_bytes()" in given or ".read_text(" in given
                if name in PARSERS or (name.endswith(("validate_json", "parsed_json")) and whole):
                    unbounded.add(path.relative_to(PROJECT).as_posix())
    examples = {name for name in unbounded if name.startswith("experiments/examples/")}
    assert unbounded - examples == UNBOUNDED.keys()


# --- code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"type": "os.system", "command": "true"},
        {"decode_head": [{"type": "subprocess.Popen", "args": ["true"]}]},
        {"backbone": {"type": "mmengine.load", "file": "x.pkl"}},
        {"backbone": {"type": "antigravity"}},
        {"backbone": {"type": "EncoderDecoder", "init_cfg": {"checkpoint": "http://x/y.pth"}}},
        {"pretrained": "open-mmlab://resnet50"},
        {"decode_head": {"wrapper": "builtins.exec"}},
    ],
    ids=lambda config: next(iter(config)),
)
def test_a_config_that_names_code_is_refused_wherever_it_comes_in(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    """mmengine imports and calls what nobody registered: from a model file, or a stored run."""
    with pytest.raises(ValueError, match=r"names Python code|would load a file"):
        check_network(config)
    card = {"name": "a", "title": "a", "backbone": "a", "source": "a", "segmentor": config}
    (tmp_path / "a.yaml").write_text(json.dumps(card))
    with pytest.raises(RegistryError, match=r"a\.yaml: segmentor: "):
        _read(tmp_path / "a.yaml", ModelCard)
    store = Store(tmp_path)
    record = put(store, make_spec(), AREAS).model_dump(mode="json")
    record["spec"]["segmentor"] = config
    store.folder(record["run_id"]).record.write_text(seal(record))
    with pytest.raises(CorruptRecordError, match="is damaged"):
        store.read(record["run_id"])


def test_what_is_registered_is_no_code() -> None:
    check_network({"type": "mmseg.EncoderDecoder", "up": {"type": "deconv"}, "act": {"type": "X"}})
    with pytest.raises(ValueError, match="names Python code"):
        Optimizer(type="SGD", lr=0.1, weight_decay=0.0, constructor="os.system")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_checkpoint_with_code_is_not_resumed_from(tmp_path: Path, protocol: int) -> None:
    """mmengine unpickles, with a warning, what torch refuses."""
    path, canary = tmp_path / "checkpoint.pth", tmp_path / "executed"
    whole = dict.fromkeys(STATE) | {"state_dict": {"a": torch.ones(2)}}
    torch.save(whole, path)
    assert is_whole(path)
    torch.save(whole | {"meta": Bomb(canary)}, path, pickle_protocol=protocol or 2)
    assert not is_whole(path)
    torch.save({"a": Bomb(canary)}, path)
    with pytest.raises(MissingWeightsError, match="is damaged"):
        read_weights(path)
    assert not canary.exists()


def test_a_training_process_unpickles_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever mmengine asks torch for."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    torch.save({"a": Bomb(tmp_path / "executed")}, tmp_path / "checkpoint.pth")
    read_data_alone()
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / "checkpoint.pth"))
    assert not (tmp_path / "executed").exists()


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/etc", "a/../../b", "a\\b", "a\0b"])
def test_a_runs_name_is_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="leads out of"):
        Store(tmp_path).folder(name)


def test_a_spec_whose_name_leads_elsewhere_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="leads out of"):
        Store(tmp_path / "results").write_spec(make_spec(model="../../outside"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["the folder", "the log", "the lock"])
def test_a_run_is_written_into_its_own_folder_only(tmp_path: Path, what: str) -> None:
    """Results of somebody else may hold links to files of ours."""
    store, spec = Store(tmp_path / "results"), make_spec()
    precious = tmp_path / "precious"
    folder = store.folder(spec.run_id)
    if what == "the folder":
        precious.mkdir()
        store.runs.mkdir(parents=True)
        folder.path.symlink_to(precious)
    else:
        precious.write_text("precious")
        folder.path.mkdir(parents=True)
        {"the log": folder.log, "the lock": folder.lock}[what].symlink_to(precious)
    with pytest.raises(StoreError, match=r"is a link to .*precious.*`rm .*give the same command"):
        store.write_spec(spec)
    assert not precious.is_dir() or list(precious.iterdir()) == []


def test_results_may_lie_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    put(Store(tmp_path / "results"), make_spec(), AREAS)
    put(Store(tmp_path / "results"), make_spec(seed=1), AREAS)


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = put(store, make_spec(), AREAS).run_id
    record = store.folder(run).record
    record.unlink()
    os.mkfifo(record)
    with pytest.raises(StoreError, match="it is no regular file"):
        store.read(run)
    record.unlink()
    record.symlink_to("/dev/zero")
    with pytest.raises(StoreError, match="it is no regular file"):
        store.read(run)
    record.unlink()
    with record.open("wb") as file:
        file.truncate(1 << 40)  # takes no room
    with pytest.raises(CorruptRecordError, match="1099511627776 bytes, where at most"):
        store.read(run)
    assert store.peek(run) is None


def test_a_record_is_its_folders(tmp_path: Path) -> None:
    """Copied over another's, it would be that one's number."""
    store = Store(tmp_path)
    one, other = (put(store, make_spec(seed=seed), make_areas(seed)) for seed in (0, 1))
    for name in ("record", "per_image"):
        source = getattr(store.folder(one.run_id), name)
        getattr(store.folder(other.run_id), name).write_bytes(source.read_bytes())
    with pytest.raises(CorruptRecordError, match=f"it is the record of {one.run_id}"):
        store.read(other.run_id)


# --- sizes ----------------------------------------------------------------------------------------


def test_a_record_of_a_billion_classes_is_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = make_record(make_spec(num_classes=10**9), AREAS)
    store.write_record(record, AREAS.to_bytes())
    with pytest.raises(CorruptRecordError, match="says 1000000000 classes, at most 65536"):
        store.read(record.run_id)


@pytest.mark.parametrize("shape", [(10**13,), (10**6, 10**6), (-1,), (2**62, 4)])
def test_an_array_that_claims_more_than_it_has_takes_no_memory(shape: tuple[int, ...]) -> None:
    header = repr({"descr": "<i8", "fortran_order": False, "shape": shape}).encode().ljust(118)
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", 119) + header + b"\n" + bytes(64)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(ValueError, match="claims"):
        npz_arrays(buffer.getvalue())


def test_an_archive_that_unpacks_to_more_is_refused() -> None:
    raw = npz_bytes(a=np.zeros(1 << 20, np.uint8))
    assert len(raw) < 1 << 12
    with pytest.raises(ValueError, match="its arrays claim 1048704 bytes, at most 1000"):
        npz_arrays(raw, most=1000)
    lying = bytearray(raw)
    at = lying.rfind(b"PK\x01\x02") + 24  # the size that the directory says
    lying[at : at + 4] = struct.pack("<I", 200)
    with pytest.raises(ValueError, match=r"claims|CRC"):
        npz_arrays(bytes(lying), most=1000)


@pytest.mark.parametrize(
    "odd",
    [
        {"iterations": 10**400},
        {"iteration": -(10**400)},
        {"iteration_ms": float("nan")},
        {"iteration_ms": float("inf")},
        {"iterations": True},
        {"miou": "20"},
    ],
)
def test_a_progress_of_numbers_that_no_run_has_is_none(tmp_path: Path, odd: dict[str, Any]) -> None:
    """`status --watch` counts with them: how long it takes, for instance."""
    store = Store(tmp_path)
    folder = store.write_spec(make_spec())
    whole = {"iteration": 3, "iterations": 9, "iteration_ms": 1.5, "miou": 20.0, "time": 1.0}
    folder.progress.write_text(json.dumps(whole))
    assert read_progress(folder.progress) is not None
    folder.progress.write_text(json.dumps(whole | odd))
    with run_lock(folder):
        shown = drawn(RunWatch(store, PastCosts([])).look())
    Console(file=io.StringIO()).print(shown)
    assert read_progress(folder.progress) is None


def test_areas_that_do_not_fit_each_other_are_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = put(store, make_spec(), AREAS).run_id
    arrays = npz_arrays(AREAS.to_bytes())
    odd: dict[str, Any] = {
        "intersection": arrays["intersection"][:2],
        "names": np.arange(6),
        "labelled": -arrays["labelled"],
        "predicted": arrays["predicted"].astype(float),
    }
    for name, array in odd.items():
        store.folder(run).per_image.write_bytes(npz_bytes(**arrays | {name: array}))
        with pytest.raises(CorruptRecordError, match="is damaged"):
            store.read_areas(run)


def test_tensors_that_are_packed_are_refused(tmp_path: Path) -> None:
    """A thousand times their size, where torch would unpack them."""
    torch.save({"a": torch.zeros(1 << 18)}, tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert read_tensors(tmp_path / "whole.pth")["a"].shape == (1 << 18,)
    with pytest.raises(ValueError, match="compressed"):
        read_tensors(tmp_path / "packed.pth")


@pytest.mark.parametrize(
    "joined", ["[{many}]", "{{<<: [{many}], own: 1}}"], ids=["lists", "merged"]
)
def test_anchors_that_repeat_each_other_without_end_are_refused(
    tmp_path: Path, joined: str
) -> None:
    lines = ["a0: &a0 {a: 0, b: 0}"]
    for level in range(1, 30):
        many = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} " + joined.format(many=many).replace("own", f"x{level}"))
    (tmp_path / "x.yaml").write_text("\n".join(lines))
    with pytest.raises(RegistryError, match="more than 200000 values"):
        read_yaml(tmp_path / "x.yaml")


def test_nesting_without_end_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nested without end"):
        parsed_json("[" * 100_000)
    deep: Any = 0
    for _ in range(5000):
        deep = {"a": deep}
    assert list(flatten(deep).values()) == ["(nested deeper)"]
    with pytest.raises(ValueError, match="at most 32 levels"):
        check_network(deep)
    (tmp_path / "deep.yaml").write_text("[" * 100 + "]" * 100)
    with pytest.raises(RegistryError, match="more than 64 levels"):
        read_yaml(tmp_path / "deep.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_bounded(tmp_path, 10)


def test_a_bound_is_no_memory_taken(tmp_path: Path) -> None:
    """A run whose memory is exhausted still reads its spec, to say what did not fit."""
    (tmp_path / "small").write_bytes(b"{}")
    tracemalloc.start()
    try:
        assert read_bounded(tmp_path / "small", 64 << 20) == b"{}"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
