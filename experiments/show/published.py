"""The folder that is published: a table's bundle with its page, or a row's weights with a card."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from experiments.declare.lookup import find_row
from experiments.files import write_atomically, writing
from experiments.judge.assemble import assemble
from experiments.machine import PROJECT
from experiments.plan.request import Request
from experiments.show.bundle import bundle
from experiments.show.model_card import bundle_card, model_card
from experiments.show.publish import PublishError

CARD = "README.md"


def stage_table(request: Request, name: str, folder: Path) -> None:
    """Put a table's bundle, as a zip file, and its page into ``folder``.

    Raises:
        BundleError: no run is stored, or rocrate is missing.
        UnknownNameError: no such table.
        StoreError: the disk is full or may not be written.
    """
    archive = f"{name}-{request.profile.name}.zip"
    runs = bundle(request, name, folder / archive)
    card = bundle_card(request.registry.table(name), request.profile.name, archive, len(runs))
    write_atomically(folder / CARD, card)


def stage_row(request: Request, name: str, row: str, target: str, folder: Path) -> None:
    """Put the weights and records of a row's runs, the licence and a model card into ``folder``.

    The folder is then a results folder, so what is downloaded is loaded as what is trained here.

    Args:
        request: the options of the call.
        name: of the table.
        row: its id or its printed label.
        target: USER/NAME.
        folder: an empty one.

    Raises:
        PublishError: no run of the row is stored, or one without its weights.
        CorruptRecordError: a record is damaged.
        UnknownNameError: no such table or row.
        StoreError: the disk is full or may not be written.
    """
    table = request.registry.table(name)
    wanted = find_row(table, row)
    (planned,) = request.stored_plan([table]).tables
    result = assemble(planned, request.store, request.reference)
    judged = next(each for each in result.rows if each.row.id == wanted.id)
    card = model_card(result, judged, target)  # says if there is no run
    for record in judged.records:
        source = request.store.folder(record.run_id)
        if not source.weights.is_file():
            raise PublishError(
                f"{source.weights} is gone, and no record holds weights (the shipped results have "
                f"none): train {name} in a results folder of your own, `./run_all.sh {name} "
                f"--profile {request.profile.name} --results DIR`, and publish from there."
            )
        target_folder = folder / "runs" / record.run_id
        with writing(target_folder):
            target_folder.mkdir(parents=True)
            for path in (source.record, source.per_image, source.weights):
                _place(path, target_folder / path.name)
    licence = PROJECT / "LICENSE"
    if licence.is_file():  # an installed package has none
        _place(licence, folder / licence.name)
    write_atomically(folder / CARD, card)


def _place(source: Path, target: Path) -> None:
    """Link a file, which costs nothing; copy it where another disk lies between."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
