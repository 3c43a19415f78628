"""One cluster for all tests of this folder: two replicas, digits and echo."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from export.registry import Registry
from serving.options import RuntimeOptions, ServingOptions
from tests.support import packages as p
from tests.support.ray_cluster import RayServing, ray_serving

OPTIONS = ServingOptions(registry="", records="", plan_poll_s=0.2, runtime=RuntimeOptions(device="cpu"))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("ray-registry")
    registry = Registry(folder / "registry")
    for package in (p.digits_like_package(folder), p.echo_package(folder)):
        registry.add(package.dir)
        registry.promote(package.manifest.name, "1", author="test")
    registry.add(p.digits_like_package(folder, version="2", seed=7).dir)
    return registry


@pytest.fixture(scope="session")
def cluster(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServing]:
    with ray_serving(tmp_path_factory.mktemp("ray"), registry.root, replicas=2, options=OPTIONS) as running:
        yield running
