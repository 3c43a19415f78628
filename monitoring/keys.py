"""Names that are computed, not drawn: the same record has the same key in every run and on every machine.

64 bits: among 10 million indexed records two of one model share a hash with probability 3e-6; a query then compares
the id itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xxhash

AUDIT_SEED = 0x4861726463617365  # any fixed number: makes the audit draw independent of the keys


def record_hash(model: str, record_id: str) -> int:
    """Signed 64-bit hash of a record's name: what feedback and records are joined by.

    Example:
        >>> record_hash("digits", "a") == record_hash("digits", "a") != record_hash("digits", "b")
        True
    """
    return _signed(xxhash.xxh64_intdigest(f"{model}\0{record_id}".encode("utf-8", "surrogateescape")))


def record_hashes(model: str, record_ids: list[str]) -> list[int]:
    """`record_hash` of many ids of one model."""
    prefix, digest = f"{model}\0", xxhash.xxh64_intdigest
    unsigned = np.array(
        [digest((prefix + record_id).encode("utf-8", "surrogateescape")) for record_id in record_ids], dtype=np.uint64
    )
    signed: list[int] = unsigned.view(np.int64).tolist()
    return signed


def case_id(model: str, record_id: str, time_ns: int, variant: str = "") -> str:
    """Sixteen hex digits that name the case of a record.

    What a shadow, or a canary that the champion stood in for, made of a request has the request's id and time, too.
    """
    name = f"{model}\0{record_id}\0{time_ns}" + (f"\0{variant}" if variant not in ("", "champion") else "")
    return f"{xxhash.xxh64_intdigest(name.encode('utf-8', 'surrogateescape')):016x}"


def audit_ranks(id_hashes: npt.NDArray[np.int64], time_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A uniform number in [0, 1) for each record, fixed by its key: records below the audit rate are audited.

    The finaliser of MurmurHash3 (Appleby 2011; also splitmix64's) over key and time, so that neither the clock nor a
    generator's state decides who is audited.
    """
    x = id_hashes.view(np.uint64) ^ (time_ns.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(AUDIT_SEED)
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(33)
    return np.asarray((x >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def printable(text: str) -> str:
    """Text that every database takes: bytes that were not UTF-8, and NUL, are spelled out."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")
