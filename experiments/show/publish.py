"""Putting a folder on huggingface.co: one commit, all or nothing, the same again changes nothing.

What has arrived before an interruption is not sent again: the service knows it by its sha256.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from experiments.errors import SsaError

SERVICE = "hf:"
#: a table goes where data sets lie, trained networks where models lie
Kind = Literal["dataset", "model"]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_AGAIN = "give the same command again: what has arrived is not sent twice"


class PublishError(SsaError):
    """Something that cannot be published, or not there."""


@dataclass(frozen=True)
class Target:
    """Where to."""

    name: str  # USER/NAME
    kind: Kind

    @classmethod
    def parse(cls, text: str, kind: Kind) -> Target:
        """``hf:USER/NAME`` → a repository of ``kind``.

        Raises:
            PublishError: it names none.
        """
        name = text.removeprefix(SERVICE)
        if not text.startswith(SERVICE) or not _NAME.fullmatch(name) or ".." in name:
            raise PublishError(
                f"--to takes hf:USER/NAME, of letters, digits, - _ and . as in hf:me/table8; not "
                f"'{text}'."
            )
        return cls(name, kind)


@dataclass(frozen=True)
class Published:
    """What became of it."""

    url: str
    changed: bool  # whether there was anything that the repository did not have yet


def files_of(folder: Path) -> list[tuple[str, int]]:
    """What would be uploaded: path in the repository and bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]


def hub_library() -> ModuleType:
    """The package ``huggingface_hub``.

    Raises:
        PublishError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise PublishError(
            "publish needs the package huggingface_hub: `.venv/bin/python -m pip install "
            "huggingface_hub`."
        ) from None
    return huggingface_hub


def publish(folder: Path, target: Target, message: str, *, private: bool = False) -> Published:
    """Upload all files of ``folder``; the repository is made if there is none.

    Args:
        folder: as it is to lie there.
        target: where to.
        message: of the commit.
        private: whether a repository that is made is only seen by its owner.

    Raises:
        PublishError: no library, token, network or permission; a name that the service refuses.
    """
    hub = hub_library()
    errors = hub.errors
    if hub.get_token() is None:
        raise PublishError(
            "No token of huggingface.co is here; `.venv/bin/hf auth login` keeps one (or set "
            "HF_TOKEN), then give the same command again."
        )
    hub.logging.set_verbosity_error()  # an empty commit is said by us
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    name, kind = target.name, target.kind
    transport = getattr(errors, "HTTPError", OSError)  # of the HTTP library that this hub has
    try:
        url = api.create_repo(name, repo_type=kind, private=private or None, exist_ok=True)
        before = api.repo_info(name, repo_type=kind).sha
        files = [file for file, _ in files_of(folder)]
        adding = [hub.CommitOperationAdd(file, str(folder / file)) for file in files]
        commit = api.create_commit(name, adding, commit_message=message, repo_type=kind)
    except errors.HFValidationError as error:
        raise PublishError(f"{SERVICE}{name} is no name there: {_line(error)}") from None
    except errors.HfHubHTTPError as error:
        raise PublishError(_refusal(error, target, api.endpoint)) from None
    except (transport, OSError) as error:
        raise PublishError(
            f"{api.endpoint} cannot be reached ({_line(error) or type(error).__name__}); mend the "
            f"network or unset HF_HUB_OFFLINE, and {_AGAIN}."
        ) from None
    except ValueError as error:  # an answer that is none
        raise PublishError(f"{api.endpoint} did not take it ({_line(error)}); {_AGAIN}.") from None
    return Published(str(url), commit.oid != before)


def _refusal(error: Exception, target: Target, endpoint: str) -> str:
    """Why the service said no and what to do."""
    response = getattr(error, "response", None)
    code = getattr(response, "status_code", None)
    if code == 401:
        return (
            f"{endpoint} does not take the token that is here; `.venv/bin/hf auth login` keeps a "
            "new one (unset HF_TOKEN), then give the same command again."
        )
    if code in (403, 404):
        return (
            f"{endpoint} does not let this token write {target.name}; `.venv/bin/hf auth whoami` "
            "says whose it is: name a repository of theirs (--to hf:USER/NAME), or make a token "
            "that may write."
        )
    said = getattr(error, "server_message", None) or _line(error)
    return f"{endpoint} did not take it ({code}: {said}); {_AGAIN}."


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
