"""What happens between steps: the curve, the progress file, the checkpoint."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from experiments.errors import SsaError
from experiments.files import sync_folder, writing
from experiments.store.progress import Progress, write_progress
from experiments.store.records import CurvePoint, Scores
from ssa.processes import mean_of_processes, world_size

PROGRESS_EVERY_S = 0.5


class DivergedError(SsaError):
    """The training loss is no longer a number."""


@HOOKS.register_module()
class CurveHook(Hook):
    """Collects the validation curve and the mean of each loss term between its points.

    Losses are summed on the device and read once a point, so that no step waits for the host.
    """

    def __init__(self) -> None:
        self.points: list[CurvePoint] = []
        self.step_s: list[float] = []
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0
        self._began = 0.0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Start the clock of a step."""
        self._began = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add a step's losses and time."""
        if world_size() > 1:  # in one message; all processes then see a divergence together
            means = mean_of_processes(torch.stack([v.float() for v in outputs.values()]))
            outputs = dict(zip(outputs, means))
        for name, value in outputs.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self.step_s.append(time.perf_counter() - self._began)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Add a point to the curve.

        Raises:
            DivergedError: a loss is infinite or not a number.
        """
        metrics = metrics or {}
        losses = {_term(n): float(v) / self._steps for n, v in self._sums.items()}
        self._sums, self._steps = {}, 0
        if not all(math.isfinite(value) for value in losses.values()):
            worst = next(name for name, value in losses.items() if not math.isfinite(value))
            raise DivergedError(
                f"The loss '{worst}' is no longer a finite number before iteration {runner.iter}; "
                "lower the learning rate of the profile or look at the run's log."
            )
        self.points.append(
            CurvePoint(
                iteration=runner.iter,
                scores=Scores(miou=metrics["miou"], aacc=metrics["aacc"], macc=metrics["macc"]),
                losses=losses,
            )
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the curve and the running sums with the state."""
        checkpoint["curve"] = {
            "points": [point.model_dump() for point in self.points],
            "sums": {name: value.detach().cpu() for name, value in self._sums.items()},
            "steps": self._steps,
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the curve up where the state left it."""
        curve = checkpoint["curve"]
        self.points = [CurvePoint.model_validate(point) for point in curve["points"]]
        self._sums, self._steps = dict(curve["sums"]), curve["steps"]


def _term(name: str) -> str:
    """mmengine's ``decode.loss_ce`` → ``ce``; the sum of all, ``loss`` → ``total``."""
    return "total" if name == "loss" else name.removeprefix("decode.").replace("loss_", "")


@HOOKS.register_module()
class ProgressHook(Hook):
    """Writes where the run stands, twice a second at most.

    Args:
        path: the progress file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._last = 0.0
        self._miou: float | None = None
        self._first: tuple[float, int] | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write if the last writing is long enough ago."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, runner.iter)
        if now - self._last >= PROGRESS_EVERY_S:
            self._last = now
            self._write(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Remember the score and write."""
        self._miou = (metrics or {}).get("miou")
        self._write(runner)

    def _write(self, runner: Runner) -> None:
        if get_rank() != 0:
            return
        began, start = self._first or (time.monotonic(), runner.iter)
        steps = max(runner.iter - start, 1)
        progress = Progress(
            iteration=runner.iter + 1 if runner.iter < runner.max_iters else runner.iter,
            iterations=runner.max_iters,
            iteration_ms=1000.0 * (time.monotonic() - began) / steps,
            miou=self._miou,
            time=time.time(),
        )
        write_progress(self.path, progress)


@HOOKS.register_module()
class StateHook(Hook):
    """Keeps one whole state to resume from: written beside, flushed, renamed.

    Of several processes the first one writes; all resume from its file.

    Args:
        path: the checkpoint file.
        every_s: at least so many seconds between two writings.
    """

    priority = "VERY_LOW"  # after every hook that changes the state

    def __init__(self, path: str, every_s: float) -> None:
        self.path = Path(path)
        self.every_s = every_s
        self.resumed_at: tuple[int, ...] = ()
        self.device = ""  # of this attempt
        self.deviations: tuple[str, ...] = ()  # of this attempt and those that it takes up
        self._earlier_s = 0.0  # spent by the attempts that this one takes up
        self._began = self._last = time.monotonic()

    @property
    def total_s(self) -> float:
        """Seconds of this attempt and those that it resumed, up to their last checkpoint."""
        return self._earlier_s + time.monotonic() - self._began

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the history of the attempts with the state."""
        checkpoint["attempts"] = {
            "resumed_at": list(self.resumed_at),
            "seconds": self.total_s,
            "device": self.device,
            "deviations": list(self.deviations),
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the history up."""
        attempts = checkpoint["attempts"]
        self._earlier_s = attempts["seconds"]
        at = checkpoint["meta"]["iter"]
        self.resumed_at = (*attempts["resumed_at"], at)
        other = attempts["device"] != self.device
        moved = (f"trained on {attempts['device']} until iteration {at}",) if other else ()
        self.deviations = tuple(dict.fromkeys((*attempts["deviations"], *moved, *self.deviations)))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write when it is time; the step is complete, so the state is that of the next one.

        Not before an evaluation: who resumed from there would leave it out.
        """
        done = runner.iter + 1
        evaluates = done % runner.val_interval == 0 or done == runner.max_iters
        if not evaluates and time.monotonic() - self._last >= self.every_s:
            self.save(runner, iterations_done=done)

    def after_val_point(self, runner: Runner) -> None:
        """Write after an evaluation, so that it need not be repeated."""
        if runner.iter < runner.max_iters:
            self.save(runner, iterations_done=runner.iter)

    def save(self, runner: Runner, iterations_done: int) -> None:
        """Write the state after ``iterations_done`` steps.

        Raises:
            StoreError: the disk is full or may not be written.
        """
        if get_rank() != 0:
            return
        temporary = self.path.with_suffix(".tmp")
        with writing(self.path):
            try:
                runner.save_checkpoint(
                    str(self.path.parent),
                    temporary.name,
                    meta={"iter": iterations_done, "epoch": 0},
                    by_epoch=False,
                )
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(self.path)
                sync_folder(self.path.parent)
            finally:
                temporary.unlink(missing_ok=True)
        self._last = time.monotonic()
