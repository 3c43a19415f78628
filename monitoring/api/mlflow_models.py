"""What the API asks and answers about MLflow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from monitoring.api.fields import Answer, Asked, Name, Time
from monitoring.integrations.mlflow.names import ImportState

RegisteredName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^/'\x00-\x1f]+$")]
Number = Annotated[str, StringConstraints(pattern="^[0-9]{1,16}$")]


class MlflowPull(Asked):
    """A registered version that shall be fetched, gated and rolled out."""

    name: RegisteredName = Field(description="Of the registered model in MLflow.")
    number: Number = Field(description="Of its version there.")
    model: Name | None = Field(None, description="Name of the model here; by default the one that is mirrored there.")


class MlflowImport(Answer):
    """A version from MLflow, and how far it came."""

    name: str
    number: str
    model: str
    state: ImportState
    version: str = Field(description="That it has here; empty before it was fetched.")
    training: str = Field(description="Its turn of the loop; empty before.")
    asked_by: str = Field(description="Who asked for it here; empty where a tag in MLflow did.")
    found_at: Time
    problem: str
    url: str = Field(description="Its page in MLflow.")


class MlflowVersion(Answer):
    """A version of ours in MLflow."""

    model: str
    version: str
    name: str
    number: str
    url: str
    run: str
    run_url: str


class MlflowStatus(Answer):
    """How the exchange with MLflow is doing."""

    url: str
    imports: bool = Field(description="Whether a tag in MLflow brings a version in (`experiments.imports`).")
    answers: bool | None = Field(description="Whether it answered when it was last called; null: it never was.")
    problem: str | None
    failing_since: Time | None
    answered_at: Time | None
    runs: int = Field(description="Trainings that have a run there.")
    versions: list[MlflowVersion]
    pulled: list[MlflowImport] = Field(description="The newest first.")
