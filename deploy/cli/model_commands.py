"""Commands about models: export, import, registry, deploy, rollback, traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.context import JsonFlag, author, console, invocation_of, print_json
from deploy.cli.registry_commands import (
    Author,
    Model,
    Reason,
    registry_app,
    show_package,
)
from deploy.cli.traffic_commands import roll_back, traffic_app

if TYPE_CHECKING:
    from export.package import Package

Preprocess = Annotated[
    Path | None,
    typer.Option("--preprocess", help="YAML or JSON: inputs that clients send as image files (docs/guides/images.md)."),
]


def register(app: typer.Typer) -> None:
    """Add the commands in the order in which the help shows them."""
    panel = "Models"
    app.command("export", rich_help_panel=panel)(export_command)
    app.command("import", rich_help_panel=panel)(import_command)
    app.add_typer(registry_app, name="registry", rich_help_panel=panel)
    app.command("deploy", rich_help_panel=panel)(deploy_command)
    app.command("rollback", rich_help_panel=panel)(rollback)
    app.add_typer(traffic_app, name="traffic", rich_help_panel=panel)


Samples = Annotated[
    Path | None,
    typer.Option(
        "--samples", help="Real rows: .npz with an array for each input, or .npy.", exists=True, dir_okay=False
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", help="Their labels: .npy, text with one a line, or .json with a list.", exists=True, dir_okay=False
    ),
]


def export_command(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(help="`package.module:function` or `file.py:function`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder in which the package folder is made.")] = Path(
        "packages"
    ),
    version: Annotated[
        str | None, typer.Option("--version", help="Use this version instead of the function's.")
    ] = None,
    preprocess: Preprocess = None,
    samples: Samples = None,
    labels: Labels = None,
    register_it: Annotated[bool, typer.Option("--register", help="Add the package to the registry as well.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn a trained model into a package, if the exported files compute what the model computes.

    The function returns the keyword arguments of `export.from_torch.export_module` as a dict; or, with the key
    `estimator`, a model of scikit-learn, XGBoost or Keras and the fields of `export.converted.ExportOptions`. --samples
    and --labels, held-out rows, take the place of its `reference_inputs` and `reference_labels`. When ONNX Runtime,
    TorchScript and the module part, nothing is written and the report says where they part (exit code 4).

    Example: hardcase export train.py:package --register
    """
    from deploy.packaging import export_target

    package = export_target(target, out, version, preprocess, samples=samples, labels=labels)
    _finish_package(ctx, package, register_it=register_it, as_json=as_json)


def import_command(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            help="A .onnx, TorchScript (.pt), XGBoost (.ubj, .json) or Keras (.keras) file.",
            exists=True,
            dir_okay=False,
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the model.")],
    version: Annotated[str, typer.Option("--version", help="Version of the model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder in which the package folder is made.")] = Path(
        "packages"
    ),
    roles: Annotated[
        list[str] | None,
        typer.Option(
            "--role", metavar="OUTPUT=ROLE", help="What an output means (docs/guides/tasks.md lists the roles)."
        ),
    ] = None,
    class_names: Annotated[str | None, typer.Option("--classes", help="Class names, separated by commas.")] = None,
    task: Annotated[
        Path | None,
        typer.Option(
            "--task",
            help="Task as JSON: multi-label thresholds, regression tolerance, box rules (docs/guides/tasks.md).",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", help="Signature as JSON; TorchScript files do not carry one.")
    ] = None,
    preprocess: Preprocess = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder of real image files: golden cases and parity of the encoded input."),
    ] = None,
    samples: Samples = None,
    labels: Labels = None,
    made_up: Annotated[
        bool, typer.Option("--made-up/--no-made-up", help="Make rows up for golden cases where there are no samples.")
    ] = True,
    register_it: Annotated[bool, typer.Option("--register", help="Add the package to the registry as well.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring an existing ONNX, TorchScript, XGBoost or Keras file in as a package.

    Real rows (--samples) become golden cases, and the file must answer them alike at every batch size; with --labels
    they become the reference profile, too. Without rows, random ones within the signature take their place: they show
    that every later load computes what the file computes now, and the package says that they were made up.

    Models of XGBoost and Keras become ONNX, and must answer --samples as their own library does (exit code 4).

    Example: hardcase import model.onnx --name digits --version 2 --role y=logits --register

    Example: hardcase import model.onnx --name cats --version 1 --preprocess preprocess.yaml --images photos/
    """
    from deploy.packaging import import_file

    package = import_file(
        file,
        out=out,
        name=name,
        version=version,
        roles=roles or [],
        class_names=tuple(c.strip() for c in class_names.split(",")) if class_names else (),
        task_file=task,
        signature=signature,
        preprocess=preprocess,
        images=images,
        samples=samples,
        labels=labels,
        made_up=made_up,
    )
    _finish_package(ctx, package, register_it=register_it, as_json=as_json)


def deploy_command(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(help="MODEL, MODEL@VERSION, or a package folder.")],
    by: Author = "",
    reason: Reason = "",
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds to wait until replicas answer with it.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Add a package if it is a folder, make the version champion, and wait until serving answers with it.

    When the version is refused (bad file, wrong golden answers, ...) the reason is shown, the exit code is 4, and the
    old champion goes on answering. Without a running serving it only changes the plan.

    Example: hardcase deploy packages/digits-2
    """
    from deploy.promotion import deploy_version

    invocation = invocation_of(ctx)
    done = deploy_version(invocation, what, author=by or author(), reason=reason, wait_s=wait_s)
    if as_json:
        print_json(done)
    else:
        console().print(done.text)


def rollback(
    ctx: typer.Context,
    model: Model,
    by: Author = "",
    reason: Reason = "",
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds to wait until all replicas have gone back.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Return to the champion before the present one, and wait until every replica answers with it.

    Without a running serving it only changes the plan, as `hardcase registry rollback` does.

    Example: hardcase rollback digits -m "errors on 2"
    """
    roll_back(ctx, model, by or author(), reason, wait_s, as_json=as_json)


def _finish_package(ctx: typer.Context, package: Package, *, register_it: bool, as_json: bool) -> None:
    what = "written"
    if register_it:
        from deploy.packaging import admit_and_add

        package, what = admit_and_add(invocation_of(ctx).registry, package.dir), "written and added to the registry"
    show_package(package, what, as_json=as_json)
