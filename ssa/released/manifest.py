"""Pretrained files: the manifest and what of it is there; importing it needs no torch.

Nothing is downloaded here. A missing file is an error that says where it is published and where it
belongs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sysconfig
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ssa.errors import ConfigurationError, Remedy, SsaError, UnknownNameError

MANIFEST = Path(__file__).with_name("weights.yaml")

Check = Literal["missing", "ok", "different", "unpublished"]


class MissingWeightsError(SsaError):
    """A pretrained file is not where it belongs."""


class UnfitWeightsError(SsaError):
    """A file that cannot be read, or that does not fit the network."""


class WeightsPackage(BaseModel):
    """A package of the Python index that holds a pretrained file as data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    #: the one whose file has the entry's digest
    version: str
    #: of this project, with which pip installs it
    extra: str


class WeightsEntry(BaseModel):
    """One pretrained file of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    #: below the folder of pretrained files; of a package: below the folder that it is installed to
    file: str
    url: str
    #: None: the file is brought by hand
    package: WeightsPackage | None = None
    #: the same file elsewhere
    mirror: str | None = None
    #: where a person finds it, if ``url`` is a drive's
    page: str | None = None
    #: digest or its published beginning
    sha256: str | None
    licence: str
    initialises: str
    #: type of the backbone
    backbone: str
    #: patterns of our backbone entries that the file does not hold
    leaves: tuple[str, ...] = ()
    #: patterns of the file's entries that the network need not have
    spare: tuple[str, ...] = ()
    #: refuse a file unless every entry of it and of the backbone has its partner
    strict: bool = False

    def path(self, root: Path) -> Path:
        """Where the file belongs.

        Args:
            root: the folder of pretrained files that are brought by hand.
        """
        if self.package is None:
            return root / self.file
        try:
            installed = importlib.metadata.distribution(self.package.name)
        except importlib.metadata.PackageNotFoundError:
            return Path(sysconfig.get_paths()["purelib"]) / self.file
        return Path(str(installed.locate_file(self.file)))


class WeightsStatus(BaseModel):
    """A file of the manifest as it is on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: WeightsEntry
    path: Path
    present: bool
    #: bytes, None if missing
    size: int | None
    #: digest of the file, None if missing or not computed
    sha256: str | None = None
    #: only after verification; "unpublished": present, but nobody published a digest
    check: Check | None = None


def read_manifest(path: Path = MANIFEST) -> dict[str, WeightsEntry]:
    """The manifest by name.

    Raises:
        ConfigurationError: an entry has a wrong or missing field.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return {name: WeightsEntry(name=name, **fields) for name, fields in entries.items()}
    except (TypeError, ValidationError) as error:
        raise ConfigurationError(f"The manifest {path} is not valid: {error}") from None


def weights_entry(name: str) -> WeightsEntry:
    """One entry of the manifest.

    Raises:
        UnknownNameError: no such entry.
    """
    manifest = read_manifest()
    if name not in manifest:
        raise UnknownNameError("pretrained weights", name, manifest)
    return manifest[name]


def list_weights(root: Path) -> list[WeightsStatus]:
    """Every file of the manifest and whether it is in ``root``."""
    return [_status(entry, root) for entry in read_manifest().values()]


def verify_weights(root: Path) -> list[WeightsStatus]:
    """The same with digests computed and held against the published ones."""
    return [_verified(status) for status in list_weights(root)]


def require_weights(entry: str | WeightsEntry, root: Path) -> Path:
    """Where the file of an entry is.

    Args:
        entry: of the manifest, or its name there.
        root: the folder of pretrained files that are brought by hand.

    Raises:
        MissingWeightsError: it is not there; the message says where to get it.
        UnfitWeightsError: its digest is not the published one.
        UnknownNameError: no such entry.
    """
    entry = weights_entry(entry) if isinstance(entry, str) else entry
    status = _verified(_status(entry, root))
    if not status.present:
        raise MissingWeightsError(missing_sentence(status.entry, root), remedy=_remedy(entry))
    if status.check == "different":
        again = (
            f"download it again from {entry.url}."
            if entry.package is None
            else f"install {entry.package.name}=={entry.package.version} again."
        )
        raise UnfitWeightsError(
            f"{status.path} has the SHA-256 {status.sha256}, but {entry.sha256}… is "
            f"published; {again}"
        )
    return status.path


def missing_sentence(entry: WeightsEntry, root: Path) -> str:
    """What is missing, where it is published and where it belongs."""
    what = f"The pretrained weights '{entry.name}' ({entry.initialises}) are missing"
    if (package := entry.package) is not None:
        return (
            f"{what}: they come with the package {package.name}=={package.version} ({entry.url}), "
            f"the extra '{package.extra}' of this project."
        )
    page = f" (see {entry.page})" if entry.page and entry.page != entry.url else ""
    return f"{what}: download {entry.url}{page} to {root / entry.file}, or start from scratch."


def _remedy(entry: WeightsEntry) -> Remedy:
    if entry.package is None:
        return Remedy("from_scratch")
    return Remedy("install_weights", entry.package.extra)


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _status(entry: WeightsEntry, root: Path) -> WeightsStatus:
    path = entry.path(root)
    present = path.is_file()
    size = path.stat().st_size if present else None
    return WeightsStatus(entry=entry, path=path, present=present, size=size)


def _verified(status: WeightsStatus) -> WeightsStatus:
    if not status.present:
        return status.model_copy(update={"check": "missing"})
    digest, published = sha256_of(status.path), status.entry.sha256
    check: Check = "unpublished"
    if published is not None:
        check = "ok" if digest.startswith(published) else "different"
    return status.model_copy(update={"sha256": digest, "check": check})
