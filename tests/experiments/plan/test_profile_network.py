"""A profile's own network in place of every table's, and rows that change the training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from experiments.declare.load import OWN, load_registry
from experiments.declare.profile import DataChoice
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import Table
from experiments.declare.training import TrainingOverrides
from experiments.errors import RegistryError
from experiments.plan.plan import PastCosts, make_plan
from experiments.plan.request import Request, without_weights
from experiments.plan.resolve import Blocked, Resolver
from experiments.show.console import plan_sentence
from experiments.store.store import Store
from experiments.store.workspace import Workspace

REGISTRY = load_registry()
NETWORK = "efficientnet_lite0"
PHOTOGRAPHS = {"ccp": "ccp", "ccp_frozen": "ccp", "voc": "voc_subset"}
STUDY = REGISTRY.table("study_pretrained")
#: identities of runs of profiles without a network of their own, without their data's digest
BEFORE = {
    ("quick", "baseline"): "seaformer_l-softmax-scenes-quick-s0-08f0b18caee1",
    ("quick", "full"): "seaformer_l-ssa-scenes-quick-s0-adf233805056",
    ("camvid", "baseline"): "seaformer_l-softmax-camvid-camvid-s0-787d840cfc43",
    ("camvid", "full"): "seaformer_l-ssa-camvid-camvid-s0-5ea95232f654",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Descriptions of the data sets, without a picture: enough for a draft."""
    for name in set(PHOTOGRAPHS.values()):
        (tmp_path / "data" / name).mkdir(parents=True)
        said = {"class_names": ["ground", "coat"], "splits": ["train", "val", "test"]}
        (tmp_path / "data" / name / "dataset.json").write_text(json.dumps(said))
    return Workspace(results=tmp_path / "results", data_root=tmp_path / "data")


def resolver(workspace: Workspace, profile: str) -> Resolver:
    return Resolver(REGISTRY, REGISTRY.profile(profile), workspace)


def draft(workspace: Workspace, profile: str, table: Table, row: str) -> RunSpec:
    spec = resolver(workspace, profile).draft(table, table.row(row))
    assert spec is not None
    return spec


@pytest.mark.parametrize(("profile", "row"), BEFORE, ids="/".join)
def test_runs_of_other_profiles_are_the_same_as_before(
    workspace: Workspace, profile: str, row: str
) -> None:
    spec = draft(workspace, profile, REGISTRY.table("table8"), row)
    assert spec.run_id == BEFORE[profile, row]


@pytest.mark.parametrize("profile", PHOTOGRAPHS)
def test_the_profiles_network_replaces_every_tables(workspace: Workspace, profile: str) -> None:
    own = resolver(workspace, profile)
    for table in REGISTRY.tables.values():
        for row in table.rows:
            reason, spec = own.unfit(table, row), own.draft(table, row)
            if reason is not None or row.rate_from:  # what it is trained at is chosen first
                assert spec is None
                continue
            assert spec is not None
            assert (spec.model, spec.dataset) == (NETWORK, PHOTOGRAPHS[profile])
            scratch = row.training.from_scratch is True
            assert spec.weights == (None if scratch else NETWORK)
            assert spec.evaluation.split == (row.split or "test")
            backbone = "FrozenEfficientNetLite" if "frozen" in profile else "EfficientNetLite"
            assert spec.segmentor["backbone"]["type"] == backbone


def test_what_another_network_cannot_have_blocks_the_row_with_its_reason(
    workspace: Workspace,
) -> None:
    photographs = resolver(workspace, "ccp")
    masks, convolutions = REGISTRY.table("table3"), REGISTRY.table("table10")
    reason = photographs.unfit(masks, next(r for r in masks.rows if r.classifier.name == "none"))
    assert reason is not None
    assert "decides by masks" in reason
    assert "--profile quick" in reason
    extra = next(row for row in convolutions.rows if row.model_overrides)
    assert photographs.unfit(convolutions, extra) is None, "its head has them too"
    other = extra.model_copy(update={"model_overrides": {"backbone": {"key_dims": [8, 8]}}})
    reason = photographs.unfit(convolutions, other)
    assert reason is not None
    assert "backbone.key_dims of seaformer_l" in reason
    assert resolver(workspace, "quick").unfit(convolutions, other) is None


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        ("efficientnet_lite", "paper", "Did you mean 'efficientnet_lite0'"),
        ("yoso_r50", "paper", "takes no classifier"),
        (NETWORK, "large", "Known: frozen, small, tiny"),
    ],
)
def test_a_profile_with_a_network_that_cannot_stand_in_is_refused(
    tmp_path: Path, model: str, size: str, said: str
) -> None:
    document = yaml.safe_load((OWN / "profiles" / "smoke.yaml").read_text())
    document |= {"name": "mine", "model": model, "model_size": size}
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(RegistryError, match=said):
        load_registry([tmp_path])


# --- rows that change the training ----------------------------------------------------------------


def test_a_row_changes_what_it_names_and_nothing_else(workspace: Workspace) -> None:
    pretrained = draft(workspace, "ccp", STUDY, "ssa-pretrained")
    scratch = draft(workspace, "ccp", STUDY, "ssa-scratch")
    assert (pretrained.weights, scratch.weights) == (NETWORK, None)
    changed = scratch.training.model_copy(update={"from_scratch": False})
    again = scratch.model_copy(update={"training": changed, "weights": NETWORK})
    assert again.run_id == pretrained.run_id
    table8 = draft(workspace, "ccp", REGISTRY.table("table8"), "full")
    assert table8.run_id == pretrained.run_id, "the profile's own way is one run for both tables"


def test_a_factor_multiplies_every_rate(workspace: Workspace) -> None:
    own = resolver(workspace, "quick")
    table = REGISTRY.table("table8")
    row = table.rows[0].model_copy(update={"training": TrainingOverrides(lr_times=0.5)})
    plain, slower = own.draft(table, table.rows[0]), own.draft(table, row)
    assert plain is not None
    assert slower is not None
    assert slower.training.optimizer.lr == plain.training.optimizer.lr / 2
    assert slower.run_id != plain.run_id
    rate = slower.training.optimizer.model_copy(update={"lr": plain.training.optimizer.lr})
    training = slower.training.model_copy(update={"optimizer": rate})
    assert slower.model_copy(update={"training": training}).run_id == plain.run_id


def test_the_calls_from_scratch_overrules_a_row(workspace: Workspace) -> None:
    profile, deviations = without_weights(REGISTRY.profile("ccp"))
    own = Resolver(REGISTRY, profile, workspace, deviations)
    spec = own.draft(STUDY, STUDY.row("ssa-pretrained"))
    assert spec is not None
    assert spec.weights is None


def test_a_study_of_other_profiles_is_left_out_of_all_and_says_why(workspace: Workspace) -> None:
    quick = Request(REGISTRY, REGISTRY.profile("quick"), (0,), workspace, 1, "cpu")
    assert STUDY not in quick.tables("all")
    assert STUDY in Request(REGISTRY, REGISTRY.profile("ccp"), (0,), workspace, 1, "cpu").tables(
        "all"
    )
    blocked = quick.resolver.resolve(STUDY, STUDY.rows[0], 0)
    assert isinstance(blocked, Blocked)
    assert "run it with --profile ccp" in blocked.reason


def test_pretrained_rows_need_the_full_size_network(workspace: Workspace) -> None:
    anywhere = STUDY.model_copy(update={"profiles": ()})
    reason = resolver(workspace, "smoke").unfit(anywhere, anywhere.row("ssa-pretrained"))
    assert reason is not None
    assert "fit the full-size network only" in reason
    assert resolver(workspace, "smoke").unfit(anywhere, anywhere.row("ssa-scratch")) is None


# --- how long -------------------------------------------------------------------------------------


def test_a_plan_tells_its_time_before_the_first_run(workspace: Workspace) -> None:
    """As the profile's file says it, until a record of the profile says otherwise."""
    made = DataChoice(name="scenes", settings={"train": 8, "val": 4})
    photographs = REGISTRY.profile("ccp").model_copy(update={"dataset": made})
    profile, _ = without_weights(photographs)  # neither data nor weights need be here
    evaluation = profile.evaluation
    assert evaluation is not None
    profile = profile.model_copy(
        update={"evaluation": evaluation.model_copy(update={"split": "val"})}
    )
    request = Request(REGISTRY, profile, (0,), workspace, 2, "cpu")
    table = REGISTRY.table("table8")
    assert profile.run_s is not None
    costs = PastCosts([Store(workspace.results)], {profile.name: profile.run_s})  # none is shipped
    plan = make_plan([table], request.resolver, (0,), Store(workspace.results), costs)
    assert len(plan.to_do) == 7
    assert plan.expected_s(2) == 4 * profile.run_s
    assert plan_sentence(plan, 2).endswith("about 7 min with 2 at once.")


def test_a_row_may_ask_for_the_weights_that_its_profile_starts_from(workspace: Workspace) -> None:
    row = STUDY.row("ssa-pretrained")
    table = STUDY.model_copy(update={"profiles": ()})
    spec = draft(workspace, "ccp_frozen", table, row.id)
    assert (spec.model_size, spec.weights) == ("frozen", NETWORK)
    assert resolver(workspace, "quick").draft(table, row) is None
