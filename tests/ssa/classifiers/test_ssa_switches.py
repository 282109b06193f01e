"""Every switch of SSA changes exactly what it names: parameters, loss keys, gradient paths, values.

The expectation of a switch is written as its difference from the full method; all that a row does
not mention must stay as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from ssa.classifiers import SSAClassifier, SSAConfig, build_classifier
from ssa.errors import ConfigurationError, UnknownNameError

CHANNELS, CLASSES = 12, 5

#: groups of parameters by the first part of their names
GROUPS = {
    "W": ("conv_seg.weight",),
    "b": ("conv_seg.bias",),
    "PE": ("position_encoding.conv.weight", "position_encoding.conv.bias"),
    "P": ("position_basis",),
    "φs": tuple(f"semantic_adapter.{n}" for n in ("hidden.weight", "output.weight", "output.bias")),
    "φp": tuple(f"spatial_adapter.{n}" for n in ("hidden.weight", "output.weight", "output.bias")),
    "Wo": ("output_projection.weight",),
}
GROUPS |= {f"^{g}": tuple(f"teacher.{n}" for n in GROUPS[g]) for g in ("φs", "φp", "Wo")}
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}

STUDENT = frozenset(["W", "b", "PE", "P", "φs", "φp", "Wo"])
TEACHER = frozenset(["W", "PE", "P", "^φs", "^φp", "^Wo"])
FULL_PATHS: dict[str, frozenset[str]] = {
    "ce": STUDENT,
    "dice": STUDENT,
    "coarse_ce": frozenset(["W", "b"]),
    "teacher_ce": TEACHER,
    "teacher_dice": TEACHER,
    "response": STUDENT,
    "semantic": frozenset(["W", "b", "φs"]),
    "spatial": frozenset(["W", "b", "PE", "P", "φp"]),
}
ALL = frozenset(FULL_PATHS)


@dataclass(frozen=True)
class Row:
    """A switch and how the classifier differs from the full one."""

    override: dict[str, Any]
    #: groups whose parameters disappear, from everywhere
    gone: frozenset[str] = frozenset()
    #: loss keys that disappear
    off: frozenset[str] = frozenset()
    #: loss keys whose value changes when all shared parameters are the same
    moved: frozenset[str] = frozenset()
    #: parameters that appear (by full name) and the terms that reach them
    new: dict[str, frozenset[str]] = field(default_factory=dict)
    #: single parameters that disappear while their group stays
    less: frozenset[str] = frozenset()


def keys(*names: str) -> frozenset[str]:
    return frozenset(names)


DISTILLATION_OFF = {"response_weight": 0, "semantic_weight": 0, "spatial_weight": 0}
TEACHER_TERMS = keys("teacher_ce", "teacher_dice", "response", "semantic", "spatial")
TEACHER_GROUPS = keys("^φs", "^φp", "^Wo")
DECISION = keys("ce", "dice", "response")
UPSAMPLED = keys("ce", "dice", "coarse_ce", "teacher_ce", "teacher_dice")
LOGITS = DECISION | keys("teacher_ce", "teacher_dice")

ROWS: dict[str, Row] = {
    # Table 8
    "no spatial adaptation": Row(
        {"spatial_adaptation": False, "spatial_weight": 0},
        gone=keys("PE", "P", "φp", "^φp"),
        off=keys("spatial"),
        moved=LOGITS,
    ),
    "no semantic adaptation": Row(
        {"semantic_adaptation": False, "semantic_weight": 0},
        gone=keys("φs", "^φs"),
        off=keys("semantic"),
        moved=LOGITS,
    ),
    "no teacher": Row(
        {"teacher": False, **DISTILLATION_OFF}, gone=TEACHER_GROUPS, off=TEACHER_TERMS
    ),
    "SEPA alone": Row(
        {"spatial_adaptation": False, "teacher": False, **DISTILLATION_OFF},
        gone=keys("PE", "P", "φp") | TEACHER_GROUPS,
        off=TEACHER_TERMS,
        moved=keys("ce", "dice"),
    ),
    "SPPA alone": Row(
        {"semantic_adaptation": False, "teacher": False, **DISTILLATION_OFF},
        gone=keys("φs") | TEACHER_GROUPS,
        off=TEACHER_TERMS,
        moved=keys("ce", "dice"),
    ),
    "SEPA + L_g + L_sd": Row(
        {"spatial_adaptation": False, "response_weight": 0, "spatial_weight": 0},
        gone=keys("PE", "P", "φp", "^φp"),
        off=keys("response", "spatial"),
        moved=LOGITS - keys("response"),
    ),
    "SPPA + L_g + L_pd": Row(
        {"semantic_adaptation": False, "response_weight": 0, "semantic_weight": 0},
        gone=keys("φs", "^φs"),
        off=keys("response", "semantic"),
        moved=LOGITS - keys("response"),
    ),
    "fixed classifier": Row(
        {
            "semantic_adaptation": False,
            "spatial_adaptation": False,
            "teacher": False,
            "cosine_scale": None,
            "output_projection": False,
            "dice_weight": 0,
            "coarse_ce_weight": 0,
            **DISTILLATION_OFF,
        },
        gone=keys("PE", "P", "φs", "φp", "Wo") | TEACHER_GROUPS,
        off=ALL - keys("ce"),
        moved=keys("ce"),
    ),
    # Table 4
    "basis only": Row(
        {"spatial_basis_only": True, "spatial_weight": 0},
        gone=keys("φp", "^φp"),
        off=keys("spatial"),
        moved=LOGITS,
    ),
    "basis only, without semantic adaptation or coarse mask": Row(
        {
            "spatial_basis_only": True,
            "semantic_adaptation": False,
            "coarse_ce_weight": 0,
            "semantic_weight": 0,
            "spatial_weight": 0,
        },
        gone=keys("φp", "^φp", "φs", "^φs", "b"),
        off=keys("spatial", "semantic", "coarse_ce"),
        moved=LOGITS,
    ),
    # Table 5
    "−H": Row({"entropy_weighting": False}, moved=keys("response")),
    "−B": Row({"boundary_split": False}, moved=keys("response")),
    "−E": Row({"class_split": False}, moved=keys("response")),
    # Table 6
    "softmax over classes": Row({"spatial_softmax": "classes"}, moved=DECISION | keys("spatial")),
    # Table 7
    "sinusoidal": Row(
        {"position_encoding": "sinusoidal"}, gone=keys("PE"), moved=LOGITS | keys("spatial")
    ),
    "learnable": Row(
        {"position_encoding": "learnable", "learnable_grid": 9},
        gone=keys("PE"),
        moved=LOGITS | keys("spatial"),
        new={"position_encoding.table": LOGITS | keys("spatial")},
    ),
    # Table 9 and the weights
    **{
        f"no {key}": Row({f"{key}_weight": 0}, off=keys(key))
        for key in ("ce", "dice", "coarse_ce", "teacher_ce", "teacher_dice")
    },
    **{
        f"no {key}": Row({f"{key}_weight": 0}, off=keys(key))
        for key in ("response", "semantic", "spatial")
    },
    # Table 11
    "edge 1": Row({"edge_size": 1}, moved=keys("response")),
    "edge 5": Row({"edge_size": 5}, moved=keys("response")),
    # Table 12
    "self-distillation": Row({"teacher_guide": "prediction"}, moved=TEACHER_TERMS),
    # Table 13
    **{
        f"λ of {key}": Row({f"lambda_{key}": 2}, moved=keys(key))
        for key in ("response", "semantic", "spatial")
    },
    # the paper's text against the released code
    "inner product": Row({"cosine_scale": None}, moved=LOGITS),
    "another τ": Row({"cosine_scale": 7.5}, moved=LOGITS),
    "no output projection": Row({"output_projection": False}, gone=keys("Wo", "^Wo"), moved=LOGITS),
    "one layer": Row(
        {"projection_layers": 1},
        moved=ALL - keys("coarse_ce"),
        less=frozenset(
            f"{p}{s}_adapter.hidden.weight"
            for p in ("", "teacher.")
            for s in ("semantic", "spatial")
        ),
    ),
    "teacher-only soft label": Row({"soft_label_mix": 0}, moved=keys("response")),
    "raw Gram matrix": Row({"relation_scale": None}, moved=keys("semantic")),
    "ce over valid pixels": Row({"ce_average": "valid"}, moved=keys("ce")),
    "align_corners as at test time": Row({"training_align_corners": False}, moved=UPSAMPLED),
    "no coarse bias": Row(
        {"coarse_bias": False},
        gone=keys("b"),
        # a constant over positions: P_c, and with it L_pd, does not see it
        moved=ALL - keys("teacher_ce", "teacher_dice", "spatial"),
    ),
}


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, CHANNELS, 20, 22, generator=generator)
    labels = torch.randint(0, CLASSES, (2, 1, 5, 6), generator=generator)
    labels = labels.repeat_interleave(16, 2).repeat_interleave(15, 3)
    labels[0, :, :9] = 255
    return features, labels


def build(override: dict[str, Any], like: SSAClassifier | None = None) -> SSAClassifier:
    torch.manual_seed(1)
    classifier = build_classifier(
        "ssa", CHANNELS, CLASSES, overrides=override, dropout_ratio=0, align_corners=False
    )
    assert isinstance(classifier, SSAClassifier)
    torch.nn.init.normal_(classifier.conv_seg.weight, std=0.3)
    if classifier.conv_seg.bias is not None:
        torch.nn.init.normal_(classifier.conv_seg.bias)
    if like is not None:
        mine, theirs = classifier.state_dict(), like.state_dict()
        classifier.load_state_dict(
            {
                k: theirs[k] if k in theirs and theirs[k].shape == v.shape else v
                for k, v in mine.items()
            }
        )
    return classifier


def gradient_paths(classifier: SSAClassifier, terms: dict[str, Tensor]) -> dict[str, set[str]]:
    names, parameters = zip(*classifier.named_parameters())
    paths = {}
    for key, term in terms.items():
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        paths[key] = {name for name, gradient in zip(names, gradients) if gradient is not None}
    return paths


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_switch_changes_exactly_what_it_names(row: Row, batch: tuple[Tensor, Tensor]) -> None:
    full = build({})
    switched = build(row.override, like=full)
    before, after = full.loss(*batch), switched.loss(*batch)

    kept = {n for n, g in GROUP_OF.items() if g not in row.gone and n not in row.less}
    assert {name for name, _ in switched.named_parameters()} == kept | set(row.new)

    assert set(after) == ALL - row.off

    expected = {}
    for key in ALL - row.off:
        groups = FULL_PATHS[key] - row.gone
        names = {n for n in kept if GROUP_OF[n] in groups}
        expected[key] = names | {name for name, terms in row.new.items() if key in terms}
    assert gradient_paths(switched, after) == expected

    moved = {key for key in after if not torch.isclose(before[key], after[key], rtol=1e-5)}
    assert moved == row.moved


@pytest.mark.parametrize("key", sorted(ALL))
def test_a_weight_scales_its_own_term_alone(key: str, batch: tuple[Tensor, Tensor]) -> None:
    full = build({})
    default = getattr(full.config, f"{key}_weight")
    before = full.loss(*batch)
    after = build({f"{key}_weight": 3 * default}, like=full).loss(*batch)
    for name in ALL:
        factor = 3 if name == key else 1
        torch.testing.assert_close(after[name], factor * before[name])


@pytest.mark.parametrize("key", ["response", "semantic", "spatial"])
def test_lambda_multiplies_the_released_weight(key: str, batch: tuple[Tensor, Tensor]) -> None:
    full = build({})
    scaled = build({f"lambda_{key}": 4}, like=full)
    torch.testing.assert_close(scaled.loss(*batch)[key], 4 * full.loss(*batch)[key])


def test_the_full_method_has_the_parameters_that_the_paper_counts() -> None:
    """4D² + 12D + KD more than the 1×1 convolution, teacher apart."""
    classifier = build_classifier("ssa", 192, 150)
    deployed = classifier.deploy(fold=False)  # type: ignore[call-arg]
    extra = sum(p.numel() for p in deployed.parameters()) - (192 * 150 + 150)
    assert extra == 4 * 192**2 + 12 * 192 + 150 * 192


def test_no_parameter_is_without_a_use(batch: tuple[Tensor, Tensor]) -> None:
    for name, row in ROWS.items():
        classifier = build(row.override)
        used = set().union(*gradient_paths(classifier, classifier.loss(*batch)).values())
        assert used == {n for n, _ in classifier.named_parameters()}, name


def test_presets_differ_in_field_values_alone() -> None:
    released, paper, full = (SSAConfig.preset(name) for name in ("released", "paper", "full"))
    assert SSAConfig.default_preset == "full"

    def differences(a: SSAConfig, b: SSAConfig) -> set[str]:
        return {name for name in SSAConfig.model_fields if getattr(a, name) != getattr(b, name)}

    assert released.edge_size == 3
    assert differences(released, full) == {"edge_size"}
    assert differences(released, paper) == {
        "coarse_ce_weight",
        "semantic_weight",
        "spatial_weight",
        "soft_label_mix",
        "edge_size",
    }
    assert full.edge_size == paper.edge_size == 4
    assert paper.response_weight == paper.semantic_weight == paper.spatial_weight == 1
    assert paper.soft_label_mix == paper.coarse_ce_weight == 0


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ({"teacher": False}, "response_weight distils from the teacher, which is off"),
        ({"teacher": False, "response_weight": 0, "spatial_weight": 0}, "semantic_weight distils"),
        ({"teacher": False, "response_weight": 0, "semantic_weight": 0}, "spatial_weight distils"),
        ({"spatial_adaptation": False}, "spatial_weight needs spatial prototypes"),
        ({"semantic_adaptation": False}, "semantic_weight needs semantic prototypes"),
        ({"spatial_basis_only": True}, "nothing to distil"),
        (
            {"spatial_basis_only": True, "spatial_adaptation": False, "spatial_weight": 0},
            "spatial_basis_only is a kind of spatial prototype",
        ),
        ({"edge_size": 0}, "edge_size is 0, but a boundary is at least 1 cell wide"),
        ({"teacher_ce_weight": 0, "teacher_dice_weight": 0}, "learns nothing"),
        (
            {"semantic_adaptation": False, "spatial_adaptation": False},
            "semantic_adaptation and spatial_adaptation are both off",
        ),
        (
            {
                "semantic_adaptation": False,
                "spatial_adaptation": False,
                "teacher": False,
                **DISTILLATION_OFF,
            },
            "no coarse mask beside the decision",
        ),
        ({"ce_weight": 0, "dice_weight": 0}, "Nothing trains the decision"),
        ({"ce_weight": -1}, "field ce_weight"),
        ({"cosine_scale": 0}, "field cosine_scale"),
        ({"soft_label_mix": 1.5}, "field soft_label_mix"),
        ({"position_encoding": "rotary"}, "field position_encoding"),
        ({"lambda_semantic": 0}, "field lambda_semantic"),
        ({"temperature": 3}, "override .* .temperature."),
    ],
)
def test_what_means_nothing_is_refused_with_a_sentence(
    override: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as error:
        build_classifier("ssa", CHANNELS, CLASSES, overrides=override)
    assert "\n" not in str(error.value)


def test_an_unknown_preset_proposes_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'released'"):
        build_classifier("ssa", CHANNELS, CLASSES, preset="relased")


def test_without_adaptation_ssa_is_softmax(batch: tuple[Tensor, Tensor]) -> None:
    fixed = build({**ROWS["fixed classifier"].override, "training_align_corners": False})
    softmax = build_classifier("softmax", CHANNELS, CLASSES, dropout_ratio=0)
    softmax.load_state_dict(fixed.state_dict())
    features, labels = batch
    torch.testing.assert_close(fixed(features), softmax(features))
    mine, theirs = fixed.loss(features, labels), softmax.loss(features, labels)
    assert set(mine) == set(theirs) == {"ce"}
    torch.testing.assert_close(mine["ce"], theirs["ce"])
