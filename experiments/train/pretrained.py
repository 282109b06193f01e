"""A backbone from a pretrained file; a module of its own, since most runs start from scratch."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Loads a pretrained file into the backbone before the first step; a resumed run has it.

    Args:
        entry: of ssa/weights.yaml.
        path: the file.
    """

    def __init__(self, entry: str, path: str) -> None:
        self.entry, self.path = entry, Path(path)

    def before_train(self, runner: Runner) -> None:
        """Load, or refuse.

        Raises:
            SsaError: the file does not fit the network.
        """
        from ssa.released.weights import load_pretrained

        if runner.iter == 0:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            report = load_pretrained(model, self.entry, self.path)
            print(f"{self.path.name}: {report.loaded} of {report.expected} entries loaded")
            for name in report.missing:
                print(f"  not in the file: {name}")
