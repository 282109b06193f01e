"""Readers and what is made to break them: bytes, cuts, flips, and whole files that say too much.

    ./run_all.sh bench fuzz                                 # 10,000 inputs a reader
    ./run_all.sh bench fuzz --inputs 500 --reader areas --reader checkpoint

The suite gives every reader a hundred inputs, :func:`fuzz` as many as are asked for. Each ends in
a value or in one of the errors that the reader's text names; nothing in it is executed, nothing
is written, and memory is bounded. An input that ends otherwise is counted and kept by its numbers:
``Damage(reader, folder).outcome(kind, number)`` reads it again.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import json
import multiprocessing
import pickle
import resource
import signal
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from benchmarks.kept_rows import KeptRows
from benchmarks.record import Benchmark, Clock, Figure, table_of
from experiments.errors import SsaError
from experiments.store.store import Store
from experiments.store.workspace import REFERENCE

#: values that stand where others belong
HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**9, 10**30, 1e308, -0.5, "", "x" * 3000, "../../../etc/passwd"),
    *("/etc/passwd", "..", "a\0b", "<script>alert(1)</script>", "\ud800", "NaN", [], {}, [[]]),
    *([0] * 2000, {"type": "os.system"}, {"type": "posix.system", "command": "true"}),
)
#: inputs that follow from one number of hypothesis: drawing it costs more than reading a file
TOGETHER = 50
#: seconds after which an input counts as one without an end
PATIENCE_S = 30.0
#: MiB by which a reader's process may grow: what all arrays of one file may take
MOST_MIB = 1024.0
#: inputs that ended otherwise and are kept by their numbers, a reader
KEPT = 20
#: of the table
COLUMNS = ("reader", "inputs", "a value", "our own error", "other")
#: what executes it where a reader lets it
PAYLOAD = "import pathlib; pathlib.Path({path!r}).touch()"


@dataclass(frozen=True)
class Reader:
    """One way in which a file comes in."""

    name: str
    place: str  # of the file, below a folder
    whole: Callable[[Path], bytes]  # a file as we write it; may put others beside
    read: Callable[[Path], object]  # of the folder
    made: Callable[[bytes, Random, Path], bytes] | None = None  # one that is well-formed and odd
    own: tuple[type[Exception], ...] = (SsaError,)  # what it may raise


class Damage:
    """From a whole file to one that is not: the kind is drawn by hypothesis, the rest by a seed."""

    KINDS = ("random", "cut", "flipped", "spliced", "repeated", "made", "made")

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.folder = reader, folder
        path = folder / reader.place
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.whole = path, reader.whole(folder)
        self.canary = folder / "executed"

    def content(self, kind: str, seed: int) -> bytes:
        """The damaged file."""
        chance, whole = Random(seed), bytearray(self.whole)
        if kind == "made" and self.reader.made:
            return self.reader.made(self.whole, chance, self.canary)
        place = chance.randrange(len(whole))
        if kind == "random":
            return chance.randbytes(chance.choice((0, 1, 8, 200)))
        if kind == "cut":
            return bytes(whole[:place])
        if kind == "flipped":
            for _ in range(chance.choice((1, 1, 2, 20))):
                whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        elif kind == "spliced":
            whole[place : place + chance.randrange(40)] = chance.randbytes(chance.randrange(40))
        else:
            end = place + chance.randrange(200)
            whole[place:place] = whole[place:end] * chance.choice((1, 2, 50))
        return bytes(whole)

    def outcome(self, kind: str, seed: int) -> str:
        """``value`` or the name of our own error; whatever else the reader raises is raised."""
        self.path.write_bytes(self.content(kind, seed))
        try:
            self.reader.read(self.folder)
        except self.reader.own as error:
            if not str(error).strip():
                raise
            return type(error).__name__
        finally:
            assert not self.canary.exists(), "code in a file was executed"
        return "value"


# --- files that are well-formed and odd -----------------------------------------------------------


def odd_json(document: Any, chance: Random) -> Any:
    """The document with one to three of its values replaced, removed or doubled."""
    document = json.loads(json.dumps(document))
    for _ in range(chance.choice((1, 1, 2, 3))):
        holder, key = _place(document, chance)
        if holder is None:
            return _hostile(chance)
        act = chance.choice(("replaced", "replaced", "removed", "added", "deep"))
        if act == "removed":
            del holder[key]
        elif act == "added" and isinstance(holder, dict):
            holder[str(_hostile(chance))] = _hostile(chance)
        elif act == "deep":
            holder[key] = nested(chance.choice((5, 60, 400)))
        else:
            holder[key] = _hostile(chance)
    return document


def _hostile(chance: Random) -> Any:
    """A value of its own: what is put into it later must not stand in the next input."""
    return copy.deepcopy(chance.choice(HOSTILE))


def nested(levels: int) -> Any:
    """A list in a list in a …"""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def _place(document: Any, chance: Random) -> tuple[Any, Any]:
    """A holder and a key or index in it; None: the document holds nothing."""
    holder, key = None, None
    while isinstance(document, (dict, list)) and document:
        holder = document
        key = chance.choice([*document] if isinstance(document, dict) else range(len(document)))
        document = holder[key]
        if chance.random() < 0.25:
            break
    return holder, key


def _made_json(whole: bytes, chance: Random, _canary: Path) -> bytes:
    return json.dumps(odd_json(json.loads(whole), chance)).encode()


def _made_sealed(whole: bytes, chance: Random, _canary: Path) -> bytes:
    """With the checksum that the odd content has."""
    document = json.loads(whole)
    document.pop("sha256")
    odd = odd_json(document, chance)
    body = json.dumps(odd, sort_keys=True, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({"sha256": digest} | (odd if isinstance(odd, dict) else {})).encode()


def odd_npz(arrays: dict[str, Any], chance: Random, canary: Path) -> bytes:
    """Arrays of which one is missing, of another type or shape, or claims what it has not."""
    import numpy as np

    parts = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        parts[f"{name}.npy"] = buffer.getvalue()
    name = chance.choice([*parts])
    act = chance.choice(("missing", "shape", "type", "claims", "objects", "member", "bomb"))
    if act == "missing":
        del parts[name]
    elif act in ("shape", "type"):
        odd: Any = chance.choice(([], [[]], [-1], [1 << 40], ["a"], [1.5], [[[1.0]]]))
        buffer = io.BytesIO()
        kinds = (None, "S3", "U2") if odd == ["a"] else (None, "S3", "U2", "f2", "c16")
        np.save(buffer, np.array(odd, dtype=chance.choice(kinds)))
        parts[name] = buffer.getvalue()
    elif act == "claims":
        shape = chance.choice(((10**13,), (10**6, 10**6), (-1,), (0, 10**15), (True,), (2**63, 2)))
        kind = chance.choice(("<i8", "|V0", "<U0", "|O", "|u1", "<U1000000000", [("a", "<i8")]))
        header = repr({"descr": kind, "fortran_order": chance.random() < 0.5, "shape": shape})
        if chance.random() < 0.2:
            header = "(" * chance.choice((20, 5000)) + header
        text = header.encode().ljust(118) + b"\n"
        parts[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"12345678"
    elif act == "objects":
        buffer = io.BytesIO()
        np.save(buffer, np.array([Bomb(canary)], dtype=object), allow_pickle=True)
        parts[name] = buffer.getvalue()
    else:
        odd_name = chance.choice(("../../out.npy", "/tmp/out.npy", name, "a\\b.npy", ""))
        parts[odd_name or "x"] = bytes(1 << 22) if act == "bomb" else b""
    return zipped(parts, chance)


def zipped(parts: dict[str, bytes], chance: Random) -> bytes:
    """An archive, sometimes with sizes that are not those of its parts."""
    buffer = io.BytesIO()
    how = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    raw = bytearray(buffer.getvalue())
    if chance.random() < 0.3:  # the directory at the end says other sizes
        place = raw.rfind(b"PK\x01\x02") + chance.choice((16, 20, 24))
        raw[place : place + 4] = struct.pack("<I", chance.choice((0, 7, 1 << 30, 2**32 - 1)))
    return bytes(raw)


class Bomb:
    """Pickled, it is code that runs when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (PAYLOAD.format(path=str(self.canary)),)


def _made_torch(whole: bytes, chance: Random, canary: Path) -> bytes:
    """A file of torch whose pickle is another one, or code."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in parts if name.endswith("data.pkl"))
    script = bytearray(parts[name])
    act = chance.choice(("code", "code in it", "other", "spoilt", "spoilt", "memory"))
    if act == "code":
        script = bytearray(pickle.dumps(Bomb(canary), protocol=chance.choice((0, 2, 4))))
    elif act == "code in it":
        odd = {"state_dict": {}, "meta": {"iter": Bomb(canary)}}
        script = bytearray(pickle.dumps(odd, protocol=2))
    elif act == "other":
        odd = odd_json({"meta": {"iter": 1}, "state_dict": {"a": [1]}}, chance)
        script = bytearray(pickle.dumps(odd, protocol=2))
    elif act == "memory":
        script = bytearray(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x10\x85R.")
    else:
        for _ in range(chance.choice((1, 3))):
            script[chance.randrange(len(script))] = chance.randrange(256)
    parts[name] = bytes(script)
    buffer = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if chance.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for each, content in parts.items():
            archive.writestr(each, content)
    return buffer.getvalue()


def _made_yaml(whole: bytes, chance: Random, canary: Path) -> bytes:
    import yaml

    act = chance.choice(("odd", "odd", "odd", "code", "laughs", "merged", "endless"))
    if act == "code":
        call = PAYLOAD.format(path=str(canary))
        return f'name: !!python/object/apply:builtins.exec ["{call}"]'.encode()
    if act in ("laughs", "merged"):
        width = chance.choice((9, 15))
        lines = ["a0: &a0 {a: 0, b: 0, c: 0, d: 0, e: 0, f: 0, g: 0, h: 0}"]
        for level in range(1, 12):
            many = ", ".join([f"*a{level - 1}"] * width)
            lines.append(
                f"a{level}: &a{level} [{many}]"
                if act == "laughs"
                else f"a{level}: &a{level} {{<<: [{many}], x{level}: 1}}"
            )
        return "\n".join(lines).encode()
    if act == "endless":
        return chance.choice((b"&a [*a]", b"a: &a {b: *a}", b"[" * 3000, b"a: &a {<<: *a}"))
    odd = odd_json(yaml.safe_load(whole), chance)
    return json.dumps(odd).encode()


# --- readers --------------------------------------------------------------------------------------


def shipped_run(*, inspected: bool = False) -> str:
    """The shipped run with the smallest inspection, or the first."""
    store = Store(REFERENCE)
    if not inspected:
        return store.run_ids()[0]
    paths = sorted(store.runs.glob("*/inspection.npz"), key=lambda path: path.stat().st_size)
    return paths[0].parent.name


def _copied(name: str, *others: str) -> Callable[[Path], bytes]:
    """A file of a shipped run; puts others of it beside."""

    def whole(folder: Path) -> bytes:
        run = shipped_run(inspected=name == "inspection.npz")
        target = folder / "runs" / shipped_run()
        for other in others:
            (target / other).write_bytes((Store(REFERENCE).folder(run).path / other).read_bytes())
        return (Store(REFERENCE).folder(run).path / name).read_bytes()

    return whole


def _failure(_folder: Path) -> bytes:
    fields = {"run_id": "a", "sentence": "Why.", "traceback": "", "time": "now"}
    return json.dumps(fields).encode()


def _progress(_folder: Path) -> bytes:
    fields = {"iteration": 3, "iterations": 9, "iteration_ms": 1.5, "miou": 20.0, "time": 1.0}
    return json.dumps(fields).encode()


def _code(_folder: Path) -> bytes:
    return json.dumps({"torch": "2", "code": {"ssa.errors": "0" * 64}}).encode()


def _weights(_folder: Path) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({f"layer{i}.weight": torch.ones(3, 4) for i in range(3)}, buffer)
    return buffer.getvalue()


def _checkpoint(_folder: Path) -> bytes:
    import torch

    from experiments.train.attempt import STATE

    buffer = io.BytesIO()
    state = dict.fromkeys(STATE, None) | {"state_dict": {"a": torch.ones(3)}, "meta": {"iter": 1}}
    torch.save(state, buffer)
    return buffer.getvalue()


def _rescored(folder: Path) -> bytes:
    from experiments.store.records import seal
    from experiments.train.rescore import Rescore

    record = Store(REFERENCE).read(shipped_run())
    assert record is not None
    npz = Store(REFERENCE).folder(record.run_id).per_image.read_bytes()
    (folder / "runs" / record.run_id / "evaluations" / "stock.npz").write_bytes(npz)
    shared = set(Rescore.model_fields) & set(type(record).model_fields)
    result = Rescore(
        **{name: getattr(record, name) for name in shared - {"version"}},
        version=1,
        protocol="stock",
        evaluation=record.spec.evaluation,
        areas_digest="0" * 64,
        dataset_digest="0" * 64,
        weights_sha256="0" * 64,
        evaluate_s=1.0,
    )
    return seal(result.model_dump(mode="json")).encode()


def _npz_of(whole: bytes) -> dict[str, Any]:
    from experiments.store.arrays import npz_arrays

    return npz_arrays(whole)


def _made_areas(whole: bytes, chance: Random, canary: Path) -> bytes:
    return odd_npz(_npz_of(whole), chance, canary)


def _made_inspection(whole: bytes, chance: Random, canary: Path) -> bytes:
    """Sometimes with the checksum of its odd arrays, so that what they say is looked at."""
    import numpy as np

    from experiments.draw.inspection import _digest
    from experiments.store.arrays import npz_bytes

    arrays = _npz_of(whole)
    if chance.random() < 0.4:
        return odd_npz(arrays, chance, canary)
    note = json.loads(arrays.pop("provenance").tobytes())
    name = chance.choice([*arrays])
    if chance.random() < 0.7:
        odd: Any = chance.choice((0, [[7]], np.full((2, 2), 254, np.uint8), ["a"], [1e308]))
        arrays[name] = np.asarray(odd)
    note["arrays_sha256"] = _digest(arrays)
    note = odd_json(note, chance) if chance.random() < 0.7 else note
    text = np.frombuffer(json.dumps(note).encode(), dtype=np.uint8)
    return npz_bytes(**arrays, provenance=text)


def _glance(folder: Path) -> object:
    from experiments.nested import differences

    document = Store(folder).peek(shipped_run()) or {}
    spec = document.get("spec")
    return differences(spec, {}) if isinstance(spec, dict) else None


def _unlike(folder: Path) -> object:
    from experiments.store.resumable import in_words, unlike_checkpoint

    return in_words(unlike_checkpoint(Store(folder).folder(shipped_run()), {}))


def _progressed(folder: Path) -> object:
    from experiments.store.progress import read_progress

    read = read_progress(Store(folder).folder(shipped_run()).progress)
    return read and f"{read.iteration} of {read.iterations}, {read.iteration_ms:.1f} {read.miou}"


def _inspected(folder: Path) -> object:
    from analysis.report.pictures import mask, photo
    from experiments.draw.inspection import load_inspection

    read = load_inspection(folder / "runs" / shipped_run() / "inspection.npz")
    for image in read.images[:1]:
        photo(image.image[:2, :2])
        mask(image.label[:2, :2], read.provenance.palette)
    return read


def _drawn(folder: Path) -> object:
    from experiments.draw.drawing import read_drawing

    return read_drawing(folder / "figure.json")


def _declared(schema: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from experiments.declare.load import _read
        from experiments.declare.model import ModelCard
        from experiments.declare.table import Table

        return _read(folder / "declared.yaml", {"table": Table, "model": ModelCard}[schema])

    return read


def _trained_weights(folder: Path) -> object:
    from experiments.train.trained import read_weights

    return read_weights(folder / "weights.pth")


def _resumable(folder: Path) -> object:
    from experiments.train.attempt import is_whole

    return is_whole(folder / "checkpoint.pth")


def _read_rescored(folder: Path) -> object:
    from experiments.declare.training import ProtocolName
    from experiments.train.rescore import read_rescore

    return read_rescore(Store(folder), shipped_run(), ProtocolName.stock)


def _benchmark(folder: Path) -> object:
    from benchmarks.record import read

    return read(folder / "benchmark.json")


def _exported(folder: Path) -> object:
    from experiments.ask.difference import difference

    return difference(folder, folder).cells


def _reference_file(folder: Path) -> object:
    from experiments.parity.reference_file import read_arrays

    return read_arrays(folder / "reference.npz", ["names"], form="a file of ours")


def _picture(folder: Path) -> object:
    from analysis.report.pictures import stored_picture

    return stored_picture(folder / "figure.png", 40)


def _png(_folder: Path) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (60, 20), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def write_yard(root: Path) -> None:
    """A data set of two images, described by a file beside them."""
    import numpy as np
    from PIL import Image

    for split in ("train", "val"):
        images, masks = root / "images" / split, root / "annotations" / split
        for folder in (images, masks):
            folder.mkdir(parents=True)
        Image.fromarray(np.full((8, 12, 3), 128, np.uint8)).save(images / "a.jpg")
        Image.fromarray(np.eye(8, 12, dtype=np.uint8)).save(masks / "a.png")
    (root / "dataset.json").write_text(json.dumps({"class_names": ["road", "tree"]}))


def _described(folder: Path) -> bytes:
    write_yard(folder / "yard")
    return (folder / "yard" / "dataset.json").read_bytes()


def _digests(folder: Path) -> bytes:
    from experiments.store.workspace import Workspace

    write_yard(folder / "yard")
    _located(folder)
    (kept,) = Workspace(folder, folder).cache.glob("digest-*.json")
    return kept.read_bytes()


def _digested(folder: Path) -> object:
    from experiments.store.workspace import Workspace

    (kept,) = Workspace(folder, folder).cache.glob("digest-*.json")  # it is replaced when it is odd
    kept.write_bytes((folder / "digests.json").read_bytes())
    return _located(folder)


def _located(folder: Path) -> object:
    from experiments.declare.profile import DataChoice
    from experiments.plan.data import locate
    from experiments.store.workspace import Workspace

    return locate(DataChoice(name="yard"), Workspace(folder, folder), anew=True)


def _owned(_folder: Path) -> bytes:
    from experiments.store.owner import Owner

    return json.dumps(asdict(Owner.of_this_process())).encode()


def _owner(folder: Path) -> object:
    from experiments.store.owner import lives, read_owner

    run = Store(folder).folder(shipped_run())
    return read_owner(run), lives(run, flock_is_free=None)


def _submitted(_folder: Path) -> bytes:
    return json.dumps({"job": "7_1"}).encode()


def _submission(folder: Path) -> object:
    from experiments.launch.slurm import read_submission

    return read_submission(Store(folder).folder(shipped_run()))


def _job_lines(_folder: Path) -> bytes:
    lines = [{"job": "7_1", "event": "began"}, {"job": "7_1", "event": "ended", "code": 1}]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _made_lines(whole: bytes, chance: Random, _canary: Path) -> bytes:
    documents = (odd_json(json.loads(line), chance) for line in whole.splitlines())
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def _history(folder: Path) -> object:
    from experiments.launch.slurm import noted_code

    return noted_code(Store(folder).folder(shipped_run()), "7_1")


def _specified(_folder: Path) -> bytes:
    record = Store(REFERENCE).read(shipped_run())
    assert record is not None
    return record.spec.model_dump_json().encode()


def _spec(folder: Path) -> object:
    from experiments.train.attempt import spec_of

    return spec_of(Store(folder).folder(shipped_run()))


def _promised(_folder: Path) -> bytes:
    fields = {"version": 1, "table": "pair", "profile": "smoke", "seeds": {"baseline": 3}}
    return json.dumps(fields).encode()


def _promise(folder: Path) -> object:
    from experiments.store.promises import read_promise

    return read_promise(folder, "pair", "smoke")


def _counted(folder: Path) -> object:
    from experiments.judge.counts import read_count

    return read_count(folder / "count.json")


def _merged(folder: Path) -> object:
    from experiments.store.merge import merge

    return merge([folder / "theirs"], folder / "ours")


def _offered(folder: Path) -> bytes:
    """A store of one run."""
    source = Store(REFERENCE).folder(shipped_run()).path
    target = folder / "theirs" / "runs" / source.name
    (target / "per_image.npz").write_bytes((source / "per_image.npz").read_bytes())
    return (source / "record.json").read_bytes()


def _file(path: Path) -> Callable[[Path], bytes]:
    return lambda _folder: path.read_bytes()


def readers() -> list[Reader]:
    """Every reader of what users bring, and one whole file for each."""
    home = REFERENCE.parents[1] / "experiments"
    run = f"runs/{shipped_run()}"
    figure = sorted((REFERENCE / "figures").glob("*.json"))[0]
    bench = sorted((REFERENCE / "benchmarks").glob("startup.json"))[0]
    table = REFERENCE / "tables" / "table12.json"
    count = sorted((REFERENCE / "complexity").glob("*.json"))[0]
    areas = _copied("per_image.npz")
    record = _copied("record.json", "per_image.npz")
    return [
        Reader("record", f"{run}/record.json", record, _record, _made_sealed),
        Reader("record, at a glance", f"{run}/record.json", record, _glance, _made_json, ()),
        Reader("areas", f"{run}/per_image.npz", areas, _areas, _made_areas),
        Reader("failure", f"{run}/failure.json", _failure, _failed, _made_json, ()),
        Reader("progress", f"{run}/progress.json", _progress, _progressed, _made_json, ()),
        Reader("checkpoint", "checkpoint.pth", _checkpoint, _resumable, _made_torch, ()),
        Reader("checkpoint's code", f"{run}/checkpoint.code.json", _code, _unlike, _made_json, ()),
        Reader("weights", "weights.pth", _weights, _trained_weights, _made_torch),
        Reader(
            "inspection",
            f"{run}/inspection.npz",
            _copied("inspection.npz"),
            _inspected,
            _made_inspection,
        ),
        Reader(
            "scored anew", f"{run}/evaluations/stock.json", _rescored, _read_rescored, _made_sealed
        ),
        Reader("drawing", "figure.json", _file(figure), _drawn, _made_json),
        Reader("picture of a figure", "figure.png", _png, _picture),
        Reader(
            "declared table",
            "declared.yaml",
            _file(home / "tables" / "table12.yaml"),
            _declared("table"),
            _made_yaml,
        ),
        Reader(
            "declared model",
            "declared.yaml",
            _file(home / "models" / "segnext_t.yaml"),
            _declared("model"),
            _made_yaml,
        ),
        Reader("exported table", "tables/table12.json", _file(table), _exported, _made_json),
        Reader(
            "benchmark",
            "benchmark.json",
            _file(bench),
            _benchmark,
            _made_json,
            (ValueError, OSError),
        ),
        Reader("reference values", "reference.npz", areas, _reference_file, _made_areas),
        Reader("data set's description", "yard/dataset.json", _described, _located, _made_json),
        Reader("data set's digests", "digests.json", _digests, _digested, _made_json),
        Reader("owner of a run", f"{run}/owner.json", _owned, _owner, _made_json, ()),
        Reader("job of a run", f"{run}/submission.json", _submitted, _submission, _made_json, ()),
        Reader("history of jobs", f"{run}/jobs.jsonl", _job_lines, _history, _made_lines, ()),
        Reader("spec of a run", f"{run}/spec.json", _specified, _spec, _made_json),
        Reader("promise of seeds", "decide/pair-smoke.json", _promised, _promise, _made_json),
        Reader("count of a network", "count.json", _file(count), _counted, _made_json, ()),
        Reader("merged store", f"theirs/{run}/record.json", _offered, _merged, _made_sealed),
    ]


def _record(folder: Path) -> object:
    return Store(folder).read(shipped_run())


def _areas(folder: Path) -> object:
    return Store(folder).read_areas(shipped_run())


def _failed(folder: Path) -> object:
    return Store(folder).read_failure(shipped_run())


# --- counting -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Other:
    """An input that ended neither in a value nor in one of our own errors."""

    kind: str
    number: int
    error: str


@dataclass
class Tried:
    """What became of a reader's inputs."""

    reader: str
    outcomes: Counter[str] = field(default_factory=Counter)  # "value" or our own error → inputs
    others: list[Other] = field(default_factory=list)
    seconds: float = 0.0
    memory_mib: float = 0.0  # by which the process grew

    @property
    def inputs(self) -> int:
        """How many were read."""
        return self.outcomes.total() + len(self.others)

    @property
    def own_errors(self) -> dict[str, int]:
        """Our own errors, the most frequent first."""
        return {name: count for name, count in self.outcomes.most_common() if name != "value"}

    def row(self) -> dict[str, Any]:
        """As the record holds it."""
        return {
            "reader": self.reader,
            "tried": self.inputs,
            "value": self.outcomes["value"],
            "own_error": sum(self.own_errors.values()),
            "other": len(self.others),
            "own_errors": self.own_errors,
            "others": [vars(other) for other in self.others[:KEPT]],
            "seconds": round(self.seconds, 1),
            "memory_mib": round(self.memory_mib, 1),
        }


class Endless(BaseException):
    """An input is read without an end; no reader catches that."""


@contextmanager
def _memory() -> Iterator[Callable[[], float]]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield lambda: (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


@contextmanager
def ending() -> Iterator[None]:
    """Raise :class:`Endless` where the block takes longer than :data:`PATIENCE_S`."""

    def end(_number: int, _frame: object) -> None:
        raise Endless(f"no end within {PATIENCE_S:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def fuzz(
    reader: Reader,
    folder: Path,
    inputs: int,
    seconds: float = float("inf"),
    seed: int = 0,
    told: Callable[[], object] = lambda: None,
) -> Tried:
    """Give a reader ``inputs`` inputs that hypothesis draws, or as many as the time allows.

    Args:
        reader: one of :func:`readers`.
        folder: where its file is written.
        inputs: how many, at most.
        seconds: after which no further input is read.
        seed: of hypothesis.
        told: is called after each input.
    """
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    damage, tried = Damage(reader, folder), Tried(reader.name)

    def read(kind: str, number: int) -> None:
        try:
            with ending():
                tried.outcomes[damage.outcome(kind, number)] += 1
        except (Exception, Endless) as error:  # noqa: BLE001  whatever it is: it is counted
            said = " ".join(str(error).split())[:300]
            tried.others.append(Other(kind, number, f"{type(error).__name__}: {said}"))
            damage.canary.unlink(missing_ok=True)
        told()

    @seeded(seed)
    @settings(
        max_examples=-(-inputs // TOGETHER),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(number=st.integers(0, 2**63))
    def several(number: int) -> None:
        chance = Random(number)
        for _ in range(TOGETHER):
            if tried.inputs == inputs or time.perf_counter() - began > seconds:
                return
            read(chance.choice(Damage.KINDS), chance.getrandbits(63))

    damage.path.write_bytes(damage.whole)
    reader.read(folder)  # imports are no part of it
    began = time.perf_counter()
    with _memory() as grown:
        several()
        tried.seconds, tried.memory_mib = time.perf_counter() - began, grown()
    return tried


def fuzz_apart(reader: Reader, inputs: int, seconds: float, seed: int) -> Tried:
    """:func:`fuzz` in a process of its own, whose end is one of the things that are counted."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, reader, inputs, seconds, seed))
    process.start()
    theirs.close()
    try:
        tried = ours.recv()
    except EOFError:  # it ended without a word
        process.join()
        end = Other("the process", seed, f"ended with code {process.exitcode}")
        return Tried(reader.name, others=[end])
    process.join()
    return tried


def _child(told: Connection, reader: Reader, inputs: int, seconds: float, seed: int) -> None:
    bar = tqdm(desc=reader.name, total=inputs, unit="input", disable=not sys.stderr.isatty())
    with bar, tempfile.TemporaryDirectory(prefix="ssa-fuzz-") as folder:
        told.send(fuzz(reader, Path(folder), inputs, seconds, seed, bar.update))


# --- the record -----------------------------------------------------------------------------------


def figures(rows: Sequence[dict[str, Any]], inputs: int) -> Iterator[Figure]:
    """How many inputs each reader was given, how many ended otherwise, the largest memory."""
    for row in rows:
        name = row["reader"]
        given: dict[str, Any] = {"unit": "inputs", "better": "higher", "goal": float(inputs)}
        yield Figure(name=f"{name}: tried", value=row["tried"], **given)
        otherwise = f"{name}: neither a value nor our own error"
        yield Figure(name=otherwise, value=row["other"], unit="inputs", goal=0.0)
    most = max(row["memory_mib"] for row in rows)
    yield Figure(name="a reader's process grew by, at most", value=most, unit="MiB", goal=MOST_MIB)


def table(record: Benchmark) -> str:
    """What became of each reader's inputs, as Markdown."""
    rows = []
    for row in record.details:
        counts = (row[key] for key in ("tried", "value", "own_error", "other"))
        rows.append([row["reader"], *(f"{count:,}" for count in counts)])
    return table_of(COLUMNS, rows)


def describe(
    chosen: Sequence[Reader],
    inputs: int,
    seconds: float,
    seed: int,
    clock: Clock,
    out: Path | None = None,
) -> Benchmark:
    """Give every chosen reader its inputs, one reader after another, and make the record.

    What an earlier call has tried stays tried.
    """
    kept, rows = KeptRows(out, "fuzz", {"inputs": inputs, "seconds": seconds, "seed": seed}), []
    for reader in chosen:
        if (earlier := kept.of(reader.name)) is not None:
            rows.append(earlier)
            continue
        tried = fuzz_apart(reader, inputs, seconds, seed)
        rows.append(tried.row())
        kept.add(reader.name, tried.row())
        print(
            f"{reader.name}: {tried.inputs} inputs in {tried.seconds:.0f} s, "
            f"{len(tried.others)} ended otherwise",
            file=sys.stderr,
        )
        for other in tried.others[:KEPT]:
            print(f"  {other.kind} {other.number}: {other.error}", file=sys.stderr)
    return Benchmark(
        benchmark="fuzz",
        title="Made files given to every reader of what users bring",
        command=f"./run_all.sh bench fuzz --inputs {inputs} --seconds {seconds:g}",
        setting={"inputs": inputs, "seconds": seconds, "seed": seed, "kinds": list(Damage.KINDS)},
        machine=clock.machine(),
        figures=tuple(figures(rows, inputs)),
        details=rows,
    )


def main(arguments: list[str] | None = None) -> None:
    """Fuzz, print the counts, write ``fuzz.json`` with --out; exit 1 where a goal is missed."""
    every = {reader.name: reader for reader in readers()}
    parser = argparse.ArgumentParser(
        prog="./run_all.sh bench fuzz", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="a reader")
    parser.add_argument("--seconds", type=float, default=120.0, help="a reader, at most")
    parser.add_argument(
        "--reader", action="append", choices=every, metavar="NAME", help=", ".join(every)
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder that fuzz.json is written to")
    given = parser.parse_args(arguments)
    clock = Clock()
    try:  # once, before each reader's process is forked
        import hypothesis  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        sys.exit(f"Error: {error.name} is not installed; `./run_all.sh test` installs it.")
    chosen = [every[name] for name in given.reader or every]
    print(f"seed {given.seed}", file=sys.stderr)
    inputs = max(given.inputs, 1)
    record = describe(chosen, inputs, given.seconds, given.seed, clock, given.out)
    print(table(record), end="")
    if given.out:
        print(record.write(given.out))
        if len(chosen) == len(every):  # else a call for all of them takes them up
            setting = {"inputs": inputs, "seconds": given.seconds, "seed": given.seed}
            KeptRows(given.out, "fuzz", setting).end()
    sys.exit(record.exit_code)


if __name__ == "__main__":
    main()
