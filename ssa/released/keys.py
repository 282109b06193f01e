"""Names of the released code's classifier parameters and ours, for checkpoints and parity.

The names are those of github.com/xwmaxwma/SSA-Seg at e67fc2f, as recorded in the reference values.
"""

from __future__ import annotations

#: released parameter → the SSA classifier's parameter
RELEASED_TO_SSA: dict[str, str] = {
    "conv_seg.weight": "conv_seg.weight",
    "conv_seg.bias": "conv_seg.bias",
    "get_feat_pos.weight": "position_encoding.conv.weight",
    "get_feat_pos.bias": "position_encoding.conv.bias",
    "center_pos.weight": "position_basis",
    "center_proj.weight": "output_projection.weight",
    "gt_center_proj.weight": "teacher.output_projection.weight",
    **{
        f"{prefix}{theirs}_proj.{layer}": f"{path}{ours}_adapter.{name}"
        for prefix, path in (("", ""), ("gt_", "teacher."))
        for theirs, ours in (("center_content", "semantic"), ("center_pos", "spatial"))
        for layer, name in (
            ("0.weight", "hidden.weight"),
            ("2.weight", "output.weight"),
            ("2.bias", "output.bias"),
        )
    },
}

#: released entries without a counterpart: the class weights of a loss that is never used
RELEASED_UNUSED: tuple[str, ...] = ("ssa_loss.criterion.empty_weight",)
