"""Settings of the loop's own part: trainers, and when a model is trained again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from deploy.settings_base import Seconds, Section, Size
from deploy.settings_triggers import ModelTriggerSettings, TriggerSettings

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Hook = Annotated[str, Field(pattern=r"^(https?://[^\s@]+)?$")]


class TrainerSettings(Section):
    """A program that makes a package from a data set snapshot. Its contract: `docs/guides/training.md`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Names the trainer."""
    models: tuple[str, ...] = ()
    """Models that it trains. A model without a trainer is not trained; retraining is only suggested for it."""
    program: tuple[str, ...] = ()
    """The command and its arguments; the path of the request file is appended. `python` is the interpreter that
    Hardcase runs in. For `local` and `ray`."""
    working_folder: str = ""
    """Folder that the program starts in; empty: the job's output folder."""
    executor: Literal["local", "ray", "webhook"] = "local"
    """Where it runs: `local` on the monitor's machine, `ray` on a worker of the Ray cluster, `webhook` wherever the
    receiver of a signed event lets it run."""
    budget_s: Seconds = 3600.0
    """It is ended after so many seconds."""
    silence_s: Seconds = 600.0
    """... or when it has printed nothing for so many seconds."""
    memory_bytes: Size | Literal[0] = 0
    """... or when its processes take more memory than this; 0: no limit."""
    output_bytes: Size | Literal[0] = 20 << 30
    """... or when it has written more than this; 0: no limit."""
    grace_s: Seconds = 10.0
    """From asking it to end (SIGTERM) to killing it."""
    nice: int = Field(default=5, ge=0, le=19)
    """How much it steps back when processors are short: serving goes first."""
    restarts: int = Field(default=3, ge=0, le=100)
    """How often a training is begun again that was broken off from outside: machine or supervisor gone, `hardcase
    down`. One that fails by itself is not repeated."""
    environment: tuple[Variable, ...] = ()
    """Names of environment variables that the program gets from the monitor's. Others than PATH, HOME, the language
    and the time zone do not reach it."""
    cpus: float = Field(default=1.0, ge=0)
    """Processors that Ray sets aside. For `ray`."""
    gpus: float = Field(default=0.0, ge=0)
    """Accelerators that Ray sets aside. For `ray`."""
    address: str = ""
    """Of the Ray cluster; empty: the one that Hardcase serves on. For `ray`."""
    url: Hook = ""
    """Where the event goes. For `webhook`."""
    secret_file: str = ""
    """File that holds the secret by which events are signed, ours and those that come back: `whsec_` and at least 16
    bytes in base64. For `webhook`."""
    callback_url: Hook = ""
    """The console as the receiver reaches it; empty: the receiver is told only the path. For `webhook`."""

    @model_validator(mode="after")
    def _whole(self) -> TrainerSettings:
        if self.executor == "webhook":
            if not (self.url and self.secret_file):
                raise ValueError("a trainer with executor 'webhook' needs url and secret_file")
        elif not self.program:
            raise ValueError(f"a trainer with executor '{self.executor}' needs a program")
        return self


class RetrainSettings(Section):
    """How models are trained again."""

    trainers: tuple[TrainerSettings, ...] = ()
    """Programs that train. Nothing is trained, where nothing is said."""
    policy: TriggerSettings = TriggerSettings()
    """When models are trained again."""
    models: tuple[ModelTriggerSettings, ...] = ()
    """What is different for single models."""

    @model_validator(mode="after")
    def _apart(self) -> RetrainSettings:
        names = [trainer.name for trainer in self.trainers]
        if len(set(names)) != len(names):
            raise ValueError("two trainers have the same name")
        models = [model for trainer in self.trainers for model in trainer.models]
        twice = sorted({model for model in models if models.count(model) > 1})
        if twice:
            raise ValueError(f"two trainers are for the model '{twice[0]}'")
        return self
