"""SSA-Seg's classifier behind an mmsegmentation decode head, in a plain PyTorch training loop.

    python experiments/examples/plain_torch.py [CLASSIFIER] [STEPS]

Nothing of ``experiments`` is needed, no config file and no runner: ``ssa`` is a library. The same
three lines put a classifier of your own there, once its file has been imported.
"""

from __future__ import annotations

import sys

import torch
from mmengine.structures import PixelData
from mmseg.models.backbones import MSCAN
from mmseg.models.decode_heads import SegformerHead
from mmseg.structures import SegDataSample
from torch import Tensor

from ssa.heads import ClassifierHead

CLASSES, SIDE = 3, 64


def make_batch(generator: torch.Generator, count: int = 4) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) and labels (B, 1, S, S): each quarter's colour is its class, in noise."""
    quarters = torch.randint(0, CLASSES, (count, 1, 2, 2), generator=generator)
    labels = quarters.repeat_interleave(SIDE // 2, 2).repeat_interleave(SIDE // 2, 3)
    colours = torch.eye(3)[labels[:, 0]].movedim(-1, 1)
    return colours + 0.5 * torch.randn(colours.shape, generator=generator), labels


def main() -> None:
    """Train for some steps and print the losses and the share of correct pixels."""
    name = sys.argv[1] if len(sys.argv) > 1 else "ssa"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    widths = [16, 32, 48, 64]
    backbone = MSCAN(embed_dims=widths, mlp_ratios=[2] * 4, depths=[1] * 4, norm_cfg={"type": "BN"})
    decode_head = SegformerHead(
        in_channels=widths,
        in_index=[0, 1, 2, 3],
        channels=32,
        num_classes=CLASSES,
        norm_cfg={"type": "BN"},
    )
    head = ClassifierHead(decode_head=decode_head, classifier={"name": name})

    parameters = [*backbone.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3)
    for step in range(steps):
        images, labels = make_batch(generator)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
        losses = head.loss(backbone(images), samples, None)  # named terms, weights applied
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"{step:4d}", *(f"{key} {value:.3f}" for key, value in losses.items()))

    backbone.eval()
    head.eval()
    images, labels = make_batch(generator, 16)
    with torch.no_grad():
        logits = head(backbone(images))  # (B, K, S/4, S/4)
    logits = torch.nn.functional.interpolate(logits, (SIDE, SIDE), mode="bilinear")
    correct = (logits.argmax(1, keepdim=True) == labels).float().mean()
    print(f"correct pixels: {100 * correct:.1f} %")

    shown = head.classifier.inspect(head.features(backbone(images[:1])))
    adapted = shown.adapted_prototypes  # None where they are the same for every image
    prototypes = shown.fixed_prototypes if adapted is None else adapted
    print("prototypes of the first image:", tuple(prototypes.shape))


if __name__ == "__main__":
    main()
