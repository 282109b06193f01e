"""Two labs' stores as one: neither order nor repetition nor an interruption changes what it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import finished, is_alive, wait_until
from samples import make_areas, make_record, make_spec

from experiments.errors import StoreError
from experiments.machine import module_command
from experiments.store.lock import run_lock
from experiments.store.merge import Held, first, merge, union, variants_of
from experiments.store.records import seal, unseal
from experiments.store.store import Store

AREAS = [make_areas(seed, images=3) for seed in range(3)]
RECORDS = 10_000


# --- the algebra, on many records -----------------------------------------------------------------


@pytest.mark.parametrize("number", [RECORDS])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), runs=st.integers(1, RECORDS), results=st.integers(1, 4))
def test_union_is_commutative_associative_and_idempotent(
    number: int, seed: int, runs: int, results: int
) -> None:
    """Of 10,000 made records in three stores: few runs with many results, or many with few."""
    chance = Random(seed)
    stores: list[dict[str, set[Held]]] = [{}, {}, {}]
    for _ in range(number):
        held = Held(
            key=f"k{chance.randrange(results)}",
            finished=f"2026-01-0{chance.randrange(1, 4)}",
            digest=f"{chance.randrange(4)}",
            place=Path(f"p{chance.randrange(3)}"),
        )
        chance.choice(stores).setdefault(f"run{chance.randrange(runs)}", set()).add(held)
    a, b, c = ({run: frozenset(held) for run, held in store.items()} for store in stores)
    whole = union(a, b, c)
    assert union(a, b) == union(b, a)
    assert union(union(a, b), c) == union(a, union(b, c)) == union(c, b, a) == whole
    assert union(whole, whole) == union(whole, a) == union(whole) == whole
    assert set(whole) == {run for store in stores for run in store}
    for run, several in whole.items():
        keys = [held.key for store in stores for held in store.get(run, ())]
        assert sorted(held.key for held in several) == sorted(set(keys))
        assert first(several).finished == min(held.finished for held in several)


# --- files ----------------------------------------------------------------------------------------


def put(folder: Path, seed: int, areas: int, host: str, at: int, *beside: str) -> str:
    """A finished run in a store: which areas decides its result."""
    store, spec = Store(folder), make_spec(seed=seed)
    record = make_record(spec, AREAS[areas], host=host)
    record = record.model_copy(update={"finished": f"2026-11-23T12:00:{at:02d}+00:00"})
    store.write_spec(spec)
    store.write_record(record, AREAS[areas].to_bytes())
    for name in beside:
        (store.folder(spec.run_id).path / name).write_text(f"{name} of {host}, {areas}")
    return spec.run_id


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, without locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("lock", "owner.json")
    }


def hosts(folder: Path) -> set[str]:
    return {
        str(unseal(path.read_text())["environment"]["host"]) for path in folder.rglob("record.json")
    }


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Three stores: runs of one alone, equal ones, different ones, files beside them."""
    a, b, c = (tmp_path / name for name in "abc")
    put(a, 0, 0, "ant", 5, "weights.pth", "log.txt")
    put(b, 1, 0, "bee", 5, "inspection.npz")
    put(a, 2, 1, "ant", 9, "weights.pth")
    put(b, 2, 1, "bee", 3, "weights.pth", "config.py")  # equal, earlier
    put(a, 3, 0, "ant", 7, "weights.pth")
    put(b, 3, 1, "bee", 2, "log.txt")  # different, earlier
    put(c, 3, 2, "cat", 4)
    put(c, 0, 0, "cat", 5)  # equal, at the same time
    before = [tree(lab) for lab in (a, b, c)]
    yield a, b, c
    assert [tree(lab) for lab in (a, b, c)] == before, "a source was written to"


@pytest.mark.parametrize("anonymous", [False, True])
def test_neither_order_nor_repetition_changes_a_file(
    labs: tuple[Path, Path, Path], tmp_path: Path, anonymous: bool
) -> None:
    def merged(name: str, *sources: Path) -> Path:
        merge(sources, tmp_path / name, anonymous=anonymous)
        return tmp_path / name

    a, b, c = labs
    whole = tree(merged("whole", a, b, c))
    assert tree(merged("reversed", c, b, a)) == whole
    assert tree(merged("left", merged("ab", a, b), c)) == whole
    assert tree(merged("right", a, merged("bc", b, c))) == whole
    assert tree(merged("step", a)) != whole
    assert tree(merged("step", c)) != whole
    assert tree(merged("step", b)) == whole
    again = merge([a, b, c], tmp_path / "whole", anonymous=anonymous)
    assert again.written == 0
    assert tree(merged("whole", tmp_path / "whole", a)) == whole
    assert hosts(tmp_path / "whole") == ({""} if anonymous else {"ant", "bee", "cat"})
    text = b" ".join(whole.values())
    assert (b"log.txt of" in text) is not anonymous


def test_equal_results_are_one_and_different_ones_are_kept_and_named(
    labs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    merged = merge(labs, out)
    store = Store(out)
    assert (merged.runs, merged.written, merged.refused) == (4, 4, ())
    equal = store.read(make_spec(seed=2).run_id)
    assert equal is not None
    assert equal.environment.host == "bee"
    assert store.folder(equal.run_id).weights.exists()
    (different,) = merged.different
    assert different.run_id == make_spec(seed=3).run_id
    shown = store.read(different.run_id)
    assert shown is not None
    assert shown.environment.host == "bee"
    assert len(different.others) == 2
    kept = variants_of(store, different.run_id)
    assert sorted(record.environment.host for _, record in kept) == ["ant", "bee", "cat"]
    assert not store.folder(different.run_id).weights.exists(), "the other network's"
    (ants,) = [place for place, record in kept if record.environment.host == "ant"]
    assert (ants / "weights.pth").read_text() == "weights.pth of ant, 0"
    for place, record in kept:
        assert ((place / "per_image.npz").read_bytes(), record.scores) != (b"", None)


def test_the_command_says_what_it_did_and_explain_names_the_results(
    labs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    command = module_command("experiments", "merge", *map(str, labs), "--out", str(tmp_path / "o"))
    said = finished(command)
    assert said.returncode == 0, said.stderr
    text = " ".join(said.stdout.split())
    assert "4 runs, 4 written, 0 as they were" in text
    run_id = make_spec(seed=3).run_id
    assert f"{run_id}: 3 different results, each in runs/{run_id}/variants/" in text
    explain = ["explain", run_id, "--results", str(tmp_path / "o"), "--profile", "smoke"]
    said = finished(module_command("experiments", *explain))
    assert " ".join(said.stdout.split()).count("kept with another result") == 2, said.stdout
    said = finished(module_command("experiments", "merge", str(tmp_path), "--out", str(tmp_path)))
    assert said.returncode == 1
    assert "holds no runs" in said.stderr


@pytest.mark.parametrize("into", [0, 1, 2])
def test_what_a_store_has_stays_when_others_are_merged_into_it(
    labs: tuple[Path, Path, Path], tmp_path: Path, into: int
) -> None:
    merge(labs, tmp_path / "whole")
    merge([labs[into]], tmp_path / "grown")
    merge([each for each in labs if each != labs[into]], tmp_path / "grown")
    assert tree(tmp_path / "grown") == tree(tmp_path / "whole")


# --- interruptions --------------------------------------------------------------------------------

#: what changes a folder, as Python names it to audit hooks
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")


def killed_at(change: int, sources: list[Path], out: Path) -> bool:
    """Merge in a process that ends without a word at its n-th change; False: it had fewer."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from experiments.store.merge import merge\n"
        f"left = {change}\n"
        "def hook(event, _given):\n"
        "    global left\n"
        f"    if event in {CHANGES}:\n"
        "        left -= 1\n"
        "        if left < 0: os._exit(9)\n"
        "out, *sources = map(Path, sys.argv[1:])\n"
        "sys.addaudithook(hook)\n"
        "merge(sources, out)\n"
    )
    pid = os.fork()
    if pid == 0:  # a child of this process, so that nothing is imported anew
        try:
            sys.argv = ["merge", str(out), *map(str, sources)]
            exec(compile(script, "merge", "exec"), {})
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 9)
    return code == 9


def keys_in(folder: Path) -> dict[str, set[str]]:
    """Run → the hosts of all whole results that a store has of it."""
    store = Store(folder)
    return {
        run_id: {record.environment.host for _, record in variants_of(store, run_id)}
        | {record.environment.host for record in [store.read(run_id)] if record is not None}
        for run_id in (path.name for path in store.runs.iterdir())
    }


def test_a_merge_that_is_killed_at_any_change_loses_nothing_and_can_be_repeated(
    tmp_path: Path,
) -> None:
    """Into a store whose results another's replace, which is the hardest."""
    a, b = tmp_path / "a", tmp_path / "b"
    run = put(b, 3, 1, "bee", 2, "log.txt")
    put(b, 1, 0, "bee", 5)
    whole: dict[str, bytes] | None = None
    for change in range(200):
        out = tmp_path / f"out{change}"
        put(out, 3, 0, "ant", 7, "weights.pth")
        killed = killed_at(change, [b], out)
        assert "ant" in keys_in(out)[run], change
        merge([b], out)
        left = {name: raw for name, raw in tree(out).items() if "/." not in f"/{name}"}
        whole = whole or left
        assert left == whole, change
        if not killed:
            break
    assert 8 < change < 199
    assert not a.exists()


def test_a_merge_that_is_killed_from_outside_is_completed_by_the_same_command(
    labs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = module_command("experiments", "merge", *map(str, labs), "--out", str(out))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: any(out.glob("runs/*")), "the first run")
    process.kill()
    process.wait()
    assert not is_alive(process.pid)
    merge(labs, out)
    merge(labs, tmp_path / "whole")
    left = {name: raw for name, raw in tree(out).items() if "/." not in f"/{name}"}
    assert left == tree(tmp_path / "whole")


# --- what is not taken ----------------------------------------------------------------------------


def test_what_is_damaged_or_newer_is_named_and_left(tmp_path: Path) -> None:
    a, b, out = (tmp_path / name for name in ("a", "b", "out"))
    cut, newer = put(a, 0, 0, "ant", 1), put(a, 1, 0, "ant", 1)
    older, whole = put(a, 2, 0, "ant", 1), put(a, 4, 0, "ant", 1)
    put(b, 0, 0, "bee", 2)
    store = Store(a)
    store.folder(cut).record.write_text("{")
    for run_id, version in ((newer, 99), (older, 0)):
        document = unseal(store.folder(run_id).record.read_text()) | {"version": version}
        if run_id == older:  # as records were before training on several devices
            document["environment"].pop("processes")
        store.folder(run_id).record.write_text(seal(document))
    (store.runs / "begun").mkdir()
    merged = merge([a, b], out)
    assert Store(out).run_ids() == sorted([cut, older, whole])  # `cut` of the other lab
    assert merged.unfinished == 1
    damage, update = sorted(merged.refused, key=lambda text: "newer" in text)
    assert f"{store.folder(cut).record} is damaged" in damage
    assert "update this checkout" in update
    old = store.folder(older).record.read_bytes()
    assert Store(out).folder(older).record.read_bytes() == old, "kept in its own form"


def test_a_damaged_record_where_others_are_merged_into_is_kept_aside(tmp_path: Path) -> None:
    a, out = tmp_path / "a", tmp_path / "out"
    run_id = put(a, 0, 0, "ant", 1)
    put(out, 0, 0, "out", 1)
    record = Store(out).folder(run_id).record
    record.write_text("{")
    assert "is damaged" in " ".join(merge([a], out).refused)
    assert Store(out).read(run_id) is not None
    assert record.with_name("record.json.damaged").read_text() == "{"
    assert merge([a], out).refused == ()


def test_a_newer_record_where_others_are_merged_into_stays(tmp_path: Path) -> None:
    a, out = tmp_path / "a", tmp_path / "out"
    run_id = put(a, 0, 0, "ant", 1)
    put(out, 0, 0, "out", 1)
    record = Store(out).folder(run_id).record
    record.write_text(seal(unseal(record.read_text()) | {"version": 99}))
    before = tree(out)
    assert "newer version" in " ".join(merge([a], out).refused)
    assert tree(out) == before


@pytest.mark.parametrize("what", ["the run", "the record", "the weights", "the variants"])
def test_no_link_is_followed(tmp_path: Path, what: str) -> None:
    """A store of somebody else could have our own files copied into what we hand on."""
    a, out, secret = tmp_path / "a", tmp_path / "out", tmp_path / "secret"
    run_id = put(a, 0, 0, "ant", 1)
    folder = Store(a).folder(run_id)
    secret.write_text("a secret")
    if what == "the run":
        folder.path.rename(tmp_path / "moved")
        folder.path.symlink_to(tmp_path / "moved")
    elif what == "the record":
        folder.record.rename(tmp_path / "moved")
        folder.record.symlink_to(tmp_path / "moved")
    elif what == "the weights":
        folder.weights.symlink_to(secret)
    else:
        (folder.path / "variants").symlink_to(tmp_path)
    merged = merge([a], out)
    assert bool(merged.refused) is (what != "the weights")
    assert b"a secret" not in b"".join(tree(out).values() if out.exists() else ())
    assert not [path for path in out.rglob("*") if path.is_symlink()]


def test_a_run_that_is_being_trained_is_left_to_its_process(tmp_path: Path) -> None:
    a, out = tmp_path / "a", tmp_path / "out"
    run_id = put(a, 0, 0, "ant", 1)
    with run_lock(Store(out).folder(run_id)):
        merged = merge([a], out)
        assert "is being trained" in " ".join(merged.refused)
    assert Store(out).read(run_id) is None
    assert merge([a], out).refused == ()


def test_no_host_is_left_out_of_what_names_them_already(tmp_path: Path) -> None:
    a, out = tmp_path / "a", tmp_path / "out"
    put(a, 0, 0, "ant", 1)
    merge([a], out)
    with pytest.raises(StoreError, match="name a new folder with --out"):
        merge([a], out, anonymous=True)
