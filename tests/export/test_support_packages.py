"""The factories that other tests build on make packages that hold what their docstrings say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.contracts.manifest import RuntimeKind
from export.package import Package, read_package
from tests.support import packages as p

FACTORIES = [
    p.digits_like_package,
    p.echo_package,
    p.multi_input_package,
    p.all_dtypes_package,
    p.variable_length_package,
    p.unbatched_package,
    p.slow_package,
    p.regression_package,
    p.probabilities_package,
    p.nan_package,
    p.torchscript_package,
    p.bf16_script_package,
]


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda f: f.__name__)
def test_every_factory_writes_a_package_that_verifies_and_reads_back(factory, tmp_path: Path) -> None:
    package: Package = factory(tmp_path)
    package.verify()
    again = read_package(tmp_path / package.manifest.name / package.manifest.version)
    assert again == package
    golden = package.golden()
    if golden is not None:
        assert set(golden.inputs) == {i.name for i in package.manifest.signature.inputs}
        assert set(golden.outputs) == {o.name for o in package.manifest.signature.outputs}


def _float_packages(tmp_path: Path) -> list[Package]:
    return [
        f(tmp_path)
        for f in (p.digits_like_package, p.multi_input_package, p.variable_length_package, p.probabilities_package)
    ]


def test_golden_outputs_are_what_the_file_computes(tmp_path: Path) -> None:
    for package in _float_packages(tmp_path):
        path = package.runtime_file(RuntimeKind.ONNX)
        golden = package.golden()
        assert path is not None
        assert golden is not None
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for got, (name, wanted) in zip(session.run(None, golden.inputs), golden.outputs.items(), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5, err_msg=name)


def test_another_seed_makes_another_digest(tmp_path: Path) -> None:
    first = p.digits_like_package(tmp_path, version="1", seed=1)
    second = p.digits_like_package(tmp_path, version="2", seed=2)
    assert first.digest != second.digest
