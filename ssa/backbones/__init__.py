"""Backbones that mmsegmentation lacks; importing this registers them there."""

from ssa.backbones.seaformer import SeaFormer

__all__ = ["SeaFormer"]
