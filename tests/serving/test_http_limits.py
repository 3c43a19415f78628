"""Body limits, inflation and content negotiation."""

from __future__ import annotations

import gzip
import itertools
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.contracts.errors import InvalidRequest, PayloadTooLarge, UnsupportedMedia
from serving.http_limits import (
    MAX_GZIP_MEMBERS,
    MIN_COMPRESS_BYTES,
    BodyCollector,
    answer_encoding,
    check_content_length,
    compress,
    inflate,
)
from serving.options import Limits

SMALL = Limits(body_bytes=1000, chunks=10)


@given(body=st.binary(max_size=1000), cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_a_body_comes_out_as_it_went_in_whatever_the_chunks(body: bytes, cuts: list[int]) -> None:
    collector = BodyCollector(SMALL, content_length=len(body))
    edges = [0, *sorted(min(c, len(body)) for c in cuts), len(body)]
    for start, stop in itertools.pairwise(edges):
        collector.feed(body[start:stop])
    assert collector.finish() == body


def test_the_byte_over_the_limit_is_refused_and_what_was_held_is_let_go() -> None:
    collector = BodyCollector(SMALL)
    collector.feed(b"x" * 1000)
    with pytest.raises(PayloadTooLarge, match="larger than 1000 bytes"):
        collector.feed(b"x")
    assert collector._parts == []


def test_chunks_are_counted() -> None:
    collector = BodyCollector(SMALL)
    for _ in range(10):
        collector.count_chunk()
    with pytest.raises(PayloadTooLarge, match="more than 10 chunks"):
        collector.count_chunk()


def test_a_body_shorter_than_announced_is_refused() -> None:
    collector = BodyCollector(SMALL, content_length=5)
    collector.feed(b"1234")
    with pytest.raises(InvalidRequest, match="4 bytes, header 'Content-Length' says 5"):
        collector.finish()


@pytest.mark.parametrize("raw", [b"", b"-1", b"+1", b"1.0", b"0x10", b"1,1", b" 1", "²".encode(), b"1e3"])
def test_a_content_length_that_is_no_number_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Content-Length"):
        check_content_length(raw, SMALL)


@pytest.mark.parametrize("raw", [b"1001", b"1" + b"0" * 30])
def test_a_content_length_over_the_limit_is_refused_before_the_body(raw: bytes) -> None:
    with pytest.raises(PayloadTooLarge, match="Content-Length"):
        check_content_length(raw, SMALL)


def test_a_content_length_at_the_limit_is_accepted() -> None:
    assert check_content_length(b"1000", SMALL) == 1000
    assert check_content_length(None, SMALL) is None


def _raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(body) + deflater.flush()


ENCODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "raw deflate": _raw_deflate}


@given(body=st.binary(max_size=5000), name=st.sampled_from(sorted(ENCODERS)))
def test_inflating_undoes_compressing(body: bytes, name: str) -> None:
    packed = ENCODERS[name](body)
    # A raw stream whose first two bytes look like a zlib header cannot be told apart; RFC 9110 gives zlib the right.
    if name == "raw deflate" and packed[0] & 0x0F == 8 and int.from_bytes(packed[:2], "big") % 31 == 0:
        return
    assert inflate(packed, name.rpartition(" ")[2], 5000) == body


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 1 << 18, (1 << 18) + 1, 1 << 20])
def test_inflating_in_pieces_meets_every_edge(size: int) -> None:
    body = random.Random(size).randbytes(size)
    packed = gzip.compress(body, 1)
    assert inflate(packed, b"gzip", 1 << 20) == body
    assert inflate(packed, b"gzip", size) == body
    with pytest.raises(PayloadTooLarge):
        inflate(packed, b"gzip", size - 1)
    with pytest.raises(InvalidRequest, match="cut short"):
        inflate(packed[:-1], b"gzip", 1 << 20)


def test_gzip_members_add_up_against_one_limit() -> None:
    packed = gzip.compress(b"a" * 600) + gzip.compress(b"b" * 400)
    assert inflate(packed, b"gzip", 1000) == b"a" * 600 + b"b" * 400
    with pytest.raises(PayloadTooLarge, match="inflates to more than 999 bytes"):
        inflate(packed, b"gzip", 999)


def test_a_flood_of_empty_gzip_members_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=f"more than {MAX_GZIP_MEMBERS} members"):
        inflate(gzip.compress(b"") * 100_000, b"gzip", 1000)


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_a_bomb_costs_little_more_than_the_limit(name: str) -> None:
    limit = 1 << 20
    bomb = ENCODERS[name](bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(PayloadTooLarge, match="inflates to more than"):
        inflate(bomb, name.rpartition(" ")[2], limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * limit + len(bomb) + 100_000


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_damaged_data_is_refused_with_its_encoding_named(name: str) -> None:
    packed = ENCODERS[name](random.Random(3).randbytes(300))
    for damaged in (packed[:-1], packed[: len(packed) // 2], b"", b"\x00" * 40, packed + b"trailing"):
        with pytest.raises(InvalidRequest, match=name):
            inflate(damaged, name, 10_000)


@pytest.mark.parametrize("raw", [b"br", b"zstd", b"gzip, gzip", b"gzip, deflate", b"compress", b"\xff\xfe"])
def test_other_encodings_are_unsupported(raw: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="Content-Encoding"):
        inflate(b"", raw, 10)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None),
        (b"", None),
        (b"br", None),
        (b"gzip", "gzip"),
        (b"GZIP", "gzip"),
        (b"deflate", "deflate"),
        (b"deflate, gzip", "gzip"),
        (b"gzip;q=0.2, deflate;q=0.8", "deflate"),
        (b"gzip;q=0", None),
        (b"*", "gzip"),
        (b"*;q=0", None),
        (b"gzip;q=0, *", None),
        (b"identity;q=1, gzip;q=0.5", None),
        (b"gzip;q=banana", None),
        (b"gzip;q=nan", None),
    ],
)
def test_accept_encoding_is_read_as_the_rfc_says(accept: bytes | None, expected: str | None) -> None:
    assert answer_encoding(accept) == expected


@given(accept=st.binary(max_size=60))
def test_any_accept_encoding_gives_an_answer(accept: bytes) -> None:
    assert answer_encoding(accept) in (None, "gzip", "deflate")


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_compressed_answers_inflate_to_what_was_sent(name: str) -> None:
    body = random.Random(1).randbytes(200) * 9
    packed, encoding = compress(body, name.encode())
    assert encoding == name.encode()
    assert len(packed) < len(body)
    assert inflate(packed, name, len(body)) == body


def test_a_small_answer_is_sent_as_it_is() -> None:
    body = b"x" * (MIN_COMPRESS_BYTES - 1)
    assert compress(body, b"gzip") == (body, None)
