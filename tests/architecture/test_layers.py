"""The layering rules of the design as data; a breach is named with file, line and import."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.support.source_tree import PACKAGES, ROOT, Import, Source, _imports, sources

# package -> what of our own packages it may import. The longest matching prefix of an import decides.
ALLOWED: dict[str, tuple[str, ...]] = {
    "export": ("export",),
    "export.dataset": ("export.contracts", "export.dataset"),
    "monitoring.records": ("export.contracts", "monitoring.records"),
    "monitoring": ("export.contracts", "export.dataset", "monitoring"),
    "serving": ("export", "monitoring.records", "serving"),
    "deploy": ("export", "serving", "monitoring", "deploy"),
}

# Heavy or particular libraries -> the files that are about them. A trailing `/` allows a folder; `!` takes some of what
# is allowed back.
FENCES: dict[str, tuple[str, ...]] = {
    "torch": ("export/from_torch.py", "export/torch_", "export/dataset/for_torch.py", "export/training/",
              "serving/runtime/torch.py", "deploy/demo/network.py", "deploy/demo/learn.py",
              "deploy/demo/trainer.py"),
    "onnxruntime": ("export/onnx_runner.py", "serving/runtime/onnx"),
    "onnx": ("export/admission_", "export/converted.py", "export/from_onnx.py", "export/torch_write.py",
             "export/training/compare_weights.py", "serving/runtime/onnx_precision.py"),
    "ray": ("serving/deployment.py", "serving/ray_cluster.py", "serving/grpc/ray_lane.py", "deploy/rescore_ray.py",
            "export/training/tune_search.py",
            "deploy/jobs/ray_driver.py", "deploy/gate/ray_tasks.py"),
    "grpc": ("serving/grpc/aio.py", "serving/grpc/ingress.py", "deploy/loadtest/grpc_control.py",
             "deploy/demo/grpc_client.py"),
    "hpack": ("serving/grpc/heads.py", "deploy/loadtest/headers.py"),
    "grpc_tools": ("serving/grpc/compile.py",),
    "google": ("serving/grpc/",),
    "evidently": ("monitoring/report_worker.py",),
    "fastapi": ("serving/app.py", "serving/app_control.py", "monitoring/api/", "monitoring/console/pages"),
    "sqlalchemy": ("monitoring/", "!monitoring/api/", "!monitoring/console/",
                   "!monitoring/gate/contracts.py", "!monitoring/gate/decide.py", "!monitoring/gate/paired.py",
                   "!monitoring/gate/j", "!monitoring/gate/report/",
                   "!monitoring/triggers/", "!monitoring/tasks/", "!monitoring/records/",
                   "!monitoring/review/machine.py", "!monitoring/review/agreement.py"),
    "httpcore": ("monitoring/integrations/egress.py", "monitoring/integrations/network.py"),
    "botocore": ("export/storage/s3.py",),
    "urllib3": ("export/storage/s3.py",),
    "argon2": ("monitoring/people/passwords.py",),
    "PIL": ("export/contracts/imagepixels.py", "monitoring/images.py"),
    "alembic": ("monitoring/database.py", "monitoring/migrations/"),
    "sklearn": ("deploy/demo/digits.py", "export/reference_", "monitoring/slices/"),
    "skl2onnx": ("export/from_sklearn.py",),
    "onnxmltools": ("export/from_xgboost.py",),
    "xgboost": ("export/from_xgboost.py",),
    "keras": ("export/from_keras.py",),
    "wandb": ("export/training/wandb_logger.py",),
    "typer": ("deploy/cli/",),
    "grafana_foundation_sdk": ("deploy/observability/grafana.py",),
    "pydantic": ("deploy/settings", "monitoring/api/"),
}  # fmt: skip

# Importing these packages must not drag in anything heavy: replicas, children and the command start often.
LIGHT = ("export.contracts.manifest", "export.contracts.descriptors", "export.contracts.traffic",
         "monitoring.records.record", "serving.options",
         "deploy.cli", "deploy.settings_file")  # fmt: skip
HEAVY = (
    "PIL",
    "botocore",
    "torch",
    "onnxruntime",
    "onnx",
    "ray",
    "evidently",
    "sqlalchemy",
    "pandas",
    "sklearn",
    "scipy",
    "fastapi",
)


def _layer(module: str) -> str:
    return max((layer for layer in ALLOWED if module == layer or module.startswith(layer + ".")), key=len)


def _inside(name: str, fence: tuple[str, ...]) -> bool:
    outside = tuple(part[1:] for part in fence if part.startswith("!"))
    return name.startswith(tuple(part for part in fence if not part.startswith("!"))) and not name.startswith(outside)


def _breaches(source: Source, found: Import) -> str | None:
    top = found.module.split(".")[0]
    layer = _layer(source.name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    if top in PACKAGES:
        # Importing a package's own frozen records or protocols is what the prefixes are for.
        if not any(found.module == p or found.module.startswith(p + ".") for p in ALLOWED[layer]):
            return f"{source.name}:{found.line} ({layer}) imports {found.module}"
    elif top in FENCES and not _inside(source.name, FENCES[top]):
        return f"{source.name}:{found.line} imports {found.module}; only {', '.join(FENCES[top])} may"
    return None


def test_every_import_follows_the_layers_and_stays_within_the_fences():
    found = [b for source in sources() for i in source.imports() if (b := _breaches(source, i))]
    assert not found, "\n" + "\n".join(found)


def test_a_breach_is_found_and_named():
    tree = ast.parse("def f():\n    from deploy.settings import Settings\n    import torch.nn as nn\n")
    imports = list(_imports(tree, "monitoring/x.py", lazy=False, typing_only=False))
    source = Source(ROOT / "monitoring" / "x.py")
    assert [_breaches(source, i) for i in imports] == [
        "monitoring/x.py:2 (monitoring) imports deploy.settings.Settings",
        f"monitoring/x.py:3 imports torch.nn; only {', '.join(FENCES['torch'])} may",
    ]
    relative = list(_imports(ast.parse("from ..serving import pool"), "monitoring/x.py", lazy=False, typing_only=False))
    assert relative[0].module == "serving.pool"


def test_every_fence_still_has_somebody_behind_it():
    tops = {i.module.split(".")[0] for source in sources() for i in source.imports()}
    assert set(FENCES) <= tops, f"no file imports {sorted(set(FENCES) - tops)}: drop the fence"


def test_light_modules_import_without_the_heavy_libraries():
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}: importlib.import_module(name)\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_marked_as_typed_and_says_what_it_is(package: str):
    assert (ROOT / package / "py.typed").is_file()
    init = Source(ROOT / package / "__init__.py")
    assert ast.get_docstring(init.tree)
