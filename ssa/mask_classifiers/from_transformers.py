"""MaskFormer and Mask2Former: transformers' pixel and transformer decoders as decode heads.

Only configuration classes are used; nothing is ever fetched from a hub. The backbone stays outside,
so that every mask classifier shares one ResNet, its weights and its learning-rate multiplier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ssa.errors import SsaError
from ssa.mask_classifiers.head import MaskHead
from ssa.mask_classifiers.predictions import MaskPrediction


class MissingTransformersError(SsaError, ImportError):
    """transformers is an optional part of the installation."""


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError:
        raise MissingTransformersError(
            "MaskFormer and Mask2Former need the package transformers, which is not installed; "
            "run `pip install 'ssa-seg-lab[mmseg]'`."
        ) from None
    return transformers


@contextmanager
def _errors_only() -> Iterator[ModuleType]:
    """The library, silent about its placeholder backbone being no Swin."""
    library = _transformers()
    before = library.logging.get_verbosity()
    library.logging.set_verbosity_error()
    try:
        yield library
    finally:
        library.logging.set_verbosity(before)


def _placeholder_backbone(in_channels: Sequence[int]) -> Any:
    """A config whose only purpose is to tell the decoders the widths of the real backbone."""
    return _transformers().ResNetConfig(
        embedding_size=8,
        hidden_sizes=list(in_channels),
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _on_one_device(built: Any) -> None:
    """Some parameters of transformers ignore the default device (torch.Tensor(...)): mend that."""
    built.to(built.class_predictor.weight.device)


@MODELS.register_module()
class TransformersMaskFormerHead(MaskHead):
    """MaskFormer (Cheng et al., NeurIPS 2021): FPN, DETR decoder on stride 32, masks at stride 4.

    Every decoder layer is supervised (deep supervision), as in the authors' code; transformers'
    own switch for that would put a norm between the layers.

    Args:
        in_channels: of the backbone's maps.
        channels: width of FPN, queries and mask features; a multiple of 32.
        queries: Q.
        layers: of the decoder.
        hidden: width of its feed-forward layers.
        num_heads: of its attentions.
        dropout: of its layers.
        settings: see :class:`ssa.mask_classifiers.head.MaskHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        queries: int = 100,
        layers: int = 6,
        hidden: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.1,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        with _errors_only() as library:
            decoder = library.DetrConfig(
                d_model=channels,
                num_queries=queries,
                decoder_layers=layers,
                decoder_ffn_dim=hidden,
                decoder_attention_heads=num_heads,
                encoder_layers=0,
                encoder_attention_heads=num_heads,
                dropout=dropout,
                backbone_config=_placeholder_backbone(in_channels),
            )
            config = library.MaskFormerConfig(
                fpn_feature_size=channels,
                mask_feature_size=channels,
                backbone_config=_placeholder_backbone(in_channels),
                decoder_config=decoder,
                num_labels=self.num_classes,
            )
            built = library.MaskFormerForInstanceSegmentation(config)
        _on_one_device(built)
        module = built.model.transformer_module
        self.pixel_decoder = built.model.pixel_level_module.decoder
        self.position_embedder = module.position_embedder
        self.queries_embedder = module.queries_embedder
        self.input_projection = module.input_projection or torch.nn.Identity()
        self.layers = module.decoder.layers
        self.layernorm = module.decoder.layernorm
        self.class_predictor = built.class_predictor
        self.mask_embedder = built.mask_embedder
        self._start_as_released()

    def _start_as_released(self) -> None:
        """Initialise as facebookresearch/MaskFormer and DETR do.

        transformers, meant for loading checkpoints, draws the queries from N(0, 0.02²): they would
        start almost equal, and many hundred steps pass before they differ.
        """
        torch.nn.init.normal_(self.queries_embedder.weight)
        for parameter in self.layers.parameters():
            if parameter.ndim > 1:
                torch.nn.init.xavier_uniform_(parameter)
        torch.nn.init.kaiming_uniform_(self.pixel_decoder.mask_projection.weight, a=1)
        for part in (self.class_predictor, self.mask_embedder):
            for module in part.modules():
                if isinstance(module, torch.nn.Linear):
                    module.reset_parameters()

    def decode(self, features: Sequence[Tensor]) -> list[MaskPrediction]:
        """One prediction after every decoder layer."""
        pixels = self.pixel_decoder(list(features)).last_hidden_state
        memory = self.input_projection(features[-1])
        position = self.position_embedder(memory.shape, memory.device, memory.dtype)
        position = position.expand_as(memory).flatten(2).transpose(1, 2)
        memory = memory.flatten(2).transpose(1, 2)
        embedding = self.queries_embedder.weight.expand(memory.shape[0], -1, -1)
        query = torch.zeros_like(embedding)
        predictions = []
        for layer in self.layers:
            query = layer(
                query,
                spatial_position_embeddings=position,
                object_queries_position_embeddings=embedding,
                encoder_hidden_states=memory,
            )
            normed = self.layernorm(query)
            masks = torch.einsum("bqc,bchw->bqhw", self.mask_embedder(normed), pixels)
            predictions.append(MaskPrediction(masks, self.class_predictor(normed)))
        return predictions


@MODELS.register_module()
class TransformersMask2FormerHead(MaskHead):
    """Mask2Former (Cheng et al., CVPR 2022): deformable pixel decoder, masked attention.

    Args:
        in_channels: of the backbone's maps.
        channels: width of all parts; a multiple of 32.
        queries: Q.
        layers: of the transformer decoder (9 in the paper).
        encoder_layers: of the deformable pixel decoder.
        hidden: width of the decoder's feed-forward layers.
        encoder_hidden: width of the pixel decoder's.
        num_heads: of all attentions.
        settings: see :class:`ssa.mask_classifiers.head.MaskHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        queries: int = 100,
        layers: int = 9,
        encoder_layers: int = 6,
        hidden: int = 2048,
        encoder_hidden: int = 1024,
        num_heads: int = 8,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        with _errors_only() as library:
            config = library.Mask2FormerConfig(
                backbone_config=_placeholder_backbone(in_channels),
                feature_size=channels,
                mask_feature_size=channels,
                hidden_dim=channels,
                encoder_layers=encoder_layers,
                encoder_feedforward_dim=encoder_hidden,
                decoder_layers=layers + 1,  # transformers counts the prediction before the first
                dim_feedforward=hidden,
                num_attention_heads=num_heads,
                num_queries=queries,
                num_labels=self.num_classes,
            )
            built = library.Mask2FormerForUniversalSegmentation(config)
        _on_one_device(built)
        self.pixel_decoder = built.model.pixel_level_module.decoder
        self.transformer = built.model.transformer_module
        self.class_predictor = built.class_predictor
        self._start_as_released()

    def _start_as_released(self) -> None:
        """Initialise what transformers draws from N(0, 0.02²) as facebookresearch/Mask2Former."""
        for name, parameter in self.pixel_decoder.encoder.named_parameters():
            fixed = "sampling_offsets" in name or "attention_weights" in name
            if parameter.ndim > 1 and not fixed:
                torch.nn.init.xavier_uniform_(parameter)
        torch.nn.init.kaiming_uniform_(self.pixel_decoder.mask_projection.weight, a=1)
        self.class_predictor.reset_parameters()

    def decode(self, features: Sequence[Tensor]) -> list[MaskPrediction]:
        """Predictions before the first layer and after every layer."""
        pixels = self.pixel_decoder(list(features))
        out = self.transformer(list(pixels.multi_scale_features), pixels.mask_features)
        return [
            MaskPrediction(masks, self.class_predictor(hidden.transpose(0, 1)))
            for masks, hidden in zip(
                out.masks_queries_logits, out.intermediate_hidden_states, strict=True
            )
        ]
