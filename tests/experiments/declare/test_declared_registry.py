"""Reading declared things: every mistake is one sentence that names the file."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lab import TABLES, write_registry

from experiments.declare.load import OWN, load_registry
from experiments.declare.profile import Profile
from experiments.declare.table import Row, Table
from experiments.declare.yaml_files import read_yaml
from experiments.errors import RegistryError, SsaError, UnknownNameError
from experiments.plan.resolve import Resolver
from experiments.store.workspace import Workspace
from ssa.datasets.base import DATASETS

SHIPPED = load_registry()
ROWS = [(table, row) for table in SHIPPED.tables.values() for row in table.rows]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_registry(tmp_path / "mine")


def refused(folder: Path) -> str:
    with pytest.raises(RegistryError) as caught:
        load_registry([folder])
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_the_paper_has_13_tables_and_8_figures() -> None:
    assert len(SHIPPED.paper.tables) == 13
    assert len(SHIPPED.paper.figures) == 8
    assert set(SHIPPED.paper.tables) <= set(SHIPPED.tables)


@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda x: getattr(x, "id", None) or x.name)
def test_every_shipped_row_can_be_resolved(table, row) -> None:  # type: ignore[no-untyped-def]
    own = table.profiles[0] if table.profiles else "smoke"
    for each in table.at_its_rates(row):
        spec = Resolver(SHIPPED, SHIPPED.profile(own), Workspace()).draft(table, each)
        assert spec is not None
        assert spec.run_id == type(spec).model_validate_json(spec.canonical()).run_id


def test_a_users_things_stand_beside_the_shipped_ones(folder: Path) -> None:
    mine = load_registry([folder])
    assert set(mine.tables) == set(SHIPPED.tables) | set(TABLES)
    assert set(SHIPPED.profiles) < set(mine.profiles)
    assert "pair" not in load_registry().tables


def test_a_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        SHIPPED.tables["mine"] = SHIPPED.tables["table8"]  # type: ignore[index]


@pytest.mark.parametrize(("kind", "name", "near"), [("table", "tabel8", "table8")])
def test_an_unknown_name_proposes_the_nearest(kind: str, name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        getattr(SHIPPED, kind)(name)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(tmp_path / "nowhere")


def test_a_taken_name_names_both_files(folder: Path) -> None:
    text = TABLES["pair"].replace("name: pair", "name: table8")
    (folder / "tables" / "other.yaml").write_text(text)
    sentence = refused(folder)
    assert "table8" in sentence
    assert "other.yaml" in sentence
    assert re.search(r"tables/table08\.yaml", sentence)


def test_two_of_the_users_own_may_not_collide_either(folder: Path) -> None:
    (folder / "tables" / "second.yaml").write_text(TABLES["pair"])
    assert "has already taken" in refused(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name: [pair", "not valid YAML"),
        (b"\tname: pair", "not valid YAML"),
        (b"name: caf\xe9", "UTF-8"),
        (b"", "dictionary"),
        (b"- name: pair", "dictionary"),
        (TABLES["one"].replace("title", "titel").encode(), "title"),
        (TABLES["one"].replace("{name: softmax}", "softmax").encode(), "rows.0.classifier"),
        (TABLES["one"].replace("segnext_t", "segnext_x").encode(), "Did you mean 'segnext_t'"),
    ],
    ids=["bracket", "tab", "latin-1", "empty", "list", "misspelt", "wrong-type", "unknown-model"],
)
def test_a_file_that_is_wrong_is_named_with_what_is_wrong(
    folder: Path, content: bytes, says: str
) -> None:
    (folder / "tables" / "one.yaml").write_bytes(content)
    sentence = refused(folder)
    assert says in sentence
    assert "one" in sentence


#: a shipped file, what is written in place of what, what is said
MISTAKES = [
    ("tables/table08.yaml", "label:", "lable:", r"rows\.0\.lable: .*mean 'label'"),
    ("tables/table08.yaml", "overrides:", "overides:", r"\.classifier\.overides: .*'overrides'"),
    ("tables/table08.yaml", "miou:", "moiu:", r"\.reported\.moiu: .*mean 'miou'"),
    ("tables/table08.yaml", "kind: gain", "kind: gian", r"claims\.\d+: .*value 'gian'.*'gain'"),
    ("tables/table08.yaml", "miou: 42.36", "miou: .nan", r"\.reported\.miou: .*, not nan"),
    ("figures/figure4.yaml", "label:", "lable:", r"rows\.0\.lable: .*mean 'label'"),
    ("profiles/smoke.yaml", "iterations: ", "iterations: -", r"training\.iterations: .*, not -"),
    ("profiles/smoke.yaml", "power:", "powr:", r"training\.schedule\.powr: .*mean 'power'"),
    ("profiles/smoke.yaml", "AdamW", "Adam", r"optimizer\.type: .*'Adam'.*mean 'AdamW'"),
    ("profiles/smoke.yaml", "seeds: ", "seeds: -", r"seeds: .* greater than 0, not -"),
    ("protocols/segnext.yaml", "why:", "wyh:", r"deviations\.0\.wyh: .*mean 'why'"),
    ("models/segnext_t.yaml", "backbone:", "backbon:", r"backbon: .*mean 'backbone'"),
]


@pytest.mark.parametrize(("file", "old", "new", "says"), MISTAKES)
def test_a_mistake_at_any_depth_is_named_with_its_place_and_the_nearest_name(
    tmp_path: Path, file: str, old: str, new: str, says: str
) -> None:
    text = (OWN / file).read_text()
    assert old in text
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text(text.replace(old, new, 1))
    sentence = refused(tmp_path)
    assert sentence.startswith(f"{path}: ")
    assert re.search(says, sentence), sentence


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("tables/x.yml", "rename it to x.yaml"),
        ("table/x.yaml", "Did you mean 'tables'"),
        ("classifer/x.py", "Did you mean 'classifiers'"),
        ("profil/notes.txt", "Did you mean 'profiles'"),
        ("mine/x.yaml", "Unknown folder of a registry 'mine'"),
        ("pair.yaml", "move it into one of tables"),
    ],
)
def test_what_nobody_would_read_is_refused(folder: Path, place: str, says: str) -> None:
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text(TABLES["pair"])
    sentence = refused(folder)
    assert says in sentence
    assert str(folder / place.split("/")[0]) in sentence


def test_the_folder_of_one_kind_is_no_registry(folder: Path) -> None:
    assert f"--registry {folder}" in refused(folder / "tables")


def test_notes_scripts_and_hidden_files_may_lie_in_a_registry(folder: Path) -> None:
    for place in ("README.md", "make.py", ".git/x.yaml", "tables/notes.md", "tables/.x.yaml.swp"):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text("")
    assert "pair" in load_registry([folder]).tables


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("a: &b {x: 1, y: 2}\nc: {<<: *b, x: 3}", {"x": 3, "y": 2}),
        ("a: &b {x: 1}\nb: &d {y: 2}\nc: {<<: [*b, *d]}", {"x": 1, "y": 2}),
        ("a: {deep: {deep: &b {<<: {x: 2}, x: 1}}}\nc: {<<: *b, z: 0}", {"x": 1, "z": 0}),
    ],
    ids=["anew", "several", "nested"],
)
def test_merge_keys_work(tmp_path: Path, text: str, means: dict[str, int]) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert read_yaml(tmp_path / "x.yaml")["c"] == means


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: &b {x: 1}\nc: {<<: *b, y: 1, y: 2}", "a: &b {}\nc: {<<: *b, <<: *b}"]
)
def test_a_key_that_stands_twice_is_refused_also_beside_a_merge_key(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RegistryError, match="stands twice"):
        read_yaml(tmp_path / "x.yaml")


def test_a_folder_where_a_file_should_be(folder: Path) -> None:
    (folder / "tables" / "odd.yaml").mkdir()
    assert "odd.yaml" in refused(folder)


def test_the_fast_parser_reads_the_same_as_the_safe_one() -> None:
    for path in (Path(__file__).resolve().parents[3] / "experiments" / "tables").glob("*.yaml"):
        table = SHIPPED.table(yaml.safe_load(path.read_text())["name"])
        read = type(table).model_validate(yaml.safe_load(path.read_text()))
        assert table == read.model_copy(update={"paper": SHIPPED.paper})


def test_profiles_differ_in_size_not_in_the_way_they_count() -> None:
    smoke, quick = SHIPPED.profile("smoke"), SHIPPED.profile("quick")
    assert smoke.training.iterations < quick.training.iterations
    for one, other in itertools.combinations(SHIPPED.profiles.values(), 2):
        assert isinstance(one, Profile)
        assert one.name != other.name
    assert [p.name for p in SHIPPED.profiles.values() if p.compares_with_paper] in ([], ["paper"])


# --- any YAML -------------------------------------------------------------------------------------

_NAMES = st.sampled_from([*Table.model_fields, *Row.model_fields, "name", "<<", "é", ""])
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.binary(max_size=3)
    | st.sampled_from(["softmax", "ssa", "segnext_t", "ade20k", "table8", "pair"])
)
_KEYS = _NAMES | st.none() | st.integers() | st.booleans() | st.dates()
_STRUCTURES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
#: pieces of YAML's own language, whole and broken
_MARKS = (
    "[ ] { } - ? : , &a *a ' \" \\ # % ! > | --- ... = ~ \0 \x85 0x 1_0 .nan 2001-99-99".split(" ")  # noqa: SIM905
)
_TAGS = ["<<: *a", "!!binary ", "!!set ", "!!python/object:os.x ", "!!timestamp ", "%YAML 9.9"]
_PIECES = st.sampled_from(
    [
        *_MARKS,
        *_TAGS,
        "name: ",
        "title:",
        "rows:",
        "- ",
        ": ",
        "\n",
        "\n  ",
        "\t",
        "\ufeff",
        "\ud800",
    ]
)
_TEXTS = st.lists(_PIECES | st.text(max_size=4), max_size=15).map("".join)
_VALID = yaml.safe_load(TABLES["pair"])


@st.composite
def _changed(draw: st.DrawFn) -> Any:
    """A whole table with one thing in it replaced."""
    table = copy.deepcopy(_VALID)
    place: Any = draw(st.sampled_from([table, *table["rows"], table["rows"][0]["classifier"]]))
    place[draw(st.sampled_from([*place, *Row.model_fields]))] = draw(_STRUCTURES)
    return table


_FILES = (
    st.binary(max_size=60)
    | _TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | (_STRUCTURES | _changed()).map(lambda thing: yaml.dump(thing, allow_unicode=True).encode())
)


@pytest.mark.parametrize("kind", ["tables", "figures", "profiles", "models", "datasets"])
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(content=_FILES)
@example(content=b"title: 2001-99-99")
@example(content=b"0000-00-00")
@example(content=b"title: !!timestamp x")
@example(content=b"title: !!bool x")
@example(content=b"title: !!int ''")
@example(content=b"&a [*a]")
@example(content=b"rows: &a {classifier: *a}")
@example(content=b"[" * 5000)
def test_any_file_is_taken_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, kind: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / kind).mkdir()
    (folder / kind / "anything.yaml").write_bytes(content)
    before, sentence = dict(DATASETS), "anything.yaml"
    try:
        load_registry([folder])
    except SsaError as error:
        sentence = str(error)
    finally:
        DATASETS._things = before
    assert "anything.yaml" in sentence
    assert "\n" not in sentence
