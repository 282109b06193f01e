"""SSA-Seg: prototypes adapted to each image in the semantic and the spatial domain.

Symbols as in the paper: features S_f, fixed prototypes W, coarse mask M_c, spatial features P_f,
prototypes S_p and P_p, decision O; a hat marks the teacher's. docs/method.md has the equations.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssa.classifiers.base import CLASSIFIERS, ClassifierConfig, Inspection, PixelClassifier
from ssa.classifiers.parts.clustering import full_precision
from ssa.classifiers.parts.native_inference import (
    Branch,
    NativeWeights,
    native_logits,
    pad_classes,
    runs_natively,
)
from ssa.classifiers.parts.position_encoding import (
    ConditionalPositionEncoding,
    build_position_encoding,
)
from ssa.classifiers.parts.prototypes import (
    FoldedAdapter,
    PrototypeAdapter,
    class_softmax_centre,
    cosine_factor,
    position_softmax_centre,
    prototype_logits,
)
from ssa.classifiers.parts.teacher import Guide, Teacher, guide_from
from ssa.classifiers.softmax import segmentation_convolution
from ssa.classifiers.ssa_config import SSAConfig
from ssa.errors import ConfigurationError
from ssa.losses.boundary import boundary_mask
from ssa.losses.distillation import response_loss, semantic_loss, spatial_loss
from ssa.losses.segmentation import segmentation_losses

#: elements of one image's features (1 MiB) from which inference takes images one by one
_LARGE_MAP_ELEMENTS = 1 << 18


class Decision(NamedTuple):
    """Everything on the way from features to the decision; N = h·w."""

    #: O (B, K, N)
    logits: Tensor
    #: M_c (B, K, N), None if nothing reads it
    coarse_logits: Tensor | None
    #: S_f (B, D, N)
    features: Tensor
    #: P_f (B or 1, D, N), None without spatial adaptation
    spatial_features: Tensor | None
    #: S_f + P_f (B, D, N)
    embedded_features: Tensor
    #: S_p (B, K, D), None without semantic adaptation
    semantic_prototypes: Tensor | None
    #: P_p (B or 1, K, D), None without spatial adaptation
    spatial_prototypes: Tensor | None
    #: (B or 1, K, D) what ``embedded_features`` are compared with
    prototypes: Tensor
    #: τ / ‖S_f + P_f‖ (B, 1, N), None for the inner product
    factor: Tensor | None


class TeacherDecision(NamedTuple):
    """What the teacher gives; see :class:`Decision`."""

    logits: Tensor
    semantic_prototypes: Tensor
    spatial_prototypes: Tensor | None


@CLASSIFIERS.register("ssa")
class SSAClassifier(PixelClassifier):
    """The SSA-Seg classifier with its teacher; every part is a switch of :class:`SSAConfig`.

    A part that is switched off has no parameters. With both adaptations off the classifier is the
    fixed one: with ``cosine_scale=None`` and ``output_projection=False`` exactly ``softmax``.
    Training upsamples with ``training_align_corners`` whatever the head does at test time, as the
    released code.
    """

    Config: ClassVar[type[ClassifierConfig]] = SSAConfig
    config: SSAConfig
    training_only: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(
        self,
        channels: int,
        num_classes: int,
        config: ClassifierConfig | None = None,
        **head_settings: Any,
    ) -> None:
        super().__init__(channels, num_classes, config, **head_settings)
        #: whether this is a deployed copy with constants folded in
        self.folded = False
        self._native_weights: NativeWeights | None = None
        switches = self.config
        layers = switches.projection_layers
        plain = not switches.adapts and switches.cosine_scale is None
        self.conv_seg = segmentation_convolution(
            channels, num_classes, bias=switches.coarse_bias and (switches.has_coarse_mask or plain)
        )
        self.semantic_adapter: PrototypeAdapter | FoldedAdapter | None = (
            PrototypeAdapter(channels, layers) if switches.semantic_adaptation else None
        )
        self.position_encoding: nn.Module | None = None
        self.position_basis: nn.Parameter | None = None
        if switches.spatial_adaptation:
            self.position_encoding = build_position_encoding(
                switches.position_encoding, channels, grid=switches.learnable_grid
            )
            self.position_basis = nn.Parameter(torch.randn(num_classes, channels))
        self.spatial_adapter: PrototypeAdapter | FoldedAdapter | None = (
            PrototypeAdapter(channels, layers, fixed_first=True)
            if switches.has_spatial_centre
            else None
        )
        self.output_projection: nn.Linear | None = (
            nn.Linear(channels, channels, bias=False) if switches.output_projection else None
        )
        self.teacher: Teacher | None = (
            Teacher(
                channels,
                semantic=switches.semantic_adaptation,
                spatial=switches.has_spatial_centre,
                layers=layers,
                output_projection=switches.output_projection,
            )
            if switches.teacher
            else None
        )

    @property
    def fixed_prototypes(self) -> Tensor:
        """W (K, D)."""
        return self.conv_seg.weight.flatten(1)

    @property
    def terms_per_device(self) -> tuple[str, ...]:
        """See :meth:`PixelClassifier.terms_per_device`."""
        config = self.config
        terms = {
            "ce": config.ce_weight > 0 and config.ce_average == "valid",
            "coarse_ce": config.coarse_ce_weight > 0 and config.has_coarse_mask,
            "teacher_ce": config.teacher and config.teacher_ce_weight > 0,
            "response": config.teacher and config.response_weight > 0,
            "semantic": config.teacher and config.semantic_weight > 0,
        }
        return tuple(name for name, present in terms.items() if present)

    def forward(self, features: Tensor) -> Tensor:
        """O (B, K, h, w) of features S_f (B, D, h, w)."""
        if self.folded and self.config.adapts and not self.training and runs_natively(features):
            table = None
            encoding = self.position_encoding
            if encoding is not None and not isinstance(encoding, ConditionalPositionEncoding):
                table = encoding(features)
            return native_logits(features, self._native(), table)
        if self.folded and _image_by_image(features):
            images = [self._decide(image).logits for image in features.split(1)]
            return torch.cat(images).unflatten(2, features.shape[2:])
        return self._decide(features).logits.unflatten(2, features.shape[2:])

    @torch.no_grad()
    def _native(self) -> NativeWeights:
        """What the C kernel needs, made once (anew after a move or a loaded checkpoint)."""
        if self._native_weights is not None:
            return self._native_weights
        projection = None if self.output_projection is None else self.output_projection.weight
        branches: list[Branch | None] = []
        rest = self.fixed_prototypes if self.semantic_adapter is None else None
        if self.position_basis is not None:
            rest = self.position_basis if rest is None else rest + self.position_basis
        constant = torch.zeros_like(self.fixed_prototypes.t())
        if rest is not None:
            constant = rest.t() if projection is None else projection @ rest.t()
        for adapter in (self.semantic_adapter, self.spatial_adapter):
            if not isinstance(adapter, FoldedAdapter):
                branches.append(None)
                continue
            branch, more = Branch.of(adapter, projection)
            branches.append(branch)
            constant = constant + more
        encoding = self.position_encoding
        taps = None
        if isinstance(encoding, ConditionalPositionEncoding):
            assert encoding.conv.bias is not None
            taps = (encoding.conv.weight.detach().flatten(1), encoding.conv.bias.detach())
        centres = any(branch is not None for branch in branches)
        self._native_weights = NativeWeights(
            coarse=pad_classes(self.fixed_prototypes, self.conv_seg.bias) if centres else None,
            taps=taps,
            semantic=branches[0],
            spatial=branches[1],
            spatial_softmax=self.config.spatial_softmax,
            constant=constant.contiguous(),
            cosine_scale=self.config.cosine_scale,
        )
        return self._native_weights

    def _apply(self, fn: Any, recurse: bool = True) -> SSAClassifier:
        self._native_weights = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *arguments: Any, **settings: Any) -> None:
        super()._load_from_state_dict(*arguments, **settings)
        self._native_weights = None

    def _decide(self, features: Tensor) -> Decision:
        config = self.config
        fixed = self.fixed_prototypes
        flat = features.flatten(2)
        coarse: Tensor | None = None
        if config.adapts and config.has_coarse_mask:
            coarse = self.conv_seg(self.dropout(features)).flatten(2)

        spatial_features: Tensor | None = None
        if self.position_encoding is not None:
            spatial_features = self.position_encoding(features).flatten(2)
        embedded = flat if spatial_features is None else flat + spatial_features
        if not config.adapts:
            embedded = self.dropout(features).flatten(2)

        semantic: Tensor | None = None
        if self.semantic_adapter is not None:
            assert coarse is not None
            semantic = self.semantic_adapter(class_softmax_centre(coarse, flat), fixed)
        spatial = self._spatial_prototypes(coarse, spatial_features)

        prototypes = fixed[None] if semantic is None else semantic
        if spatial is not None:
            prototypes = prototypes + spatial
        if self.output_projection is not None:
            prototypes = self.output_projection(prototypes)
        factor = cosine_factor(embedded, config.cosine_scale)
        logits = prototype_logits(embedded, prototypes, factor)
        if not config.adapts and self.conv_seg.bias is not None:
            logits = logits + self.conv_seg.bias[:, None]
        return Decision(
            logits=logits,
            coarse_logits=coarse,
            features=flat,
            spatial_features=spatial_features,
            embedded_features=embedded,
            semantic_prototypes=semantic,
            spatial_prototypes=spatial,
            prototypes=prototypes,
            factor=factor,
        )

    def _spatial_prototypes(
        self, coarse: Tensor | None, spatial_features: Tensor | None
    ) -> Tensor | None:
        """P_p (B or 1, K, D), or None without spatial adaptation."""
        if self.spatial_adapter is None:
            return None if self.position_basis is None else self.position_basis[None]
        assert coarse is not None
        assert spatial_features is not None
        if self.config.spatial_softmax == "positions":
            centre = position_softmax_centre(coarse, spatial_features)
        else:
            centre = class_softmax_centre(coarse, spatial_features)
        return self.spatial_adapter(centre, self.position_basis)

    def _teach(self, guide: Guide, student: Decision) -> TeacherDecision:
        assert self.teacher is not None
        semantic = self.teacher.semantic_prototypes(guide, student.features, self.fixed_prototypes)
        prototypes, spatial = semantic, None
        if self.position_basis is not None:
            assert student.spatial_features is not None
            spatial = self.teacher.spatial_prototypes(
                guide, student.spatial_features, self.position_basis
            )
            prototypes = semantic + spatial
        logits = prototype_logits(
            student.embedded_features, self.teacher.project(prototypes), student.factor
        )
        return TeacherDecision(logits, semantic, spatial)

    def _loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms ``ce dice coarse_ce teacher_ce teacher_dice response semantic spatial``.

        Each is there if its weight is not 0, with its weight (and λ) applied.

        Args:
            features: S_f (B, D, h, w).
            labels: (B, H, W) class ids.
        """
        config = self.config
        size = features.shape[2:]
        student = self._decide(features)
        terms: dict[str, Tensor] = {}

        def segment(name: str, logits: Tensor, ce: float, dice: float) -> None:
            if ce == 0 and dice == 0:
                return
            ce_term, dice_term = segmentation_losses(
                logits.unflatten(2, size),
                labels,
                ignore_index=self.ignore_index,
                align_corners=config.training_align_corners,
                average=config.ce_average if name == "" else "valid",
                cross_entropy=ce > 0,
                dice=dice > 0,
                over_processes=self.training,
            )
            if ce > 0:
                terms[f"{name}ce"] = ce * ce_term
            if dice > 0:
                terms[f"{name}dice"] = dice * dice_term

        segment("", student.logits, config.ce_weight, config.dice_weight)
        if student.coarse_logits is not None:
            segment("coarse_", student.coarse_logits, config.coarse_ce_weight, 0)
        if self.teacher is None:
            return terms

        small = resize_labels(labels, size)
        # The one-hot mask serves the centres and L_rd; a prediction guides the centres alone.
        valid = torch.where(small == self.ignore_index, -1, small).flatten(1)
        truth = guide_from(valid, self.num_classes, features.dtype)
        guide = truth
        if config.teacher_guide == "prediction":
            guide = guide_from(student.logits.argmax(dim=1), self.num_classes, features.dtype)
        taught = self._teach(guide, student)
        segment("teacher_", taught.logits, config.teacher_ce_weight, config.teacher_dice_weight)

        # Entropies, relation matrices and their pooled sums want float32 whatever autocast says.
        with full_precision(features.device):
            terms |= self._distil(student, taught, truth, small)
        return terms

    def _distil(
        self, student: Decision, taught: TeacherDecision, truth: Guide, small: Tensor
    ) -> dict[str, Tensor]:
        """The terms ``response``, ``semantic`` and ``spatial``; ``small`` are resized labels."""
        config = self.config
        terms: dict[str, Tensor] = {}
        if config.response_weight > 0:
            boundary = None
            if config.boundary_split:
                boundary = boundary_mask(small, config.edge_size).flatten(1)
            terms["response"] = (config.response_weight * config.lambda_response) * response_loss(
                student.logits,
                taught.logits,
                truth.one_hot,
                boundary,
                soft_label_mix=config.soft_label_mix,
                entropy_weighting=config.entropy_weighting,
                class_split=config.class_split,
            )
        if config.semantic_weight > 0:
            assert student.semantic_prototypes is not None
            terms["semantic"] = (config.semantic_weight * config.lambda_semantic) * semantic_loss(
                student.semantic_prototypes, taught.semantic_prototypes, config.relation_scale
            )
        if config.spatial_weight > 0:
            assert student.spatial_prototypes is not None
            assert taught.spatial_prototypes is not None
            terms["spatial"] = (config.spatial_weight * config.lambda_spatial) * spatial_loss(
                student.spatial_prototypes, taught.spatial_prototypes
            )
        return terms

    @torch.no_grad()
    def inspect(self, features: Tensor) -> Inspection:
        """Prototypes and masks of features (B, D, h, w); see :class:`Inspection`."""
        decision = self._decide(features)
        size, images = features.shape[2:], features.shape[0]

        def of_images(prototypes: Tensor | None) -> Tensor | None:
            return None if prototypes is None else prototypes.expand(images, -1, -1)

        coarse = decision.coarse_logits
        return Inspection(
            logits=decision.logits.unflatten(2, size),
            embedded_features=decision.embedded_features.unflatten(2, size),
            fixed_prototypes=self.fixed_prototypes,
            adapted_prototypes=of_images(decision.prototypes),
            semantic_prototypes=of_images(decision.semantic_prototypes),
            spatial_prototypes=of_images(decision.spatial_prototypes),
            coarse_logits=None if coarse is None else coarse.unflatten(2, size),
        )

    @torch.no_grad()
    def inspect_teacher(self, features: Tensor, labels: Tensor) -> TeacherDecision:
        """The teacher's logits (B, K, N) and prototypes for labelled images (figure 3).

        Args:
            features: (B, D, h, w).
            labels: (B, H, W) or (B, 1, H, W) class ids.

        Raises:
            ConfigurationError: there is no teacher.
            LossInputError, LabelRangeError: as :meth:`loss`.
        """
        if self.teacher is None:
            raise ConfigurationError(
                "This classifier has no teacher (teacher=False, or a deployed copy); inspect() "
                "shows the rest."
            )
        labels = self._checked(features, labels)
        small = resize_labels(labels, features.shape[2:]).flatten(1)
        valid = torch.where(small == self.ignore_index, -1, small)
        guide = guide_from(valid, self.num_classes, features.dtype)
        return self._teach(guide, self._decide(features))

    def deploy(self, fold: bool = True) -> nn.Module:
        """A copy in eval mode without the teacher, with what is constant folded.

        Args:
            fold: precompute the half of each φ that depends on the fixed prototypes alone and drop
                the position basis. False keeps every deployed parameter under its name (to count or
                to save them).
        """
        deployed = super().deploy()
        assert isinstance(deployed, SSAClassifier)
        if fold:
            deployed._fold()
        return deployed

    @torch.no_grad()
    def _fold(self) -> None:
        self.folded = True
        if isinstance(self.semantic_adapter, PrototypeAdapter):
            self.semantic_adapter = self.semantic_adapter.folded(self.fixed_prototypes)
        if isinstance(self.spatial_adapter, PrototypeAdapter):
            assert self.position_basis is not None
            self.spatial_adapter = self.spatial_adapter.folded(self.position_basis)
            self.position_basis = None


def _image_by_image(features: Tensor) -> bool:
    """Whether inference on these features is faster one image at a time.

    On a CPU the maps of a large batch come as fresh pages from the system at every operation, which
    costs up to half of the time; those of one image stay in the cache and in the allocator.
    """
    return (
        features.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and len(features) > 1
        and features[0].numel() >= _LARGE_MAP_ELEMENTS
    )


def resize_labels(labels: Tensor, size: tuple[int, ...]) -> Tensor:
    """Nearest-neighbour class ids (B, h, w) of (B, H, W), as mmsegmentation's ``resize``."""
    return F.interpolate(labels[:, None].float(), size=size, mode="nearest")[:, 0].long()
