"""Arrays as bytes: equal arrays give equal bytes. What is read takes no more than it says."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: bytes that the arrays of one file may take: areas of 160,000 images and 171 classes have a third
MOST_BYTES = 1 << 30


def npz_bytes(**arrays: object) -> bytes:
    """Compressed npz of arrays as bytes; equal arrays give equal bytes."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def npz_arrays(raw: bytes, most: int = MOST_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file; checks their CRCs.

    Nothing in it is executed, its names are keys and no paths, and no memory is taken for what a
    header claims: a member's size is compared with its header, and their sum with ``most``.

    Args:
        raw: the file.
        most: bytes that all arrays together may take.

    Raises:
        ValueError: it is none, holds objects, or claims more.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            claimed = sum(member.file_size for member in members)
            if claimed > most:
                raise ValueError(f"its arrays claim {claimed} bytes, at most {most} are read")
            if len({member.filename for member in members}) < len(members):
                raise ValueError("a name stands twice in it")
            return {
                member.filename.removesuffix(".npy"): _array(_content(archive, member))
                for member in members
            }
    except _NO_ARCHIVE as error:
        raise ValueError(str(error) or type(error).__name__) from None


#: of zipfile: no archive, cut short, a member that is encrypted or packed in a way unknown here
_NO_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    LookupError,
    OverflowError,
)


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, of which no more are unpacked than it claims."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed in a way that npz files are not")
    with archive.open(member) as file:
        content = file.read(member.file_size)
        file.read(1)  # the CRC is compared at the end
    return content


def _array(content: bytes) -> NDArray[Any]:
    """The array of one npy file.

    Raises:
        ValueError: it is none, holds objects, or is not as long as its header says.
    """
    import numpy as np
    from numpy.lib import format as npy

    stream = io.BytesIO(content)
    try:
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"an array of format {version}")
        shape, in_columns, kind = getattr(npy, _HEADERS[version])(stream)
    except (SyntaxError, TypeError, LookupError, AttributeError, *_UNREADABLE) as error:
        raise ValueError(f"an array's header cannot be read ({error})") from None
    if kind.hasobject:
        raise ValueError("Object arrays are not read: only code could restore them")
    number = math.prod(shape)
    rest = len(content) - stream.tell()
    if min(shape, default=0) < 0 or kind.itemsize * number != rest or (number and not rest):
        raise ValueError(f"an array's header claims {shape} of {kind}, {rest} bytes follow")
    flat = np.frombuffer(content, kind, number, stream.tell()) if rest else np.empty(0, kind)
    return flat.reshape([int(side) for side in shape], order="F" if in_columns else "C").copy(
        order="K"
    )


_UNREADABLE = (RecursionError, MemoryError, tokenize.TokenError)  # a header without an end
#: version of the npy format → numpy's reader of its header
_HEADERS = {(1, 0): "read_array_header_1_0", (2, 0): "read_array_header_2_0"}
