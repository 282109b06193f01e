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
        sha256: what it was when the run was planned; None: any.
    """

    def __init__(self, entry: str, path: str, sha256: str | None = None) -> None:
        self.entry, self.path, self.sha256 = entry, Path(path), sha256

    def before_train(self, runner: Runner) -> None:
        """Load, or refuse.

        Raises:
            SsaError: the file does not fit the network, or is another one than was planned.
        """
        from ssa.released.manifest import UnfitWeightsError
        from ssa.released.weights import load_pretrained

        if runner.iter == 0:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            report = load_pretrained(model, self.entry, self.path)
            if self.sha256 not in (None, report.sha256):
                raise UnfitWeightsError(
                    f"{self.path} is another file than when the run was planned; give the same "
                    "command again, which plans it with the file that is there now."
                )
            print(f"{self.path.name}: {report.loaded} of {report.expected} entries loaded")
            for name in report.missing:
                print(f"  not in the file: {name}")
