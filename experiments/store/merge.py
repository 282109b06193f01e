"""Several stores as one: content decides, so that neither order nor repetition matters.

A run that several stores have with the same result is one. With different results all are kept::

    results/runs/<run id>/record.json, …          the one that finished first: tables show it
                          variants/<key>/…        each of them, where there are several

``key`` is a digest of the result. Of equal results the record that finished first stays. Every
file is written beside and renamed, a record last and only when what it needs is there, so that an
interrupted merge leaves every run whole or as it was, and the same command completes it.

What is copied is a run's own files by their names, never what a link leads to; runs without a
record, exported tables and figures stay where they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from experiments.declare.training import ProtocolName
from experiments.errors import CorruptRecordError, StoreError
from experiments.files import read_bounded, replacing, write_atomically, writing
from experiments.store.folder import RunFolder
from experiments.store.lock import run_lock
from experiments.store.records import Record, seal, unseal
from experiments.store.store import MOST_OF_A_RECORD, Store, read_record, set_file_aside
from ssa.released.manifest import sha256_of

VARIANTS = "variants"
#: a record and what it cannot do without
_RECORD, _AREAS = "record.json", "per_image.npz"
#: files of a run that go with it, each by itself
_BESIDE = ("spec.json", "weights.pth", "inspection.npz", "distances.npz")
#: those that name places and machines
_TELLING = ("config.py", "log.txt")
#: results of scoring anew: two files each that belong together
_EVALUATIONS = tuple(f"evaluations/{protocol.value}" for protocol in ProtocolName)
_KEY_DIGITS = 16
ANONYMOUS = ""  # the host of a record that leaves it out


class Held(NamedTuple):
    """One record as a merge sees it; of equal results the smallest stays."""

    key: str  # of the result
    finished: str
    digest: str  # sha256 of the record without its host, then with it: decides between equal times
    place: Path  # the folder with its files; no part of any decision


@dataclass(frozen=True)
class Variants:
    """A run that several stores have with different results."""

    run_id: str
    shown: Held  # in tables
    others: tuple[Held, ...]


@dataclass(frozen=True)
class Merged:
    """What became of a merge."""

    runs: int  # in the store that was written
    written: int  # of them new or completed
    different: tuple[Variants, ...]
    unfinished: int  # runs without a record, which stay where they are
    refused: tuple[str, ...]  # sentences about what could not be taken


Index = Mapping[str, frozenset[Held]]


def union(*indices: Index) -> dict[str, frozenset[Held]]:
    """Every run of any index with each of its results once: commutative, associative, idempotent.

    Args:
        indices: run id → what a store has of it.
    """
    everything: dict[str, dict[str, Held]] = {}
    for index in indices:
        for run_id, several in index.items():
            best = everything.setdefault(run_id, {})
            for held in several:
                known = best.get(held.key)
                if known is None or held < known:
                    best[held.key] = held
    return {run_id: frozenset(best.values()) for run_id, best in everything.items()}


def first(several: Iterable[Held]) -> Held:
    """Of several results of a run the one that finished first, which tables show."""
    return min(several, key=lambda held: (held.finished, held.key, held))


def merge(sources: Sequence[Path], out: Path, *, anonymous: bool = False) -> Merged:
    """Write all that ``sources`` and ``out`` have of finished runs into ``out``.

    Args:
        sources: results folders; they are only read, unless one is ``out``.
        out: a results folder, new or not; what it has stays.
        anonymous: leave out host names, and the logs and configs that name places.

    Raises:
        StoreError: a source is no results folder; the disk is full; ``out`` names hosts and shall
            not.
    """
    sources, out = [source.resolve() for source in sources], out.resolve()
    for source in sources:
        if not (source / "runs").is_dir():
            raise StoreError(
                f"{source} holds no runs: it has no folder runs/. Name folders that were given as "
                "--results."
            )
    target = Store(out)
    refused: list[str] = []
    places = [path for path in dict.fromkeys((*sources, out)) if (path / "runs").is_dir()]
    indices = {path: _index(Store(path), refused) for path in places}
    if anonymous:
        _refuse_named(target, indices.get(out, {}))
    everything = union(*indices.values())
    offered: dict[tuple[str, str], list[Path]] = {}
    for index in indices.values():
        for run_id, several in index.items():
            for held in several:
                offered.setdefault((run_id, held.key), []).append(held.place)
    written = 0
    for run_id, several in sorted(everything.items()):
        wanted = _Run(target, run_id, several, offered, anonymous)
        try:
            written += wanted.write()
        except _NotNowError as error:
            refused.append(str(error))
    unfinished = {
        path.name
        for source in sources
        for path in (source / "runs").iterdir()
        if path.is_dir() and not (path / _RECORD).exists()
    }
    return Merged(
        runs=len(everything),
        written=written,
        different=tuple(
            Variants(run_id, first(several), tuple(sorted(several - {first(several)})))
            for run_id, several in sorted(everything.items())
            if len(several) > 1
        ),
        unfinished=len(unfinished - set(everything)),
        refused=tuple(dict.fromkeys(refused)),
    )


class _NotNowError(StoreError):
    """A run that another process trains now, or that only a newer version can read."""


def _refuse_named(target: Store, index: Index) -> None:
    named = [held.place for several in index.values() for held in several if _host_of(held.place)]
    if named:
        raise StoreError(
            f"{named[0]} and {len(named) - 1} more name their hosts, and --anonymous leaves "
            f"nothing out that {target.root} has already; name a new folder with --out."
        )


def _host_of(place: Path) -> str:
    return str(_document(place / _RECORD)["environment"]["host"])


# --- reading --------------------------------------------------------------------------------------


def _index(store: Store, refused: list[str]) -> dict[str, frozenset[Held]]:
    """What a store has, each record checked; what cannot be taken is a sentence in ``refused``."""
    index: dict[str, list[Held]] = {}
    for path in sorted(store.runs.iterdir()):
        if not path.is_dir():
            continue
        if path.is_symlink() or (path / VARIANTS).is_symlink():
            refused.append(f"{path} is a link, or has one in it; copy the folder itself there.")
            continue
        places = [path]
        if (path / VARIANTS).is_dir():
            places += sorted((path / VARIANTS).iterdir())
        for place in places:
            try:
                record = _read(place, path.name)
            except (CorruptRecordError, StoreError) as error:
                refused.append(str(error))
                continue
            if record is not None:
                index.setdefault(path.name, []).append(_held(record, place))
    return {run_id: frozenset(several) for run_id, several in index.items()}


def _read(place: Path, run_id: str) -> Record | None:
    """The whole record of a run in ``place``; None: there is none.

    Raises:
        CorruptRecordError: it or its areas are damaged.
        StoreError: a newer version wrote it, or it is a link.
    """
    for path in (place, place / _RECORD, place / _AREAS):
        if path.is_symlink():
            raise StoreError(f"{path} is a link; copy what it leads to there.")
    return read_record(RunFolder(place), run_id)


def variants_of(store: Store, run_id: str) -> list[tuple[Path, Record]]:
    """The results of a run that a merge has kept beside the one that tables show."""
    places = (store.folder(run_id).path / VARIANTS).glob(f"*/{_RECORD}")
    kept = []
    for place in sorted(path.parent for path in places):
        try:
            record = _read(place, run_id)
        except (CorruptRecordError, StoreError):
            continue
        if record is not None:
            kept.append((place, record))
    return kept


def _held(record: Record, place: Path) -> Held:
    result = [record.result_digest, record.scores.model_dump(), record.per_class_iou]
    digest = _order(place / _RECORD)
    return Held(_sha(result)[:_KEY_DIGITS], record.finished, digest, place)


def _order(path: Path) -> str:
    """What decides between sealed files of one use: without the host, then with it; "": damaged."""
    try:
        document = _document(path)
        return _sha(_without_host(document)) + _sha(document)
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _document(path: Path) -> dict[str, Any]:
    """A sealed file as it stands, in the form of its version."""
    return unseal(read_bounded(path, MOST_OF_A_RECORD).decode())


def _without_host(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"environment": document["environment"] | {"host": ANONYMOUS}}


# --- writing --------------------------------------------------------------------------------------


class _Run:
    """One run as it shall stand in the store that is written.

    Args:
        target: that store.
        run_id: of the run.
        several: its results.
        offered: (run id, key) → the folders that hold such a result.
        anonymous: without hosts.
    """

    def __init__(
        self,
        target: Store,
        run_id: str,
        several: frozenset[Held],
        offered: Mapping[tuple[str, str], list[Path]],
        anonymous: bool,
    ) -> None:
        self._folder, self._run_id, self._several = target.folder(run_id), run_id, several
        self._offered, self._anonymous = offered, anonymous
        self._keys = {held.key for held in several}

    def write(self) -> bool:
        """Bring the store up to date; whether anything was to be written.

        Raises:
            StoreError: the disk is full, or another process trains this run.
        """
        shown = first(self._several)
        top, files = self._folder.path, self._files(shown)
        kept = {h.key: self._files(h) for h in self._several} if len(self._several) > 1 else {}
        if self._is(top, files) and self._are(top / VARIANTS, kept):
            return False
        with run_lock(self._folder) as mine:
            if not mine:
                raise _NotNowError(
                    f"{self._run_id} is being trained in {top.parent}; give the same command again "
                    "when it has ended."
                )
            self._set_damaged_aside()
            contents = {name: content() for name, content in files.items()}  # may come from here
            others = {
                key: {name: content() for name, content in its.items()} for key, its in kept.items()
            }
            for key, its in others.items():
                _put(top / VARIANTS / key, its)
            if not _is_record_alone(top, contents):
                # the record that stood here is whole elsewhere before it goes
                staged = top / VARIANTS / shown.key
                _put(staged, contents)
                contents = {name: staged / name for name in contents}
                (top / _RECORD).unlink(missing_ok=True)
                _drop(top, contents)
            _put(top, contents)
            self._clear(top / VARIANTS, others)
        return True

    def _set_damaged_aside(self) -> None:
        """A record that stands here and could not be read is kept under another name.

        Raises:
            StoreError: it is whole, and of a newer version.
        """
        try:
            _read(self._folder.path, self._run_id)
        except CorruptRecordError:
            for path in (self._folder.record, self._folder.per_image):
                if path.exists():
                    set_file_aside(path, "damaged")
        except StoreError as error:
            raise _NotNowError(str(error)) from None

    def _clear(self, variants: Path, kept: Mapping[str, Any]) -> None:
        """Remove what was only there for the moment of the change; what is damaged stays."""
        if not variants.is_dir():
            return
        for path in self._removable(variants, kept):
            shutil.rmtree(path)
        with contextlib.suppress(OSError):  # not empty
            variants.rmdir()

    def _removable(self, variants: Path, kept: Mapping[str, Any]) -> list[Path]:
        return [
            path
            for path in variants.iterdir()
            if path.name not in kept
            and (path.name in self._keys or not (path / _RECORD).exists())
            and not path.is_symlink()
            and path.is_dir()
        ]

    def _files(self, held: Held) -> dict[str, Callable[[], bytes | Path]]:
        """The files of one result by their names: what they hold, read when it is asked for."""
        places = sorted(self._offered[self._run_id, held.key])
        files: dict[str, Callable[[], bytes | Path]] = {}
        for name in (*_BESIDE, *(() if self._anonymous else _TELLING)):
            found = [place / name for place in places if _is_file(place / name)]
            if found:
                files[name] = _chosen(found)
        for stem in _EVALUATIONS:
            pairs = [
                place / stem
                for place in places
                if not (place / stem).parent.is_symlink()
                and all(_is_file((place / stem).with_suffix(end)) for end in (".json", ".npz"))
            ]
            order = {pair: _order(pair.with_suffix(".json")) for pair in pairs}
            if whole := [pair for pair in pairs if order[pair]]:
                best = min(whole, key=order.__getitem__)
                files[f"{stem}.npz"] = _chosen([best.with_suffix(".npz")])
                files[f"{stem}.json"] = self._sealed(best.with_suffix(".json"))
        files[_AREAS] = _chosen([held.place / _AREAS])
        files[_RECORD] = self._sealed(held.place / _RECORD)
        return files

    def _sealed(self, path: Path) -> Callable[[], bytes | Path]:
        """A sealed file: as it stands, or without its host."""
        if not self._anonymous:
            return lambda: path
        return lambda: seal(_without_host(_document(path))).encode()

    @staticmethod
    def _is(place: Path, files: Mapping[str, Callable[[], bytes | Path]]) -> bool:
        have = {name for name in _names() if _is_file(place / name)}
        return have == set(files) and all(
            _same(place / name, content()) for name, content in files.items()
        )

    def _are(
        self, place: Path, kept: Mapping[str, Mapping[str, Callable[[], bytes | Path]]]
    ) -> bool:
        extra = self._removable(place, kept) if place.is_dir() else []
        return not extra and all(self._is(place / key, its) for key, its in kept.items())


def _names() -> Iterator[str]:
    """All files of a run that a merge knows, the record last."""
    yield from (*_BESIDE, *_TELLING)
    yield from (f"{stem}{end}" for stem in _EVALUATIONS for end in (".npz", ".json"))
    yield from (_AREAS, _RECORD)


def _is_file(path: Path) -> bool:
    """Whether it is a regular file and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _chosen(paths: Sequence[Path]) -> Callable[[], bytes | Path]:
    """Of several files of the same use one, by its content."""
    if len(paths) == 1:
        return lambda: paths[0]
    return lambda: min(paths, key=sha256_of)


def _same(path: Path, content: bytes | Path) -> bool:
    if isinstance(content, bytes):
        return path.stat().st_size == len(content) and path.read_bytes() == content
    if path == content:
        return True
    return path.stat().st_size == content.stat().st_size and sha256_of(path) == sha256_of(content)


def _is_record_alone(top: Path, contents: Mapping[str, bytes | Path]) -> bool:
    """Whether writing these files changes none that stands there but the record."""
    if not _is_file(top / _RECORD):
        return False
    return all(
        name in contents and (name == _RECORD or _same(top / name, contents[name]))
        for name in _names()
        if _is_file(top / name)
    )


def _put(place: Path, contents: Mapping[str, bytes | Path]) -> None:
    """Write files that differ, each at once and whole, in the order given: the record is last."""
    for name, content in contents.items():
        path = place / name
        if _is_file(path) and _same(path, content):
            continue
        if isinstance(content, bytes):
            write_atomically(path, content)
        else:
            _copy(content, path)


def _copy(source: Path, path: Path) -> None:
    """Copy a file of any size beside, flush it and rename it into place.

    Raises:
        StoreError: the disk is full, or one of the two cannot be used.
    """
    temporary = path.with_name(f".{path.name}.merging")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        with (
            os.fdopen(handle, "rb") as reading,
            temporary.open("wb") as file,
            replacing(path, temporary, file),
        ):
            shutil.copyfileobj(reading, file, 1 << 20)


def _drop(top: Path, contents: Mapping[str, bytes | Path]) -> None:
    """Remove the files of another result, which stand among the variants."""
    for name in _names():
        if name not in contents and _is_file(top / name):
            (top / name).unlink()
