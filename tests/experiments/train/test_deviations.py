"""What devices make of a run stands in its record and beside its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import write_registry
from mmengine.runner import Runner
from rich.console import Console
from samples import make_areas, make_spec, make_training, put
from torch import nn

from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.judge.assemble import assemble
from experiments.plan.plan import make_plan
from experiments.plan.resolve import Resolver
from experiments.show.console import show_table
from experiments.show.export import export
from experiments.store.store import Store
from experiments.store.workspace import Workspace
from experiments.train.config import Surroundings
from experiments.train.hooks import StateHook
from experiments.train.trainer import TELLING_VARIABLES, deviations_of
from ssa.classifiers import CLASSIFIERS


def deviations(
    classifier: str, *, processes: int = 1, device: str = "cpu", amp: bool = False, **switches: Any
) -> tuple[str, ...]:
    here = Path("nowhere")
    around = Surroundings(here, here, here, here, device=device, processes=processes)
    accumulation = 2 if processes > 1 else 1
    spec = make_spec(training=make_training(batch=8, accumulation=accumulation, amp=amp))
    cls = CLASSIFIERS[classifier]
    preset = cls.Config.preset(cls.Config.default_preset, **switches)
    return deviations_of(spec, around, nn.Sequential(cls(8, 3, preset)))


def test_terms_of_one_device_are_named_where_there_are_several() -> None:
    (sentence,) = deviations("ssa", processes=2)
    assert sentence == (
        "coarse_ce, teacher_ce, response, semantic taken over 2 of a batch's 8 images at a time: "
        "2 devices, each on its own images"
    )
    (without,) = deviations("ssa", processes=4, response_weight=0.0, coarse_ce_weight=0.0)
    assert without.startswith("teacher_ce, semantic taken over 1 of a batch's 8 images")


@pytest.mark.parametrize("classifier", list(CLASSIFIERS))
def test_one_device_deviates_in_nothing(classifier: str) -> None:
    assert deviations(classifier) == ()
    several = [text for text in deviations(classifier, processes=2) if "on its own images" in text]
    assert len(several) == (classifier != "softmax")


@pytest.mark.parametrize("name", TELLING_VARIABLES)
def test_a_variable_by_which_a_library_computes_otherwise_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert deviations("softmax") == (f"trained with {name}=1 in the environment",)


def test_what_an_earlier_attempt_deviated_in_stays_with_a_run(tmp_path: Path) -> None:
    """A run that was begun on two GPUs and taken up on a processor is not one of a processor's."""
    begun, taken_up = StateHook(str(tmp_path), 60), StateHook(str(tmp_path), 60)
    begun.device, begun.deviations = "cuda", ("terms over half a batch", "both")
    taken_up.device, taken_up.deviations = "cpu", ("both", "float32")
    checkpoint: dict[str, Any] = {"meta": {"iter": 20}}
    begun.before_save_checkpoint(Runner, checkpoint)  # type: ignore[arg-type]
    taken_up.after_load_checkpoint(Runner, checkpoint)  # type: ignore[arg-type]
    moved = "trained on cuda until iteration 20"
    assert taken_up.deviations == ("terms over half a batch", "both", moved, "float32")
    again = StateHook(str(tmp_path), 60)
    again.device = "cpu"
    taken_up.before_save_checkpoint(Runner, checkpoint)  # type: ignore[arg-type]
    again.after_load_checkpoint(Runner, checkpoint)  # type: ignore[arg-type]
    assert again.deviations == taken_up.deviations
    assert again.resumed_at == (20, 20)


def test_mixed_precision_that_the_device_lacks_is_named() -> None:
    (sentence,) = deviations("softmax", amp=True)
    assert sentence.startswith("float32 on the CPU, where the protocol trains in mixed precision")
    assert deviations("softmax", amp=True, device="cuda") == ()


def test_deviations_stand_beside_their_row_in_every_export(tmp_path: Path) -> None:
    registry = load_registry([write_registry(tmp_path / "registry")])
    workspace, store = Workspace(tmp_path / "results"), Store(tmp_path / "results")
    resolver, table = (
        Resolver(registry, registry.profile("smoke"), workspace),
        registry.table("pair"),
    )
    for row in table.rows:
        spec = resolver.resolve(table, row, 0)
        assert isinstance(spec, RunSpec)
        areas = make_areas(0)
        record = put(store, spec, areas)
        if row.id == "full":
            changed = record.model_copy(update={"deviations": deviations("ssa", processes=2)})
            store.write_record(changed, areas.to_bytes())
    (planned,) = make_plan([table], resolver, [0], store).tables
    result = assemble(planned, store, None)
    paths = {path.suffix: path for path in export(result, tmp_path / "tables")}
    console = Console(width=300, record=True, file=(tmp_path / "console").open("w"))
    show_table(console, result)
    for text in (console.export_text(), paths[".md"].read_text()):
        assert "Deviates: coarse_ce, teacher_ce, response, semantic taken over 2 of" in text
    assert "Deviates: coarse" in paths[".tex"].read_text()
    rows = json.loads(paths[".json"].read_text())["rows"]
    assert [len(row["runs"][0]["deviations"]) for row in rows] == [0, 1]
