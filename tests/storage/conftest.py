"""One S3-compatible server for all tests here; every test has a prefix of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.bucket import Proxy, harmful_proxy, moto


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    with harmful_proxy(server) as made:
        yield made
