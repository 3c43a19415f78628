"""The parser against its oracle, driven by Hypothesis and by random bytes; `benchmarks/fuzz_parser.py` goes further."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.request_plan import PlanMaker
from tests.support import parser_fuzz
from tests.support.parser_fuzz import SUBJECTS, build, check

CORPUS = Path(__file__).parent / "corpus"


@given(data=st.binary(max_size=400))
@settings(max_examples=1500, deadline=None)
def test_parser_and_oracle_agree_on_anything(data: bytes) -> None:
    check(data)


def random_case(generator: random.Random) -> bytes:
    """Few choices that are not zero: requests that are nearly valid."""
    share = generator.random()
    body = bytes(generator.randrange(256) if generator.random() < share else 0 for _ in range(generator.randrange(160)))
    return bytes((generator.randrange(256), generator.randrange(4, 16))) + body


def test_parser_and_oracle_agree_on_requests_that_are_nearly_valid() -> None:
    generator = random.Random(20260101)
    valid = sum(check(random_case(generator)) for _ in range(15_000))
    assert 2_000 < valid < 13_000  # both sides of the fence were visited


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*")), ids=lambda path: path.name)
def test_what_was_once_found_stays_fixed(path: Path) -> None:
    check(path.read_bytes())


def test_every_signature_has_valid_requests() -> None:
    for index in range(len(SUBJECTS)):
        for binary in range(3):
            assert check(bytes((index, 4, binary)))


def test_the_target_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a parser that forgets one check is caught by the same random cases."""
    monkeypatch.setattr(PlanMaker, "_check_rows", lambda self, shapes: shapes[0][0] if shapes[0] else 1)
    generator = random.Random(1)

    def search() -> None:
        for _ in range(15_000):
            check(random_case(generator))

    with pytest.raises(AssertionError):
        search()


def test_cases_are_built_deterministically() -> None:
    generator = random.Random(5)
    for _ in range(200):
        case = random_case(generator)
        assert build(case)[1:] == build(case)[1:]
    assert parser_fuzz.LIMITS.rows == 8
