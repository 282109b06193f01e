"""mmengine loops whose randomness depends on nothing but (seed, iteration, position).

mmengine's own loop carries random state from step to step, so that a resumed run differs from an
undisturbed one. Here every step draws from a generator seeded by where it stands.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import broadcast, get_rank, get_world_size
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop, ValLoop
from mmengine.runner.amp import autocast

from experiments.train.predictions import classified

TRAIN, EVALUATE = 0, 1


def seed_torch(*place: int) -> None:
    """Seed torch's global generators from a place: (seed, purpose, iteration, …)."""
    text = ",".join(str(part) for part in place)
    torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little"))


@LOOPS.register_module()
class StatelessTrainLoop(IterBasedTrainLoop):
    """Optimiser steps of one global batch each, in ``accumulation`` micro-batches.

    Args:
        seed: the run's seed.
        accumulation: micro-batches a step; mmengine divides the loss by it.
    """

    def __init__(self, *args: Any, seed: int, accumulation: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seed = seed
        self.accumulation = accumulation
        self.train_s = 0.0

    def run(self) -> torch.nn.Module:
        """Train to the end from wherever the runner stands, evaluating on the way."""
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        # mmengine counts forward passes, we count optimiser steps; tell it where we stand
        runner.optim_wrapper.initialize_count_status(
            runner.model, self._iter * self.accumulation, self._max_iters * self.accumulation
        )
        sampler = self.dataloader.sampler
        sampler.skip(self._iter * sampler.per_process)
        batches = iter(self.dataloader) if self._iter < self._max_iters else iter(())
        runner.model.train()
        while self._iter < self._max_iters:
            began = time.perf_counter()
            self.run_iter(batches)
            self.train_s += time.perf_counter() - began
            if self._iter % self.val_interval == 0 or self._iter == self._max_iters:
                _share_buffers(runner.model)
                runner.val_loop.run()
                runner.model.train()
                runner.call_hook("after_val_point")
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def run_iter(self, data_batch: Any) -> None:
        """One optimiser step over the next ``accumulation`` micro-batches of ``data_batch``."""
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=None)
        outputs: dict[str, torch.Tensor] = {}
        for micro in range(self.accumulation):
            seed_torch(self.seed, TRAIN, self._iter, micro, get_rank())
            losses = runner.model.train_step(next(data_batch), optim_wrapper=runner.optim_wrapper)
            for name, value in losses.items():
                share = value.detach() / self.accumulation
                outputs[name] = outputs[name] + share if name in outputs else share
        runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=None, outputs=outputs)
        self._iter += 1


@LOOPS.register_module()
class StatelessValLoop(ValLoop):
    """Evaluation in which each batch draws from its own seed (SegNeXt's head draws bases).

    Args:
        seed: the run's seed.
    """

    def __init__(self, *args: Any, seed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seed = seed
        self.evaluate_s = 0.0

    def run(self) -> dict[str, float]:
        """Evaluate the whole split."""
        began = time.perf_counter()
        result = super().run()
        self.evaluate_s += time.perf_counter() - began
        return result

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Evaluate one batch."""
        seed_torch(self.seed, EVALUATE, idx * get_world_size() + get_rank())
        for part in like_sized(data_batch):
            self.runner.call_hook("before_val_iter", batch_idx=idx, data_batch=part)
            with torch.no_grad(), autocast(enabled=self.fp16):
                samples = classified(self.runner.model, part)
            self.evaluator.process(data_samples=samples, data_batch=part)
            self.runner.call_hook("after_val_iter", batch_idx=idx, data_batch=part, outputs=samples)


def like_sized(batch: Any) -> list[Any]:
    """A batch of evaluation in parts whose images have one size: only those can be stacked.

    Padding would let a network see more than the image, so that its score would hang on its
    neighbours in the batch.

    Args:
        batch: ``{"inputs": [(3, h, w), …], "data_samples": […]}``.

    Returns:
        The batch itself where all have one size; else a part a size, in the order of first sight.
    """
    places: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(batch["inputs"]):
        places.setdefault(image.shape, []).append(place)
    if len(places) < 2:
        return [batch]
    return [{key: [batch[key][i] for i in own] for key in batch} for own in places.values()]


def _share_buffers(model: torch.nn.Module) -> None:
    """Give every process the first one's buffers, so that all evaluate the network that is kept.

    They differ only where batch statistics are not synchronised (on a CPU).
    """
    if get_world_size() > 1:
        for buffer in model.buffers():
            broadcast(buffer.data, 0)
