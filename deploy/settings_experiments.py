"""Settings of the experiment tracker: where MLflow is, what it is told, and whether it may give us models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from deploy.settings_base import Seconds, Section, Size

Url = Annotated[str, Field(pattern=r"^(https?://[^\s/@]+(/[^\s?#]*)?)?$")]


class ExperimentSettings(Section):
    """MLflow: trainings become runs, versions become registered models, and back (docs/guides/experiments.md)."""

    url: Url = ""
    """Its tracking server, as the monitor reaches it, such as `http://127.0.0.1:5000`; empty: there is none."""
    token_file: str = ""
    """File that holds a bearer token and nothing else."""
    username: str = ""
    """For MLflow's own sign-in (HTTP basic authentication); empty: nobody signs in."""
    password_file: str = ""
    """File that holds the password and nothing else."""
    experiment: str = Field(default="hardcase/{model}", min_length=1, max_length=200)
    """Experiment that runs go to; `{model}` becomes the model's name."""
    registered: str = Field(
        default="{model}", pattern=r"^[A-Za-z0-9_. {}-]*\{model\}[A-Za-z0-9_. {}-]*$", max_length=200
    )
    """Name of the registered model; `{model}` becomes the model's name."""
    upload_packages: bool = True
    """Packages are stored with their runs, so that others find the weights there."""
    file_bytes: Size = 512 << 20
    """Larger files are not sent, and models that are larger are not taken."""
    imports: bool = False
    """A version that somebody tags `hardcase: import` in MLflow is fetched, checked, gated and rolled out."""
    poll_s: Seconds = 30.0
    """Time between two looks at MLflow when nothing changed here."""

    @model_validator(mode="after")
    def _one_way_in(self) -> ExperimentSettings:
        if self.token_file and self.username:
            raise ValueError("token_file and username are two ways to sign in: choose one")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file belong together")
        return self
