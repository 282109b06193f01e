"""The method written down once more, straight from shared/spec/method.md: slow, with loops.

It shares no line with ssa/ and makes reference files of any shape in the form of shared/golden/ssa.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TAU, EPS = 15.0, 1e-12


def parameter_shapes(channels: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released code's classifier."""
    shapes: dict[str, tuple[int, ...]] = {
        "conv_seg.weight": (classes, channels, 1, 1),
        "conv_seg.bias": (classes,),
        "get_feat_pos.weight": (channels, 1, 3, 3),
        "get_feat_pos.bias": (channels,),
        "center_pos.weight": (classes, channels),
    }
    for prefix in ("", "gt_"):
        for name in ("center_content_proj", "center_pos_proj"):
            shapes[f"{prefix}{name}.0.weight"] = (channels // 2, 2 * channels)
            shapes[f"{prefix}{name}.2.weight"] = (channels, channels // 2)
            shapes[f"{prefix}{name}.2.bias"] = (channels,)
        shapes[f"{prefix}center_proj.weight"] = (channels, channels)
    return shapes


def phi(p: dict[str, Tensor], name: str, left: Tensor, right: Tensor) -> Tensor:
    hidden = torch.relu(torch.cat([left, right], dim=-1) @ p[f"{name}.0.weight"].T)
    return hidden @ p[f"{name}.2.weight"].T + p[f"{name}.2.bias"]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=-1, eps=EPS) @ F.normalize(b, dim=-1, eps=EPS).T


def boundary_of(label: np.ndarray, edge_size: int) -> np.ndarray:
    edges = cv2.Canny(label, 0.1, 0.2)
    edges[:6] = edges[-6:] = 0
    edges[:, :6] = edges[:, -6:] = 0
    return cv2.dilate(edges, np.ones((edge_size, edge_size), np.uint8)) > 0


def segmentation_terms(logits: Tensor, labels: Tensor, average: str) -> tuple[Tensor, Tensor]:
    up = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=True)
    ce = F.cross_entropy(up, labels, ignore_index=255, reduction="sum")
    ce = ce / (labels.numel() if average == "all" else (labels != 255).sum())
    dices = []
    for image, label in zip(up.sigmoid(), labels):
        for k in label[label != 255].unique():
            inter, area = image[k][label == k].sum(), (label == k).sum()
            dices.append(1 - (2 * inter + 1) / (image[k].sum() + area + 1))
    return ce, torch.stack(dices).sum() / len(dices)


def one_step(
    p: dict[str, Tensor], features: Tensor, labels: Tensor, edge_size: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and weighted losses of the released method.

    Args:
        p: parameters by released name.
        features: (B, D, h, w).
        labels: (B, H, W) with 255 for void.
        edge_size: of the boundary.
    """
    size, images, classes = features.shape[2:], len(features), len(p["center_pos.weight"])
    W, basis = p["conv_seg.weight"][:, :, 0, 0], p["center_pos.weight"]
    coarse = F.conv2d(features, p["conv_seg.weight"], p["conv_seg.bias"])
    spatial = F.conv2d(
        features, p["get_feat_pos.weight"], p["get_feat_pos.bias"], padding=1, groups=len(W[0])
    )
    small = F.interpolate(labels[:, None].double(), size, mode="nearest")[:, 0].long()

    everything = features.permute(0, 2, 3, 1)
    means = [
        everything[small == k].mean(0) if (small == k).any() else W[k].detach()
        for k in range(classes)
    ]
    teacher_semantic = phi(p, "gt_center_content_proj", torch.stack(means), W)

    out: dict[str, list[Tensor]] = {}
    for i in range(images):
        s = features[i].flatten(1).T  # (N, D)
        f = spatial[i].flatten(1).T
        m = coarse[i].flatten(1).T  # (N, K)
        by_class, by_position = m.softmax(1), m.softmax(0)
        centre = (by_class.T @ s) / (by_class.sum(0)[:, None] + EPS)
        semantic_prototypes = phi(p, "center_content_proj", centre, W)
        spatial_prototypes = phi(p, "center_pos_proj", basis, by_position.T @ f)
        prototypes = (semantic_prototypes + spatial_prototypes) @ p["center_proj.weight"].T
        ids = small[i].flatten()
        means = [
            f[ids == k].mean(0) if (ids == k).any() else basis[k].detach() for k in range(classes)
        ]
        teacher_spatial = phi(p, "gt_center_pos_proj", torch.stack(means), basis)
        teacher = (teacher_semantic + teacher_spatial) @ p["gt_center_proj.weight"].T
        for name, value in {
            "semantic_prototypes": semantic_prototypes,
            "spatial_prototypes": spatial_prototypes,
            "logits": (TAU * cosine(s + f, prototypes)).T.unflatten(1, size),
            "teacher_semantic_prototypes": teacher_semantic,
            "teacher_spatial_prototypes": teacher_spatial,
            "teacher_logits": (TAU * cosine(s + f, teacher)).T.unflatten(1, size),
            "boundary": torch.from_numpy(
                boundary_of(small[i].numpy().astype(np.uint8), edge_size)
            ).to(features.dtype),
        }.items():
            out.setdefault(name, []).append(value)
    o = {name: torch.stack(values) for name, values in out.items()}
    o |= {"coarse_logits": coarse, "spatial_features": spatial}

    losses = {}
    losses["ce"], losses["dice"] = segmentation_terms(o["logits"], labels, "all")
    losses["coarse_ce"], _ = segmentation_terms(coarse, labels, "valid")
    losses["teacher_ce"], losses["teacher_dice"] = segmentation_terms(
        o["teacher_logits"], labels, "valid"
    )
    losses["response"] = response_of(o, small)
    rows = []
    for student, teacher in zip(o["semantic_prototypes"], o["teacher_semantic_prototypes"]):
        mine = (TAU * cosine(student, student.detach())).softmax(1)
        goal = (TAU * cosine(teacher.detach(), teacher.detach())).softmax(1)
        excess = torch.relu(mine - goal)
        rows += [excess[k].sum() - excess[k, k] for k in range(classes)]
    losses["semantic"] = 10 * torch.stack(rows).mean()
    goal = o["teacher_spatial_prototypes"].detach().softmax(-1)
    loss = -(goal * o["spatial_prototypes"].log_softmax(-1)).sum(-1)
    losses["spatial"] = 0.4 * loss.mean()
    losses["total"] = torch.stack(list(losses.values())).sum()
    return o, losses


def response_of(o: dict[str, Tensor], small: Tensor) -> Tensor:
    """L_rd, class by class."""
    ids, edge = small.flatten(), o["boundary"].flatten() > 0
    student = o["logits"].permute(0, 2, 3, 1).flatten(0, 2).log_softmax(1)
    teacher = o["teacher_logits"].detach().permute(0, 2, 3, 1).flatten(0, 2)
    p, entropy = teacher.softmax(1), torch.zeros(len(ids), dtype=teacher.dtype)
    means = []
    for k in range(student.shape[1]):
        here = ids == k
        if not here.any():
            continue
        target = 0.5 * p[here]
        target[:, k] += 0.5
        entropy = -(p[here] * teacher[here].log_softmax(1)).sum(1)
        loss = -(target * student[here]).sum(1)
        halves = [
            (loss * entropy)[part].sum() / (entropy[part].sum() + EPS)
            for part in (edge[here], ~edge[here])
        ]
        means.append(0.5 * (halves[0] + halves[1]))
    return torch.stack(means).mean()


def write_reference(
    path: Path,
    *,
    seed: int,
    images: int,
    channels: int,
    classes: int,
    feature_size: tuple[int, int],
    label_size: tuple[int, int],
    edge_size: int,
) -> None:
    """A reference file of these sizes, computed in float64."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).double()

    p = {}
    for name, shape in parameter_shapes(channels, classes).items():
        scale = 1 if name == "center_pos.weight" else 1 / np.sqrt(np.prod(shape[1:]) or 1)
        p[name] = (normal(*shape) * scale).float().double().requires_grad_()
    features = normal(images, channels, *feature_size).requires_grad_()
    blocks = rng.integers(0, classes, (images, 5, 6))
    rows = np.arange(label_size[0]) * 5 // label_size[0]
    columns = np.arange(label_size[1]) * 6 // label_size[1]
    label = blocks[:, rows][:, :, columns].astype(np.uint8)
    label[rng.random(label.shape) < 0.03] = 255
    outputs, losses = one_step(p, features, torch.from_numpy(label).long(), edge_size)
    losses["total"].backward()
    np.savez(
        path,
        feat=features.detach().float().numpy(),
        label=label[:, None],
        edge_size=np.int64(edge_size),
        **{f"param/{name}": value.detach().float().numpy() for name, value in p.items()},
        **{f"out/{name}": value.detach().numpy() for name, value in outputs.items()},
        **{f"loss/{name}": np.float64(value.item()) for name, value in losses.items()},
        **{f"grad/{name}": value.grad.numpy() for name, value in p.items()},
        **{"grad/feat": features.grad.numpy()},
    )
