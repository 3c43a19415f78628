"""Named arrays on disk and text elements on the wire: `.npz` without pickle, read with a size bound.

numpy cannot store BYTES elements (object arrays) without pickle; they are stored as a uint8 array in the protocol's own
form (per element a 4-byte little-endian length and the bytes) beside `<key>#shape`.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
MAX_NPZ_BYTES = 256 << 20
_SHAPE = "#shape"


def save_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to `path`, compressed. The same arrays give the same bytes."""
    plain: dict[str, Array] = {}
    for key, array in arrays.items():
        if array.dtype == object:
            plain[key] = np.frombuffer(encode_bytes(array), dtype=np.uint8)
            plain[key + _SHAPE] = np.array(array.shape, dtype=np.int64)
        else:
            plain[key] = array
    with path.open("wb") as file:
        np.savez_compressed(file, **plain)  # type: ignore[arg-type]  # the stub takes the keys for its own options


def load_npz(path: Path, max_bytes: int = MAX_NPZ_BYTES) -> dict[str, Array]:
    """Read what `save_npz` wrote.

    Raises:
        ValueError: not an npz of plain arrays, or it would inflate past `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inflated = sum(info.file_size for info in archive.infolist())
        if inflated > max_bytes:
            raise ValueError(f"the arrays take {inflated} bytes, more than the limit of {max_bytes}")
        with np.load(path, allow_pickle=False) as stored:
            plain = {key: stored[key] for key in stored.files}
        return {
            key: decode_bytes(array.tobytes(), tuple(int(n) for n in plain[key + _SHAPE]))
            if key + _SHAPE in plain
            else array
            for key, array in plain.items()
            if not key.endswith(_SHAPE)
        }
    except (zipfile.BadZipFile, OSError, KeyError, EOFError, struct.error) as error:
        raise ValueError(f"not a readable array file ({type(error).__name__})") from None


def encode_bytes(array: Array) -> bytes:
    r"""BYTES elements in row-major order, each as a 4-byte little-endian length and its bytes.

    Example:
        >>> encode_bytes(np.array([b"hi"], dtype=object))
        b'\x02\x00\x00\x00hi'
    """
    parts: list[bytes] = []
    for item in array.reshape(-1):
        data = item if isinstance(item, bytes) else str(item).encode()
        parts += (struct.pack("<I", len(data)), data)
    return b"".join(parts)


def decode_bytes(data: bytes, shape: tuple[int, ...]) -> Array:
    """The inverse of `encode_bytes`: an object array of `bytes`.

    Raises:
        ValueError: lengths that do not fit the data or the shape.
    """
    items: list[bytes] = []
    position = 0
    while position < len(data):
        end = position + 4
        if end > len(data):
            raise ValueError("a BYTES element's length is cut off")
        (length,) = struct.unpack_from("<I", data, position)
        position = end + length
        if position > len(data):
            raise ValueError("a BYTES element reaches past the end")
        items.append(data[end:position])
    count = int(np.prod(shape, dtype=np.int64))
    if len(items) != count:
        raise ValueError(f"{len(items)} BYTES elements for a shape of {count}")
    out = np.empty(count, dtype=object)
    out[:] = items
    return out.reshape(shape)
