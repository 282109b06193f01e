"""Turning what a user downloaded into a folder that training reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from ssa.datasets import coco_stuff10k, pascal_context, reduced, scenes
from ssa.datasets.base import DATASETS, DataError, DataSet
from ssa.datasets.convert import LinkFile, Task
from ssa.datasets.folder import DESCRIPTION, describe
from ssa.errors import Remedy

Progress = Callable[[int, int], None]  # called with (done, all)

VERSION = 1  # raise when the same source is converted to other files
_MARK = "prepare.json"
_CHUNK = 16
# All others are taken over as they are.
_PLANS: dict[str, Callable[[Path, Path], list[Task]]] = {
    "ccp": reduced.plan_ccp,
    "coco_stuff10k": coco_stuff10k.plan,
    "pascal_context": pascal_context.plan,
    "voc_subset": reduced.plan_voc_subset,
}


class PrepareError(DataError):
    """Files that could not be prepared; the rest is kept, and preparing again continues."""

    def __init__(self, message: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(message)


def prepare(
    name: str,
    source: Path | None,
    data_root: Path,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Path:
    """Make the data set ``name`` under ``data_root`` from the folder ``source``.

    Every file is written beside and renamed, into a folder beside that is renamed when all are
    there: interrupted, a second call continues where the first was. ``source`` is only read;
    images that stay as they are are hard-linked where possible. ``scenes`` needs no source; a name
    that is not registered takes over a user's own folder with its dataset.json.

    Returns:
        The data set's folder, which passes ``DataSet.check``.

    Raises:
        DataError: if the source is not what was expected, or the data set is already there.
        PrepareError: if single files could not be made; ``problems`` names each.
    """
    data_root = Path(data_root)
    if name == "scenes":
        return scenes.ensure(data_root)
    if source is None:
        raise DataError(
            f"{_title(name)} needs a source folder. {_obtain(name)}", remedy=Remedy("prepare", name)
        )
    source = Path(source).resolve()
    if not source.is_dir():
        raise DataError(
            f"The source {source} is not a folder. {_obtain(name)}", remedy=Remedy("prepare", name)
        )
    dataset = DATASETS[name] if name in DATASETS else describe(source)
    target = data_root / (dataset.folders[0] if name in DATASETS else name)
    if target.exists():
        raise DataError(
            f"{target} is already there; verify it, or delete it to prepare it again.",
            remedy=Remedy("verify", name),
        )
    staging = target.parent / f".{target.name}.partial"
    try:
        _start(staging, source)
        convert = _PLANS.get(name)
        tasks = convert(source, staging) if convert else _adopt(dataset, source, staging)
        problems = _run([t for t in tasks if not t.target.exists()], len(tasks), jobs, on_progress)
        if problems:
            raise PrepareError(
                f"{len(problems)} of {len(tasks)} files of {dataset.title} could not be made, the "
                f"first: {problems[0]} Mend the source and prepare again; it "
                "continues.",
                problems,
            )
        dataset.check(staging)
        (staging / _MARK).unlink()
        staging.rename(target)
    except OSError as error:
        raise DataError(
            f"Cannot write {dataset.title} to {target}: {error.strerror}. Mend that and "
            "prepare again; it continues."
        ) from error
    return target


def _start(staging: Path, source: Path) -> None:
    """Make the folder beside, or keep what an interrupted call with the same source left."""
    mark = {"source": str(source), "version": VERSION}
    file = staging / _MARK
    if staging.exists():
        try:
            same = json.loads(file.read_text()) == mark
        except (OSError, ValueError):
            same = False
        if same:
            return
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    file.write_text(json.dumps(mark))


def _adopt(dataset: DataSet, source: Path, target: Path) -> list[Task]:
    """Take the folder over as it is; its layout is kept."""
    layout, root = dataset.layout(source), source
    files = [root / listed for listed in layout.lists.values()]
    if (root / DESCRIPTION).is_file():
        files.append(root / DESCRIPTION)
    for split in dataset.splits:
        files += [path for pair in dataset.load_index(root, split) for path in pair]
    return [LinkFile(path, target / path.relative_to(root)) for path in dict.fromkeys(files)]


def _run(tasks: list[Task], total: int, jobs: int, on_progress: Progress | None) -> list[str]:
    """Do all tasks; a sentence for each that failed."""
    problems: list[str] = []
    done = total - len(tasks)
    chunks = _chunks(tasks)
    if jobs > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for chunk, found in zip(chunks, pool.map(_do, chunks)):
                problems += found
                done += len(chunk)
                if on_progress:
                    on_progress(done, total)
    else:
        for chunk in chunks:
            problems += _do(chunk)
            done += len(chunk)
            if on_progress:
                on_progress(done, total)
    return problems


def _chunks(tasks: list[Task]) -> list[list[Task]]:
    stream: Iterator[Task] = iter(tasks)
    return list(iter(lambda: list(islice(stream, _CHUNK)), []))


def _do(tasks: list[Task]) -> list[str]:
    return [sentence for task in tasks if (sentence := _problem(task))]


def _problem(task: Task) -> str | None:
    try:
        task.run()
    except DataError as error:
        return str(error)
    return None


def _title(name: str) -> str:
    return DATASETS[name].title if name in DATASETS else name


def _obtain(name: str) -> str:
    if name in DATASETS:
        return DATASETS[name].obtain
    return f"Give the folder that holds {DESCRIPTION}."
