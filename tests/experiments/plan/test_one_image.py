"""One image a micro-batch is refused where a network normalises what it has pooled to one value."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from experiments.declare.load import load_registry
from experiments.declare.run_spec import RunSpec
from experiments.plan.one_image import one_image_fault
from experiments.plan.resolve import Blocked, Resolver
from experiments.store.workspace import Workspace

#: model → whether one image of the smoke profile's 64×64 pixels is enough
CARDS = {
    "upernet_swin_t": False,  # pyramid pooling
    "cgrseg_b": False,  # strips of a map of one pixel
    "pem_r50": False,  # a channel gate
    "seaformer_l": True,
    "ocrnet_hr48": True,
    "segformer_b5": True,
    "segnext_t": True,
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(results=tmp_path_factory.mktemp("results"))


def resolve(
    workspace: Workspace, model: str, accumulation: int, processes: int = 1
) -> RunSpec | Blocked:
    registry = load_registry()
    given = {"accumulation": accumulation, "processes": processes}
    resolver = Resolver(registry, registry.profile("smoke"), workspace, **given)  # type: ignore[arg-type]
    for table in registry.tables.values():
        for row in table.rows:
            if (row.model or table.model) == model:
                return resolver.resolve(table, row, 0)
    raise AssertionError(model)


@pytest.mark.parametrize(("model", "enough"), CARDS.items())
def test_one_image_a_micro_batch_is_refused_with_a_number_that_works(
    workspace: Workspace, model: str, enough: bool
) -> None:
    alone = resolve(workspace, model, accumulation=4)
    if enough:
        assert isinstance(alone, RunSpec)
        return
    assert isinstance(alone, Blocked)
    assert "leave one image to each" in alone.reason
    assert model in alone.reason
    assert "--accumulation 2" in alone.reason
    assert isinstance(resolve(workspace, model, accumulation=2), RunSpec)


def test_a_share_of_one_image_on_several_devices_counts(workspace: Workspace) -> None:
    alone = resolve(workspace, "upernet_swin_t", accumulation=2, processes=2)
    assert isinstance(alone, Blocked)
    assert "--accumulation 1" in alone.reason
    spread = resolve(workspace, "upernet_swin_t", accumulation=1, processes=4)
    assert isinstance(spread, Blocked)
    assert "fewer --gpus" in spread.reason


def test_synchronised_over_devices_one_image_each_is_enough(workspace: Workspace) -> None:
    alone = resolve(workspace, "upernet_swin_t", accumulation=4)
    assert isinstance(alone, Blocked)
    assert alone.draft is not None
    text = json.dumps(alone.draft.segmentor).replace('"BN"', '"SyncBN"')
    synchronised = alone.draft.model_copy(update={"segmentor": json.loads(text)})
    assert one_image_fault(synchronised)
    halved = synchronised.training.model_copy(update={"accumulation": 1})
    assert not one_image_fault(synchronised.model_copy(update={"training": halved}), processes=4)


@pytest.mark.parametrize("model", ["upernet_swin_t", "segformer_b5"])
def test_it_says_what_the_network_does(workspace: Workspace, model: str) -> None:
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    import ssa.backbones
    import ssa.heads  # noqa: F401

    alone = resolve(workspace, model, accumulation=4)
    spec = alone.draft if isinstance(alone, Blocked) else alone
    assert spec is not None
    with DefaultScope.overwrite_default_scope("mmseg"):
        network = MODELS.build(ConfigDict(copy.deepcopy(spec.segmentor))).train()
    network._forward(torch.randn(2, 3, *spec.training.augmentation.crop))
    image = torch.randn(1, 3, *spec.training.augmentation.crop)
    if CARDS[model]:
        network._forward(image)
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            network._forward(image)


def test_a_network_that_cannot_be_built_is_left_to_its_run(workspace: Workspace) -> None:
    alone = resolve(workspace, "segformer_b5", accumulation=4)
    assert isinstance(alone, RunSpec)
    broken = alone.model_copy(update={"segmentor": {"type": "Nothing"}})
    assert one_image_fault(broken) == ""
