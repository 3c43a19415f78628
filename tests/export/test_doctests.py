"""The examples in the docstrings of `export` run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import export

MODULES = [m.name for m in pkgutil.walk_packages(export.__path__, "export.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} says nothing about itself"
    failed, _ = doctest.testmod(module, extraglobs={"np": np})
    assert failed == 0
