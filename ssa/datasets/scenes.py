"""scenes, the embedded data set: street and room scenes made here from a seed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from ssa.datasets.base import DataError, DataSet, Layout, register
from ssa.datasets.draws import Draws
from ssa.datasets.png import encode_png
from ssa.datasets.scene_appearance import draw_looks, paint
from ssa.datasets.scene_layout import CLASSES, draw_layout
from ssa.errors import Remedy

GENERATOR = 2  # raise when the same parameters are to make other pixels
#: what decides over the pixels: drawn with other code, they lie in another folder
_DRAWING = ("draws.py", "png.py", "scene_appearance.py", "scene_layout.py", "scenes.py")
META = "scenes.json"
_STALE_S = 3600.0  # a temporary folder this old was left by a killed process

SCENES = register(
    DataSet(
        name="scenes",
        title="scenes",
        class_names=CLASSES,
        palette=(
            (135, 206, 235),
            (139, 90, 43),
            (105, 105, 105),
            (218, 165, 190),
            (34, 139, 34),
            (200, 30, 30),
            (40, 40, 60),
            (255, 215, 0),
            (255, 140, 0),
            (220, 20, 200),
            (70, 50, 160),
            (0, 190, 220),
            (205, 175, 149),
            (160, 120, 80),
            (240, 240, 220),
            (150, 75, 140),
        ),
        counts={},  # follow from the parameters
        layouts=(
            Layout(
                name="mmsegmentation",
                folders={s: (f"images/{s}", f"annotations/{s}") for s in ("train", "val")},
                image_suffix=".png",
            ),
        ),
        folders=(),  # named after its parameters: ask `ensure` for it
        obtain="It is made on first use; delete the folder to have it made again.",
    )
)


@dataclass(frozen=True)
class ScenesParameters:
    """Everything that determines the pixels of the data set."""

    seed: int = 0
    train: int = 400  # images of the training split
    val: int = 150  # images of the evaluation split
    height: int = 96  # pixels
    width: int = 96
    shift: float = 0.6  # 0 … 1, how far each image moves each class's look; decisions/0002

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 1:
            raise DataError(f"scenes: shift must be in 0 … 1, not {self.shift}.")
        if min(self.height, self.width) < 48 or min(self.train, self.val) < 1:
            raise DataError("scenes: at least 48×48 pixels and one image a split are needed.")

    @property
    def digest(self) -> str:
        """sha256 (hex) of the parameters and the generator's version."""
        text = json.dumps({**asdict(self), "generator": GENERATOR}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def draw_scene(parameters: ScenesParameters, split: str, index: int) -> tuple[bytes, bytes]:
    """Make one scene: the PNG bytes of its RGB image and of its annotation.

    The layout does not depend on the shift, so that two strengths show the same scenes.
    """
    name = (parameters.seed, split, index)
    size = (parameters.height, parameters.width)
    things, labels = draw_layout(*size, Draws("layout", *name))
    looks = draw_looks(Draws("looks", *name), parameters.shift)
    image = paint(things, looks, Draws("paint", *name), parameters.shift)
    return encode_png(image), encode_png(labels)


def ensure(data_root: Path, parameters: ScenesParameters | None = None) -> Path:
    """The folder of the data set under ``data_root``, made first if it is not there.

    Written beside and renamed, so that the folder is whole or absent, also with several
    processes at it at once: the first to finish wins, the others use its folder.

    Raises:
        DataError: if it cannot be written, or is there but damaged.
    """
    parameters = parameters or ScenesParameters()
    data_root = Path(data_root)
    root = data_root / f"scenes-{parameters.digest[:12]}-{_drawing_code()[:8]}"
    if not root.is_dir():
        try:
            _write(root, parameters)
        except OSError as error:
            raise DataError(
                f"Cannot write the scenes data set to {root}: {error.strerror}. "
                "Free some space there or choose another place.",
                remedy=Remedy("other_results"),
            ) from error
    _check(root, parameters)
    return root


@lru_cache(maxsize=1)
def _drawing_code() -> str:
    """sha256 of the sources that draw; images of before an edit must not pass for those after."""
    content = hashlib.sha256()
    for name in _DRAWING:
        with contextlib.suppress(OSError):  # installed without sources: nobody edits them
            content.update((Path(__file__).parent / name).read_bytes())
    return content.hexdigest()


def content_sha256(root: Path) -> str:
    """sha256 (hex) of the folder's files in the order of making, as scenes.json records it."""
    content = hashlib.sha256()
    for split in SCENES.splits:
        for pair in SCENES.load_index(root, split):
            content.update(pair.image.read_bytes())
            content.update(pair.label.read_bytes())
    return content.hexdigest()


def _write(root: Path, parameters: ScenesParameters) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(root)
    temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
    try:
        content = hashlib.sha256()
        for split, count in (("train", parameters.train), ("val", parameters.val)):
            folders = [temporary / kind / split for kind in ("images", "annotations")]
            for folder in folders:
                folder.mkdir(parents=True)
            for index in range(count):
                for folder, data in zip(folders, draw_scene(parameters, split, index)):
                    (folder / f"{index:05d}.png").write_bytes(data)
                    content.update(data)
        meta = {
            "name": "scenes",
            "generator": GENERATOR,
            "parameters": asdict(parameters),
            "parameters_sha256": parameters.digest,
            "content_sha256": content.hexdigest(),
            "class_names": SCENES.class_names,
            "palette": SCENES.palette,
            "ignore_index": SCENES.ignore_index,
        }
        with (temporary / META).open("w") as stream:
            json.dump(meta, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o755)  # mkdtemp's 0700 would hide a shared data root from others
        try:
            temporary.rename(root)
        except OSError:
            if not (root / META).is_file():  # not a lost race but a real failure
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_stale(root: Path) -> None:
    for folder in root.parent.glob(f".{root.name}-*"):
        try:
            stale = time.time() - folder.stat().st_mtime > _STALE_S
        except OSError:
            continue  # another process has just renamed or removed it
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _check(root: Path, parameters: ScenesParameters) -> None:
    try:
        meta = json.loads((root / META).read_text())
        found = meta["parameters_sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{root / META} is missing or damaged; delete {root} and it is made again."
        ) from error
    counts = {s: len(SCENES.load_index(root, s)) for s in ("train", "val")}
    if found != parameters.digest or counts != {"train": parameters.train, "val": parameters.val}:
        raise DataError(
            f"{root} holds {counts['train']} train and {counts['val']} val scenes, expected "
            f"{parameters.train} and {parameters.val}; delete it and it is made again."
        )
