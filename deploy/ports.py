"""Ports that must be free before anything starts, and what to say when one is not."""

from __future__ import annotations

from dataclasses import dataclass

from deploy import processes
from deploy.errors import AlreadyRunning, CommandError


@dataclass(frozen=True, kw_only=True)
class PortNeed:
    """A port that must be free before anything starts, and the setting that moves it."""

    host: str
    port: int
    setting: str


def check_port(need: PortNeed) -> None:
    """Refuse a taken port with its owner's name and the setting that moves it.

    Raises:
        AlreadyRunning: it is taken.
        CommandError: the address is not one of this machine.
    """
    try:
        free = processes.port_is_free(need.host, need.port)
    except OSError as error:
        section = need.setting.rpartition(".")[0]
        raise CommandError(
            f"cannot listen on {need.host}:{need.port}: {error.strerror}", f"change {section}.host or {need.setting}"
        ) from None
    if not free:
        variable = "HARDCASE__" + need.setting.upper().replace(".", "__")
        raise AlreadyRunning(
            f"port {need.port} ({need.setting}) is taken by {processes.port_owner(need.port).describe()}",
            f"stop that process, or choose another port: {need.setting} in hardcase.yaml, or {variable}=PORT",
        )
