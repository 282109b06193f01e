"""A table goes into one RO-Crate and comes out the same; what is damaged or unsafe does not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest
from lab import Lab, assert_clear, finished

from experiments.ask.difference import EQUAL, difference
from experiments.plan.request import stored_request
from experiments.show.bundle import bundle
from experiments.store.bundles import MANIFEST, BundleError, manifest_of, unbundle

rocrate = pytest.importorskip("rocrate", reason=".venv/bin/python -m pip install rocrate")
#: the package has the newest context, which has all terms of the older one that a bundle names
WITHOUT_NETWORK = {
    "PYTHONPATH": str(Path(__file__).with_name("without_network")),
    "RO_CRATE_CONTEXT": str(Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"),
}


@pytest.fixture(scope="module")
def lab(trained: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return trained.copy(tmp_path_factory.mktemp("bundled") / "results")


@pytest.fixture(scope="module")
def packed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table ``pair`` as a zip file. Do not write to it."""
    out = tmp_path_factory.mktemp("packed") / "pair.zip"
    shared = ["--registry", str(lab.registry), "--results", str(lab.results), "--profile", "smoke"]
    said = finished([*lab.command("list")[:5], "bundle", "pair", "--out", str(out), *shared])
    assert_clear(said, 0, "pair with 2 runs")
    return out


@pytest.fixture
def folder(packed: Path, tmp_path: Path) -> Path:
    """The same as a folder, to be spoilt."""
    out = tmp_path / "folder"
    unbundle(packed, out)
    return out


def test_nothing_differs_after_bundle_and_unbundle(lab: Lab, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = lab.command("list")[:5]
    assert_clear(finished([*command, "unbundle", str(packed), "--out", str(out)]), 0, "fits")
    said = finished([*command, "diff", str(lab.results), str(out)])
    assert_clear(said, 0, "Nothing differs.")


def test_a_bundle_that_is_a_folder_unpacks_to_the_same(lab: Lab, tmp_path: Path) -> None:
    request = stored_request("smoke", None, lab.results, registry=[lab.registry])
    assert len(bundle(request, "pair", tmp_path / "folder")) == 2
    unbundle(tmp_path / "folder", tmp_path / "out")
    assert difference(lab.results, tmp_path / "out").exit_code == EQUAL


def test_the_same_content_gives_the_same_zip_file(lab: Lab, packed: Path, tmp_path: Path) -> None:
    request = stored_request("smoke", None, lab.results, registry=[lab.registry])
    bundle(request, "pair", tmp_path / "pair.zip")
    assert (tmp_path / "pair.zip").read_bytes() == packed.read_bytes()


def test_every_run_is_an_action_and_every_file_is_described(folder: Path) -> None:
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    entities = {each["@id"]: each for each in graph}
    actions = [each for each in graph if each["@type"] == "CreateAction"]
    assert {action["@id"] for action in actions} == {
        f"#{path.name}" for path in (folder / "runs").iterdir()
    }
    for action in actions:
        named = [*action["object"], *action["result"], action["instrument"]]
        assert {each["@id"] for each in named} <= entities.keys()
        kinds = {each["@id"].split("/")[0] for each in action["object"]}
        assert kinds == {"declared", "datasets"}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files - entities.keys() == {MANIFEST}
    assert {"LICENSE", "environment/lock.txt", "declared/tables/pair.yaml"} <= files


def test_the_required_rules_of_the_process_run_crate_hold(folder: Path, tmp_path: Path) -> None:
    program = shutil.which("rocrate-validator")
    if program is None:
        pytest.skip("no rocrate-validator: `uv tool install roc-validator` installs it")
    words = ["-y", "validate", "-p", "process-run-crate", "-l", "required", "--no-paging"]
    said = subprocess.run(
        [program, *words, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": str(tmp_path)} | WITHOUT_NETWORK,
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_scenes_are_described_with_their_classes(folder: Path) -> None:
    (path,) = (folder / "datasets").iterdir()
    described = json.loads(path.read_text())
    (record, _) = (json.loads(p.read_text()) for p in folder.glob("runs/*/record.json"))
    assert record["spec"]["dataset_digest"] in described["description"]
    (classes,) = [each for each in described["recordSet"] if each["@id"] == "classes"]
    assert [row["classes/name"] for row in classes["data"]] == record["class_names"]


# --- what is refused ------------------------------------------------------------------------------


def test_a_changed_byte_is_named_and_nothing_is_unpacked(folder: Path, tmp_path: Path) -> None:
    path = next(folder.glob("runs/*/record.json"))
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(BundleError, match=r"checksum of runs/.*record\.json does not fit"):
        unbundle(folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_a_missing_file_and_one_too_many_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "extra.txt").write_text("")
    with pytest.raises(BundleError, match=r"extra\.txt has no checksum"):
        unbundle(folder, tmp_path / "out")
    (folder / "extra.txt").unlink()
    (folder / "LICENSE").unlink()
    with pytest.raises(BundleError, match="LICENSE is missing"):
        unbundle(folder, tmp_path / "out")


def test_links_in_a_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    shutil.copy(folder / "LICENSE", secret)  # the checksum would fit
    (folder / "LICENSE").unlink()
    (folder / "LICENSE").symlink_to(secret)
    with pytest.raises(BundleError, match="LICENSE is a link"):
        unbundle(folder, tmp_path / "out")


def zipped(path: Path, *entries: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644) -> Path:
    """A zip file with a manifest that fits, whatever the entries are called."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in entries]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
        archive.writestr(MANIFEST, "".join(lines))
    return path


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "a/../../x", "C:/x", "a\\..\\x", "a//x", "./x", "a/.."]
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    source = zipped(tmp_path / "a.zip", (name, b"x"))
    with pytest.raises(BundleError, match="is no path below the folder"):
        unbundle(source, tmp_path / "below" / "out")
    assert list(tmp_path.iterdir()) == [source]


def test_links_in_a_zip_file_are_refused(tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", ("link", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777)
    with pytest.raises(BundleError, match="link is a link"):
        unbundle(source, tmp_path / "out")


def test_a_zip_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", ("zeros", bytes(8 << 20)))
    with pytest.raises(BundleError, match="as zip bombs do"):
        unbundle(source, tmp_path / "out")


def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", ("a", b"x"), ("a/b", b"x"))
    with pytest.raises(BundleError, match="a is a file and a folder"):
        unbundle(source, tmp_path / "out")


def test_a_truncated_zip_file_is_a_sentence(packed: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.zip"
    short.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(BundleError, match="is damaged"):
        unbundle(short, tmp_path / "out")
    with pytest.raises(BundleError, match=r"There is no .*none\.zip"):
        unbundle(tmp_path / "none.zip", tmp_path / "out")


def test_changed_bytes_within_a_zip_file_are_a_sentence(packed: Path, tmp_path: Path) -> None:
    raw = bytearray(packed.read_bytes())
    raw[200:216] = bytes(16)
    (tmp_path / "spoilt.zip").write_bytes(raw)
    with pytest.raises(BundleError, match="is damaged"):
        unbundle(tmp_path / "spoilt.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_written_over(lab: Lab, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="exists"):
        unbundle(packed, tmp_path / "out")
    request = stored_request("smoke", None, lab.results, registry=[lab.registry])
    with pytest.raises(BundleError, match="exists"):
        bundle(request, "pair", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_a_table_without_runs_says_what_trains_them(lab: Lab, tmp_path: Path) -> None:
    request = stored_request("smoke", None, lab.results, registry=[lab.registry])
    with pytest.raises(BundleError, match=r"run_all\.sh others --profile smoke"):
        bundle(request, "others", tmp_path / "others.zip")
    assert not list(tmp_path.iterdir())


def test_the_manifest_is_what_sha256sum_reads(folder: Path) -> None:
    assert (folder / MANIFEST).read_text() == manifest_of(folder)
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("no sha256sum: `apt-get install coreutils` installs it")
    subprocess.run([program, "-c", "--quiet", MANIFEST], cwd=folder, check=True)
