r"""Tables of parameter names: how released networks call what is here, as ordered rewriting rules.

A rule is a regular expression and its replacement; each is applied once, where it first matches
(``^`` anchors it at the start of the module). The names are facts read off released checkpoints,
as recorded in the reference values; mmsegmentation's own networks need rules only where version 1
renamed something that version 0 had.

Released optimiser settings pick parameters by a part of their name (``norm``, ``head``,
``pos_emb``). Our names contain those parts exactly where the released ones do; a test compares
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Replacement = str | Callable[[re.Match[str]], str]
Rule = tuple[str, Replacement]


def _counted_from_one(template: str) -> Callable[[re.Match[str]], str]:
    """A replacement whose groups count from one in the released name and from zero here."""
    return lambda match: template.format(*(int(group) - 1 for group in match.groups()))


def _inverted_residual(match: re.Match[str]) -> str:
    stack, block, layer = (int(group) for group in match.groups())
    # released: convolutions at even places, activations between them
    return f"stacks.{stack - 1}.{block - 1}.layers.{layer // 2}."


def _attention_stage(match: re.Match[str]) -> str:
    return f"attentions.{int(match[1]) - 1}.{match[2]}."


def _efficient_layer(match: re.Match[str]) -> str:
    index = int(match[1])
    # released: stages and the downsamplings between them in one list
    return f"{'downsamplings' if index % 2 else 'stages'}.{index // 2}."


def _norm_of_triple(match: re.Match[str]) -> str:
    index = int(match[1])
    # released: convolution, norm, activation, one after the other
    return f"prior.stem.{index // 3}.{('conv', 'bn')[index % 3]}."


_SEAFORMER: tuple[Rule, ...] = (
    (r"^(smb|trans)(.*)\.c\.", r"\1\2.conv."),
    (r"^smb1\.stem_block\.0\.", "stem."),
    (r"^smb(\d+)\.layer(\d+)\.conv\.(\d+)\.", _inverted_residual),
    (r"^trans(\d+)\.transformer_blocks\.(\d+)\.", _attention_stage),
    (r"\.attn\.", ".attention."),
    (r"\.to_q\.", ".query."),
    (r"\.to_k\.", ".key."),
    (r"\.to_v\.", ".value."),
    (r"\.attention\.proj\.1\.", ".attention.project."),
    (r"\.attention\.dwconv\.", ".attention.detail.0."),
    (r"\.attention\.pwconv\.", ".attention.detail.1."),
    (r"\.proj_encode_(row|column)\.1\.", r".\1s.project."),
    (r"\.pos_emb_(row|column)q\.pos_embed", r".\1s.query_pos_emb"),
    (r"\.pos_emb_(row|column)k\.pos_embed", r".\1s.key_pos_emb"),
    (r"\.mlp\.fc1\.", ".mlp.expand."),
    (r"\.mlp\.dwconv\.", ".mlp.depthwise."),
    (r"\.mlp\.fc2\.", ".mlp.project."),
)

# the position encoding and the filters of a stage appear once per block and attention as well
_AFFORMER: tuple[Rule, ...] = (
    (r"^patch_embed_stages\.(\d+)\.patch_embeds\.(\d+)\.patch_conv\.", r"stages.\1.embeddings.\2."),
    (r"(embeddings\.\d+)\.dwconv\.", r"\1.depthwise."),
    (r"(embeddings\.\d+)\.pwconv\.", r"\1.pointwise."),
    (r"(embeddings\.\d+)\.bn\.", r"\1.norm."),
    (r"^mhca_stages\.(\d+)\.", r"stages.\1."),
    (r"\.Restore\.conv1\.", ".pixels.reduce."),
    (r"\.Restore\.dwconv\.", ".pixels.spatial.conv."),
    (r"\.Restore\.norm\.", ".pixels.spatial.bn."),
    (r"\.Restore\.conv2\.", ".pixels.expand."),
    (r"\.mhca_blks\.0\.", ".prototypes."),
    (r"\.prototypes\.(?:MHCA_layers\.\d+\.)?cpe\.proj\.", ".prototypes.position."),
    (
        r"\.prototypes\.(?:MHCA_layers\.\d+\.)?(?:factoratt_crpe\.)?crpe\.conv_list\.",
        ".prototypes.filters.high_pass.",
    ),
    (r"\.MHCA_layers\.", ".blocks."),
    (r"\.factoratt_crpe\.qkv\.", ".attention.qkv."),
    (r"\.factoratt_crpe\.proj\.", ".attention.project."),
    (r"\.mlp\.fc1\.", ".mlp.expand."),
    (r"\.mlp\.dwconv\.dwconv\.", ".mlp.spatial."),
    (r"\.mlp\.fc2\.", ".mlp.project."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".mlp_norm."),
)

_EFFICIENTFORMER_V2: tuple[Rule, ...] = (
    (r"^patch_embed\.([01])\.", r"stem.0.\1."),
    (r"^patch_embed\.3\.", "stem.2.0."),
    (r"^patch_embed\.4\.", "stem.2.1."),
    (r"^network\.(\d+)\.", _efficient_layer),
    (r"^(downsamplings\.\d+)\.proj\.", r"\1.convolution.conv."),
    (r"^(downsamplings\.\d+)\.norm\.", r"\1.convolution.norm."),
    (r"^(downsamplings\.\d+)\.conv\.", r"\1.convolution.0."),
    (r"^(downsamplings\.\d+)\.bn\.", r"\1.convolution.1."),
    (r"\.layer_scale_1$", ".attention_scale"),
    (r"\.layer_scale_2$", ".mlp_scale"),
    (r"\.(?:token_mixer|attn)\.", ".attention."),
    (r"\.attention\.stride_conv\.", ".attention.halve."),
    (r"\.attention\.q\.local\.0\.", ".attention.query.local."),
    (r"\.attention\.q\.proj\.", ".attention.query.project."),
    (r"\.attention\.q\.", ".attention.query."),
    (r"\.attention\.k\.", ".attention.key."),
    (r"\.attention\.v\.", ".attention.value."),
    (r"\.attention\.v_local\.", ".attention.local."),
    (r"\.attention\.talking_head1\.", ".attention.talking_head_before."),
    (r"\.attention\.talking_head2\.", ".attention.talking_head_after."),
    (r"\.attention\.proj\.([12])\.", _counted_from_one(".attention.project.{}.")),
    (r"\.attention_biases_seg$", ".bias.values"),
    (r"\.mlp\.fc1\.", ".mlp.expand.conv."),
    (r"\.mlp\.norm1\.", ".mlp.expand.norm."),
    (r"\.mlp\.mid\.", ".mlp.spatial.conv."),
    (r"\.mlp\.mid_norm\.", ".mlp.spatial.norm."),
    (r"\.mlp\.fc2\.", ".mlp.project.conv."),
    (r"\.mlp\.norm2\.", ".mlp.project.norm."),
)

_VIT_ADAPTER: tuple[Rule, ...] = (
    (r"^pos_embed$", "position"),
    (r"^level_embed$", "level_embedding"),
    (r"^patch_embed\.proj\.", "patch_embedding."),
    (r"^up\.", "upsample."),
    (r"^norm(\d)\.", _counted_from_one("norms.{}.")),
    (r"^(blocks\.\d+)\.gamma1$", r"\1.attention_scale"),
    (r"^(blocks\.\d+)\.gamma2$", r"\1.mlp_scale"),
    (r"^(blocks\.\d+)\.norm1\.", r"\1.attention_norm."),
    (r"^(blocks\.\d+)\.norm2\.", r"\1.mlp_norm."),
    (r"^(blocks\.\d+)\.attn\.proj\.", r"\1.attention.project."),
    (r"^(blocks\.\d+)\.attn\.", r"\1.attention."),
    (r"^(blocks\.\d+)\.mlp\.fc1\.", r"\1.mlp.0."),
    (r"^(blocks\.\d+)\.mlp\.fc2\.", r"\1.mlp.2."),
    (r"^spm\.stem\.(\d)\.", _norm_of_triple),
    (r"^spm\.conv(\d)\.0\.", lambda match: f"prior.reductions.{int(match[1]) - 2}.conv."),
    (r"^spm\.conv(\d)\.1\.", lambda match: f"prior.reductions.{int(match[1]) - 2}.bn."),
    (r"^spm\.fc(\d)\.", _counted_from_one("prior.projections.{}.")),
    (r"\.injector\.gamma$", ".injector_scale"),
    (r"\.extractor\.", ".extractors.0."),
    (r"\.extra_extractors\.(\d)\.", lambda match: f".extractors.{int(match[1]) + 1}."),
    (r"\.ffn_norm\.", ".mlp_norm."),
    (r"\.ffn\.fc1\.", ".mlp.expand."),
    (r"\.ffn\.dwconv\.dwconv\.", ".mlp.spatial."),
    (r"\.ffn\.fc2\.", ".mlp.project."),
    (r"(\.extractors\.\d)\.(query_norm|feat_norm|attn)\.", r"\1.cross.\2."),
    (r"\.feat_norm\.", ".token_norm."),
    (r"\.attn\.", ".attention."),
    (r"\.sampling_offsets\.", ".offsets."),
    (r"\.attention_weights\.", ".weights."),
    (r"\.value_proj\.", ".value."),
    (r"\.output_proj\.", ".project."),
)

#: mmsegmentation 0.x kept the depthwise convolution one module deeper than 1.x does
_MSCAN: tuple[Rule, ...] = ((r"\.mlp\.dwconv\.dwconv\.", ".mlp.dwconv."),)

#: a block without expansion has no _bn0; the two others keep their numbers
_EFFICIENTNET_LITE: tuple[Rule, ...] = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.bn."),
    (r"^_blocks\.", "blocks."),
    (r"\._(expand|depthwise|project)_conv\.", r".\1.conv."),
    (r"\._bn0\.", ".expand.bn."),
    (r"\._bn1\.", ".depthwise.bn."),
    (r"\._bn2\.", ".project.bn."),
)

_LIGHT_HEAD: tuple[Rule, ...] = (
    (r"^linear_fuse\.", "fuse."),
    (r"^fuse(\d+)\.local_embedding\.", _counted_from_one("fusions.{}.detail.")),
    (r"^fuse(\d+)\.global_act\.", _counted_from_one("fusions.{}.context.")),
)

_CGR_HEAD: tuple[Rule, ...] = (
    (r"^linear_fuse\.", "fuse."),
    (r"^trans\.transformer_blocks\.", "context."),
    (r"^meta\.", "calibrations."),
    (r"^conv\.", "laterals."),
    (r"^SIM\.(\d)\.fuse1\.", r"fusions.\1.detail."),
    (r"^SIM\.(\d)\.fuse2\.", r"fusions.\1.context."),
    (r"\.gamma$", ".scale"),
    (r"\.token_mixer\.dwconv_hw\.", ".attention.local."),
    (r"\.token_mixer\.excite\.", ".attention.gate."),
    (r"\.mlp\.fc1\.", ".expand."),
    (r"\.mlp\.fc2\.", ".project."),
    (r"^lgc\.conv_mask\.", "guidance.weigh."),
    (r"^lgc\.channel_mul_conv\.", "guidance.gate."),
)

#: rules by the type of the module, as a model file names it
RULES: dict[str, tuple[Rule, ...]] = {
    "AFFormer": _AFFORMER,
    "CGRHead": _CGR_HEAD,
    "EfficientFormerV2": _EFFICIENTFORMER_V2,
    "EfficientNetLite": _EFFICIENTNET_LITE,
    "LightHead": _LIGHT_HEAD,
    "MSCAN": _MSCAN,
    "SeaFormer": _SEAFORMER,
    "ViTAdapter": _VIT_ADAPTER,
}

#: released entries without a counterpart, by the type of the module, each with its reason
UNUSED: dict[str, tuple[tuple[str, str], ...]] = {
    "EfficientFormerV2": (
        (r"\.attention_biases$", "position biases of image classification, never read"),
        (r"\.attention_bias_idxs(_seg)?$", "an index computed here from the grid's size"),
    ),
    "EfficientNetLite": (
        (r"^_conv_head\.", "the last 1×1 convolution, before the pooling of image classification"),
        (r"^_bn1\.", "its normalisation"),
        (r"^_fc\.", "the decision between ImageNet's 1,000 classes"),
    ),
}


def translate(key: str, module_type: str) -> str:
    """One key of a module, without the module's own prefix; unchanged where no rule applies."""
    for pattern, replacement in RULES.get(module_type, ()):
        key = re.sub(pattern, replacement, key, count=1)
    return key


def is_unused(key: str, module_type: str) -> bool:
    """Whether a released key (before translation) has no counterpart here."""
    return any(re.search(pattern, key) for pattern, _ in UNUSED.get(module_type, ()))
