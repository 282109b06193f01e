"""What a classifier does not have is refused by a sentence that names what was meant."""

from __future__ import annotations

from typing import Any

import pytest

from ssa.classifiers import build_classifier
from ssa.errors import ConfigurationError
from ssa.heads.classifier_head import ClassifierHead


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"edge_size": 3}, "did you mean overrides={'edge_size'"),
        ({"edge_sise": 3}, "did you mean overrides={'edge_size'"),
        ({"dropout": 0.1}, "Did you mean 'dropout_ratio'"),
        ({"override": {}}, "Did you mean 'overrides'"),
        ({"overrides": {"edge_sise": 3}}, "Did you mean 'edge_size'"),
    ],
)
def test_a_setting_that_is_not_there(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        build_classifier("ssa", 8, 3, **settings)


def test_a_switch_beside_the_name_in_a_head() -> None:
    head = {"type": "FCNHead", "in_channels": 8, "channels": 8, "num_classes": 3, "num_convs": 1}
    with pytest.raises(ConfigurationError, match="did you mean overrides="):
        ClassifierHead(head, {"name": "ssa", "edge_size": 3})
