"""A table with all it rests on as one RO-Crate, for a co-author or an archive.

::

    ro-crate-metadata.json             what each file is, which run made it (Process Run Crate)
    manifest-sha256.txt                the sha256 of every other file
    runs/<run id>/record.json, per_image.npz
    tables/<table>-<profile>.*         the exports
    declared/<kind>/<name>.yaml        the table, the profile, the models
    datasets/scenes-<digest>.json      the data set in Croissant
    environment/lock.txt, LICENSE

The folder is a results folder as well: ``diff`` and ``--results`` take it.
"""

from __future__ import annotations

import datetime
import json
import mimetypes
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.declare.load import OWN
from experiments.declare.table import Table
from experiments.files import read_bounded, write_atomically, writing
from experiments.judge.tables import assembled
from experiments.machine import PROJECT
from experiments.plan.request import Request
from experiments.show.croissant import describe_scenes
from experiments.show.export import export
from experiments.store.arrays import MOST_BYTES
from experiments.store.bundles import (
    MANIFEST,
    BundleError,
    made_beside,
    manifest_of,
    refuse_taken,
)
from experiments.store.records import Record
from experiments.store.store import MOST_OF_A_RECORD
from ssa import __version__

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_SOFTWARE = "#ssa-seg-lab"
_MEDIA_TYPES = {".md": "text/markdown", ".tex": "text/x-tex", ".yaml": "application/yaml"}
_MEDIA_TYPES |= {".npz": "application/zip"}  # mimetypes asks the system, and that varies
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same content gives the same file


def bundle(request: Request, name: str, out: Path) -> list[str]:
    """Write a table, its records and what they were made from; nothing is trained.

    Args:
        request: the options of the call.
        name: of the table.
        out: a new folder, or a new file that ends in ``.zip``.

    Returns the ids of the runs in it.

    Raises:
        BundleError: ``out`` is taken, no run of the table is stored, or ``rocrate`` is missing.
        CorruptRecordError: a record of the table is damaged.
        UnknownNameError: no such table.
        StoreError: the disk is full or may not be written.
    """
    refuse_taken(out)
    _refuse_without_library()
    tables = [request.registry.table(name)]
    plan = request.stored_plan(tables)
    ids = dict.fromkeys(run.spec.run_id for run in plan.runs)
    records = [record for run_id in ids if (record := request.store.read(run_id))]
    if not records:
        raise BundleError(
            f"{request.workspace.results} holds no run of {name} in the profile "
            f"{request.profile.name}: `./run_all.sh {name} --profile {request.profile.name}` "
            "trains them."
        )
    zipped = out.suffix == ".zip"
    folder = out.with_suffix("") if zipped else out
    with tempfile.TemporaryDirectory(prefix="ssa-bundle-") as staging:
        staged = Path(staging) / folder.name
        _stage(request, tables[0], records, staged)
        for result in assembled(request, plan):
            export(result, staged / "tables")
        crate = _crate(tables[0], records, staged)
        if zipped:
            written = Path(staging) / "crate"
            _write(crate, written)
            _zip(written, out)
        else:
            with made_beside(out) as temporary:
                _write(crate, temporary)
    return [record.run_id for record in records]


def _refuse_without_library() -> None:
    try:
        import rocrate  # noqa: F401
    except ImportError:
        raise BundleError(
            "bundle needs the package rocrate: `.venv/bin/python -m pip install rocrate`."
        ) from None


def _stage(request: Request, table: Table, records: Sequence[Record], folder: Path) -> None:
    """Copy what the records were made from, and the records."""
    for record in records:
        source = request.store.folder(record.run_id)
        target = folder / "runs" / record.run_id
        write_atomically(target / "record.json", read_bounded(source.record, MOST_OF_A_RECORD))
        write_atomically(target / "per_image.npz", read_bounded(source.per_image, MOST_BYTES))
    declared = {("tables", table.name), ("profiles", request.profile.name)}
    declared |= {("models", record.spec.model) for record in records}
    for kind, name in sorted(declared):
        for place in (OWN, *request.registry.folders):
            path = place / kind / f"{name}.yaml"
            if path.is_file():
                write_atomically(folder / "declared" / kind / path.name, path.read_bytes())
    for record in records:
        if record.spec.dataset == "scenes":
            text = json.dumps(describe_scenes(record.spec, _latest(records)[:10]), indent=1)
            write_atomically(folder / _dataset(record), text + "\n")
    lock, licence = PROJECT / "requirements" / "lock.txt", PROJECT / "LICENSE"
    for path, target in ((lock, folder / "environment" / lock.name), (licence, folder / "LICENSE")):
        if path.is_file():  # an installed package has neither
            write_atomically(target, path.read_bytes())


def _dataset(record: Record) -> str:
    return f"datasets/scenes-{record.spec.dataset_digest[:12]}.json"


def _latest(records: Iterable[Record]) -> str:
    return max(record.finished for record in records)


def _crate(table: Table, records: Sequence[Record], folder: Path) -> ROCrate:
    """The metadata of all in ``folder``: files, the software, and a CreateAction a run."""
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")  # of which Process Run Crate 0.5 is a profile
    crate.name = f"{table.name}: {table.title}"
    crate.description = (
        f"{len(records)} runs of {table.name} with areas per image and class, the exported table, "
        "the declared files they were made from, and the environment."
    )
    crate.datePublished = datetime.datetime.fromisoformat(_latest(records))
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        files[name] = crate.add_file(path, name, properties=_described(path))

    def context(identifier: str, kind: str, **properties: Any) -> ContextEntity:
        return crate.add(ContextEntity(crate, identifier, {"@type": kind, **properties}))

    if "LICENSE" in files:
        crate.root_dataset["license"] = files["LICENSE"]
    crate.root_dataset["conformsTo"] = context(
        PROFILE, "CreativeWork", name="Process Run Crate", version="0.5"
    )
    software = context(
        _SOFTWARE, "SoftwareApplication", name="ssa-seg-lab", softwareVersion=__version__
    )
    declared = [file for name, file in files.items() if name.startswith("declared/")]
    for record in records:
        made = [files[f"runs/{record.run_id}/{end}"] for end in ("record.json", "per_image.npz")]
        seen = [files[_dataset(record)]] if _dataset(record) in files else []
        action = context(
            f"#{record.run_id}",
            "CreateAction",
            name=f"Training of {record.run_id}",
            description=f"mIoU {record.scores.miou:.2f} % over {record.num_images} images.",
            startTime=record.started,
            endTime=record.finished,
            actionStatus="http://schema.org/CompletedActionStatus",
        )
        action["instrument"] = software
        action["object"] = [*declared, *seen]
        action["result"] = made
        crate.root_dataset.append_to("mentions", action)
    return crate


def _described(path: Path) -> dict[str, str]:
    kind = _MEDIA_TYPES.get(path.suffix) or mimetypes.types_map.get(path.suffix, "text/plain")
    return {
        "name": path.name,
        "encodingFormat": kind,
        "contentSize": str(path.stat().st_size),
    }


def _write(crate: ROCrate, folder: Path) -> None:
    with writing(folder):
        crate.write(folder)
    write_atomically(folder / MANIFEST, manifest_of(folder))


def _zip(folder: Path, out: Path) -> None:
    """Write a folder as a zip file that depends on nothing but its content."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
                for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                    entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    entry.external_attr = 0o100644 << 16
                    with path.open("rb") as source, archive.open(entry, "w") as target:
                        shutil.copyfileobj(source, target)
            temporary.chmod(0o644)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
