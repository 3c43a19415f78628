"""Pools: which application, which route, which models; what is refused; the token and the keeper's program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from serving.autoscaling import Autoscaling
from serving.options import ServingOptions
from serving.pools import PoolSpec, PoolsUnfit, check_pools
from serving.ray_environment import make_haproxy_keeper, make_token, ray_environment

OPTIONS = ServingOptions(registry="", records="")


def test_a_models_own_pool_owns_the_models_route_and_the_default_pool_the_rest():
    first, own = PoolSpec(options=OPTIONS), PoolSpec(options=OPTIONS, model="resnet")
    assert (first.application, first.route) == ("hardcase", "/")
    assert (own.application, own.route) == ("hardcase-resnet", "/v2/models/resnet")
    check_pools((first, own))


def test_pools_that_contradict_each_other_are_refused():
    first, own = PoolSpec(options=OPTIONS), PoolSpec(options=OPTIONS, model="resnet")
    for wrong in ((), (own,), (first, first), (first, own, PoolSpec(options=OPTIONS, model="ResNet"))):
        with pytest.raises(PoolsUnfit):
            check_pools(wrong)


def test_a_pool_that_scales_begins_with_the_fewest():
    scaling = Autoscaling(min_replicas=2, max_replicas=5)
    pool = PoolSpec(options=OPTIONS, replicas=9, autoscaling=scaling)
    assert (pool.first_replicas, pool.most_replicas) == (2, 5)


def test_a_pool_hosts_its_own_models_and_the_default_pool_all_others():
    assert ServingOptions(registry="", records="").hosts("any")
    own = ServingOptions(registry="", records="", models=("resnet",))
    rest = ServingOptions(registry="", records="", elsewhere=("resnet",))
    assert [own.hosts(m) for m in ("resnet", "digits")] == [True, False]
    assert [rest.hosts(m) for m in ("resnet", "digits")] == [False, True]


def test_a_token_is_made_once_and_is_its_owners_alone(tmp_path: Path):
    file = make_token(tmp_path / "token")
    first = file.read_text()
    assert len(first) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    assert make_token(file).read_text() == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert make_token(tmp_path / "other").read_text() != first


def test_the_environment_never_holds_the_token_itself(tmp_path: Path):
    token = make_token(tmp_path / "token")
    found = ray_environment(Path("/tmp/x"), token_file=token)
    assert found["RAY_AUTH_MODE"] == "token"
    assert not any(token.read_text() in value for value in found.values())


def test_the_keepers_program_is_haproxy_to_whoever_asks(tmp_path: Path):
    program = make_haproxy_keeper(tmp_path)
    assert program is not None
    done = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("HAProxy version 2.")
