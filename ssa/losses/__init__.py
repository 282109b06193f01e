"""Cross-entropy, dice, distillation and boundary losses; the lean kernel and its fallback."""

from ssa.losses.segmentation import segmentation_losses

__all__ = ["segmentation_losses"]
