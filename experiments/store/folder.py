"""The files of one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.json"

    @property
    def lock(self) -> Path:
        """Held by the training process."""
        return self.path / "lock"

    @property
    def owner(self) -> Path:
        """Who trains it: host, process, job; touched as long as it lives."""
        return self.path / "owner.json"

    @property
    def progress(self) -> Path:
        """How far the run is."""
        return self.path / "progress.json"

    @property
    def checkpoint(self) -> Path:
        """State to resume from."""
        return self.path / "checkpoint.pth"

    @property
    def checkpoint_code(self) -> Path:
        """With what code the checkpoint was made."""
        return self.path / "checkpoint.code.json"

    @property
    def notice(self) -> Path:
        """What the training process has to say to its caller."""
        return self.path / "notice.txt"

    @property
    def failure(self) -> Path:
        """Why the last attempt failed."""
        return self.path / "failure.json"

    @property
    def submission(self) -> Path:
        """Which job of a cluster has it."""
        return self.path / "submission.json"

    @property
    def jobs(self) -> Path:
        """What jobs of a cluster did with it, on which nodes, a line each."""
        return self.path / "jobs.jsonl"

    @property
    def config(self) -> Path:
        """Resolved mmengine config."""
        return self.path / "config.py"

    @property
    def log(self) -> Path:
        """Output of the training process."""
        return self.path / "log.txt"

    @property
    def per_image(self) -> Path:
        """Areas per image and class."""
        return self.path / "per_image.npz"

    @property
    def weights(self) -> Path:
        """The trained network's state_dict."""
        return self.path / "weights.pth"

    @property
    def record(self) -> Path:
        """The final record."""
        return self.path / "record.json"
