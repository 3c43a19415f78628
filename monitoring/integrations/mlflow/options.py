"""Settings of the experiment tracker. Nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentOptions:
    """One MLflow tracking server with its model registry.

    Attributes:
        url: Where it answers, as the monitor reaches it; empty: there is none.
        token_file: File that holds a bearer token; read at every call, so that it may be exchanged meanwhile.
        username: For HTTP basic authentication, as MLflow's own asks for it; empty: nobody signs in.
        password_file: File that holds the password.
        experiment: Name of the experiment that runs go to; `{model}` becomes the model's name.
        registered: Name of the registered model, likewise.
        upload_packages: Whether packages are stored with their runs, so that others can fetch them there.
        file_bytes: Larger files are left out, in both directions.
        imports: Whether versions tagged `hardcase: import` are fetched, gated and rolled out.
        poll_s: Time between two looks at what is registered, and at whether the aliases are right.
    """

    url: str = ""
    token_file: str = ""
    username: str = ""
    password_file: str = ""
    experiment: str = "hardcase/{model}"
    registered: str = "{model}"
    upload_packages: bool = True
    file_bytes: int = 512 << 20
    imports: bool = False
    poll_s: float = 30.0

    def experiment_of(self, model: str) -> str:
        """The experiment of a model."""
        return self.experiment.replace("{model}", model)

    def name_of(self, model: str) -> str:
        """The registered model of a model."""
        return self.registered.replace("{model}", model)
