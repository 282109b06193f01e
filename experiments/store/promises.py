"""Which rows get seeds one after another: ``decide/<table>-<profile>.json`` in a results folder.

Written before the first of these seeds is trained, since from then on every verdict of the table
has to be one that holds at whatever number of seeds one stops. It says how many seeds each row is
to have and nothing of how the runs went: that is told by the runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from experiments.errors import StoreError
from experiments.files import parsed_json, read_bounded, write_atomically

VERSION = 1
_MOST_BYTES = 1 << 20


class Promise(BaseModel):
    """The seeds of a table's rows in one profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = VERSION
    table: str
    profile: str
    #: row → seeds 0, 1, … that it is to have at least
    seeds: dict[str, int] = Field(default_factory=dict)


def path_of(results: Path, table: str, profile: str) -> Path:
    """Where the promise of a table is kept, there or not."""
    return results / "decide" / f"{table}-{profile}.json"


def read_promise(results: Path, table: str, profile: str) -> Promise | None:
    """The promise of a table; None: its seeds were fixed beforehand.

    Raises:
        StoreError: it cannot be read, or is none.
    """
    path = path_of(results, table, profile)
    try:
        promise = Promise.model_validate(parsed_json(read_bounded(path, _MOST_BYTES)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError:
        promise = None
    if promise is None or (promise.table, promise.profile) != (table, profile):
        raise StoreError(
            f"{path} is damaged. It says that seeds of {table} were added while its verdicts were "
            f"looked at; `rm {path}` and `./run_all.sh decide {table} --profile {profile}` write "
            "it anew and train nothing that is stored."
        )
    if promise.version > VERSION:
        raise StoreError(f"A newer version of this project wrote {path}; use that one.")
    return promise


def write_promise(results: Path, table: str, profile: str, seeds: Mapping[str, int]) -> Promise:
    """Promise seeds to rows, and never fewer than were promised before.

    Raises:
        StoreError: it cannot be read or written.
    """
    former = read_promise(results, table, profile)
    rows = dict(former.seeds) if former else {}
    for row, number in seeds.items():
        rows[row] = max(number, rows.get(row, 0))
    promise = Promise(table=table, profile=profile, seeds=rows)
    if promise != former:
        text = promise.model_dump_json(indent=1) + "\n"
        write_atomically(path_of(results, table, profile), text)
    return promise
