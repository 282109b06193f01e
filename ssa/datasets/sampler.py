"""Which sample is trained when: a pure function of seed, iteration and position in the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ssa.errors import ConfigurationError

_ORDER, _AUGMENTATION = 0, 1  # keep the two uses of a run's seed apart


class Token(NamedTuple):
    """What a training item is asked for with; determines it completely with the run's seed."""

    sample: int  # index into the data set
    iteration: int  # optimiser step, from 0
    position: int  # in the global batch, from 0


@DATA_SAMPLERS.register_module()
class IterationSampler(Sampler[Token]):
    """Tokens in the order of training, for this process.

    Item ``p`` of iteration ``t`` is item ``n = t·G + p`` of a stream that runs through one
    permutation of the data set after another; permutation ``e`` is seeded by (seed, e). Nothing
    depends on history, so resuming, workers, processes and gradient accumulation change nothing.
    Process ``r`` of ``R`` takes positions r·G/R … (r+1)·G/R − 1 of every global batch; a
    DataLoader with ``batch_size = micro_batch_size`` then cuts them into micro-batches.

    Args:
        dataset: only its length is used.
        seed: of the run.
        batch_size: of the global batch, G: over all processes and accumulation steps.
        iterations: optimiser steps to yield in all, counted from 0; None never ends.
        start_iteration: the first optimiser step to yield (for resuming). mmengine's own resume
            calls ``skip`` instead; use one of the two.
        accumulation: micro-batches an optimiser step.
        rank, world_size: of this process; default: those of torch.distributed.

    Raises:
        ConfigurationError: if the global batch cannot be divided evenly.
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int,
        batch_size: int,
        iterations: int | None = None,
        start_iteration: int = 0,
        accumulation: int = 1,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        found_rank, found_size = get_dist_info()
        self.rank = found_rank if rank is None else rank
        self.world_size = found_size if world_size is None else world_size
        if batch_size % (self.world_size * accumulation):
            raise ConfigurationError(
                f"A global batch of {batch_size} cannot be divided over {self.world_size} "
                f"processes and {accumulation} accumulation steps; choose numbers that divide it."
            )
        if len(dataset) == 0:
            raise ConfigurationError("Cannot train on an empty data set.")
        self.size, self.seed, self.batch_size = len(dataset), int(seed), batch_size
        self.iterations = iterations
        self.per_process = batch_size // self.world_size
        self.micro_batch_size = self.per_process // accumulation
        self.start = start_iteration * self.per_process  # in items of this process

    def __iter__(self) -> Iterator[Token]:
        """Yield this process's tokens from the start on."""
        item = self.start
        while self.iterations is None or item < self.iterations * self.per_process:
            iteration, offset = divmod(item, self.per_process)
            position = self.rank * self.per_process + offset
            epoch, place = divmod(iteration * self.batch_size + position, self.size)
            order = _permutation(self.seed, epoch, self.size)
            yield Token(int(order[place]), iteration, position)
            item += 1

    def __len__(self) -> int:
        """Tokens that remain for this process; of an endless stream, one pass over the data."""
        if self.iterations is None:
            return max(self.size // self.world_size, 1)
        return max(self.iterations * self.per_process - self.start, 0)

    def skip(self, num_samples: int) -> None:
        """Start at this process's item ``num_samples``; mmengine's loop calls it on resuming."""
        self.start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the stream knows no epochs (mmengine calls this on every sampler)."""


@DATA_SAMPLERS.register_module()
class WholeBatchSampler(Sampler[int]):
    """Indices 0 … n − 1 in order, cut into batches of which process ``r`` takes r, r + R, …

    No index is given twice, and a batch holds the same images however many processes there are.

    Args:
        dataset: only its length is used.
        batch_size: of the DataLoader.
        seed: taken for mmengine's sake; nothing is drawn.
        rank, world_size: of this process; default: those of torch.distributed.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        found_rank, found_size = get_dist_info()
        rank = found_rank if rank is None else rank
        world_size = found_size if world_size is None else world_size
        batches = range(rank * batch_size, len(dataset), world_size * batch_size)
        self.indices = [
            index
            for first in batches
            for index in range(first, min(first + batch_size, len(dataset)))
        ]

    def __iter__(self) -> Iterator[int]:
        """Yield this process's indices."""
        return iter(self.indices)

    def __len__(self) -> int:
        """How many there are for this process."""
        return len(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Nothing: every pass is the same (mmengine calls this on every sampler)."""


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(np.random.SeedSequence((_ORDER, seed, epoch)))
    return rng.permutation(size)


def item_generator(seed: int, token: Token) -> np.random.Generator:
    """The generator of one training item's augmentation."""
    entropy = (_AUGMENTATION, seed, token.iteration, token.position)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
