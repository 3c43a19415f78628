"""Frames and header blocks: any cutting of the stream, every status, and nonsense."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.loadtest.headers import GRPC_STATUS, call_outcome, read_block, request_block
from deploy.loadtest.http2 import PREFACE, FrameReader, Kind, frame, without_padding

frames = st.lists(
    st.tuples(
        st.sampled_from([int(k) for k in Kind]), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=60)
    ),
    max_size=12,
)


@given(sent=frames, cuts=st.lists(st.integers(0, 900), max_size=10))
@settings(max_examples=200, deadline=None)
def test_frames_survive_any_cutting(sent: list[tuple[int, int, int, bytes]], cuts: list[int]):
    data = b"".join(frame(*one) for one in sent)
    places = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    reader = FrameReader()
    found = [f for a, b in itertools.pairwise(places) for f in reader.feed(data[a:b])]
    assert found == sent


def test_padding_and_priority_are_no_part_of_a_header_block():
    assert without_padding(0x8, b"\x03block\0\0\0") == b"block"
    assert without_padding(0x20, b"\0\0\0\0\x10block") == b"block"
    assert without_padding(0x28, b"\x01\0\0\0\0\x10block\0") == b"block"
    with pytest.raises(ValueError, match="padding"):
        without_padding(0x8, b"\x09abc")


def test_a_client_begins_with_the_magic_and_its_settings():
    assert PREFACE.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    kinds = [kind for kind, *_ in FrameReader().feed(PREFACE[24:])]
    assert kinds == [Kind.SETTINGS, Kind.WINDOW_UPDATE]


@pytest.mark.parametrize("number", range(17))
@pytest.mark.parametrize("coded", [False, True])
def test_every_status_is_found_with_and_without_huffman(number: int, coded: bool):
    codes = {"0": "00000", "1": "00001", "2": "00010", "3": "011001", "4": "011010", "5": "011011", "6": "011100",
             "7": "011101", "8": "011110", "9": "011111"}  # fmt: skip
    text = str(number)
    value = bytes([len(text)]) + text.encode()
    name = b"\x0bgrpc-status"
    if coded:
        bits = "".join(codes[c] for c in text)
        bits += "1" * (-len(bits) % 8)
        raw = bytes(int(bits[n : n + 8], 2) for n in range(0, len(bits), 8))
        value, name = bytes([0x80 | len(raw)]) + raw, b"\x88" + bytes.fromhex("9acac8b21234da8f")
    assert call_outcome(b"\x88\x00" + name + value) == GRPC_STATUS[number]


def test_trailers_that_say_nothing_or_nonsense_are_no_success():
    assert call_outcome(b"\x88") == "no status"
    assert call_outcome(b"\x8d") == "http 404"
    assert call_outcome(b"\x00\x0bgrpc-status\x0299") == "no status"
    assert call_outcome(b"\x00\x7f") == "unreadable trailers"
    assert call_outcome(b"\xff\xff\xff\xff\xff\xff\xff") == "unreadable trailers"


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_no_block_makes_it_fall(block: bytes):
    assert isinstance(call_outcome(block), str)


def test_a_request_block_reads_as_what_it_is():
    long = "v" * 300
    block = request_block("host:9000", "/s/M", (("authorization", "Bearer x"), ("long", long)), tls=True)
    assert block[:2] == b"\x83\x87"
    found = read_block(block)
    assert found["authorization"] == "Bearer x"
    assert found["long"] == long
    assert (found[":method"], found[":scheme"], found[":path"]) == ("POST", "https", "/s/M")
    assert (found[":authority"], found["content-type"], found["te"]) == ("host:9000", "application/grpc", "trailers")
