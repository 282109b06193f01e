"""Arrays as bytes: equal arrays give equal bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def npz_bytes(**arrays: object) -> bytes:
    """Compressed npz of arrays as bytes; equal arrays give equal bytes."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def npz_arrays(raw: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of :func:`npz_bytes`; checks their CRCs.

    Raises:
        ValueError, zipfile.BadZipFile: not what npz_bytes wrote.
    """
    import numpy as np

    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            return dict(file)
    except EOFError as error:
        raise ValueError(str(error)) from None
