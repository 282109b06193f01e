"""Names, labels and data samples for the tests of mask classifiers."""

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

NAMES = ("maskformer_r50", "mask2former_r50", "yoso_r50", "pem_r50")


def samples(labels):
    made = []
    for label in labels:
        shape = tuple(label.shape)
        sample = SegDataSample(metainfo={"img_shape": shape, "ori_shape": shape})
        sample.gt_sem_seg = PixelData(data=label[None])
        made.append(sample)
    return made


def blocks(batch=2, size=64, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, classes, (batch, 2, 2), generator=generator)
    labels = coarse.repeat_interleave(size // 2, 1).repeat_interleave(size // 2, 2)
    labels[0, : size // 8] = 255
    return labels
