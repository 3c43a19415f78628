"""Every socket that our processes listen on: what it is for, who can reach it, and what to do about that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from deploy.doctor_data import Check, Verdict

FIREWALL = "keep the machine behind a firewall, or bind less: nobody is asked for a credential there"


@dataclass(frozen=True, kw_only=True)
class Listening:
    """One listening socket.

    Attributes:
        address: What it is bound to; "0.0.0.0" and "::" are every interface.
        port: TCP port.
        pid: Its process.
        name: The process's name or title: "haproxy", "gcs_server", "ray::ServeReplica:...".
        environment: Of the process, as far as it is about ports and access.
    """

    address: str
    port: int
    pid: int
    name: str
    environment: Mapping[str, str]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ip_address(self.address).is_loopback


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """What a socket is for.

    Attributes:
        text: For people.
        asks: What it asks for before it answers; "" when it answers anybody.
    """

    text: str
    asks: str = ""


def sockets_of(pids: Mapping[int, str]) -> list[Listening]:
    """The TCP sockets on which processes listen, by address.

    Args:
        pids: The processes and their names.
    """
    import psutil

    found = []
    for connection in psutil.net_connections("tcp"):
        pid = connection.pid
        if connection.status == psutil.CONN_LISTEN and connection.laddr and pid is not None and pid in pids:
            try:
                environment = psutil.Process(pid).environ()
            except psutil.Error:
                environment = {}
            kept = {k: v for k, v in environment.items() if k.startswith("RAY_") and "TOKEN" not in k}
            found.append(
                Listening(
                    address=connection.laddr.ip,
                    port=connection.laddr.port,
                    pid=pid,
                    name=pids[pid],
                    environment=kept,
                )
            )
    return sorted(set_of(found), key=lambda s: (s.port, s.address))


def set_of(found: Iterable[Listening]) -> list[Listening]:
    """Each address and port once: threads and forks share sockets."""
    return list({(s.address, s.port): s for s in found}.values())


def purpose_of(socket: Listening, declared: Mapping[int, Purpose]) -> Purpose:
    """What a socket is for, from our settings first, then from the process that has it.

    Args:
        socket: The socket.
        declared: Ports that settings and run state name.
    """
    if socket.port in declared:
        return declared[socket.port]
    variables = socket.environment

    def is_variable(name: str) -> bool:
        return variables.get(name) == str(socket.port)

    def within(kind: str) -> bool:
        low, high = (variables.get(f"RAY_SERVE_DIRECT_INGRESS_{end}_{kind}_PORT") for end in ("MIN", "MAX"))
        return bool(low and high and int(low) <= socket.port <= int(high))

    if socket.name == "haproxy":
        if is_variable("RAY_SERVE_HAPROXY_STATS_PORT"):
            return Purpose(text="HAProxy's statistics page")
        if is_variable("RAY_SERVE_HAPROXY_METRICS_PORT"):
            return Purpose(text="HAProxy's own metrics")
        return Purpose(text="HAProxy", asks="what the replicas ask for")
    if is_variable("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT") or is_variable("RAY_SERVE_FALLBACK_PROXY_GRPC_PORT"):
        return Purpose(text="Ray Serve's own proxy, behind HAProxy", asks="what the replicas ask for")
    if within("HTTP"):
        return Purpose(text="a replica's own HTTP server", asks="serving.auth.keys")
    if within("GRPC"):
        return Purpose(text="a replica's own gRPC server", asks="serving.auth.keys")
    guarded = "the cluster's token" if variables.get("RAY_AUTH_MODE") == "token" else ""
    if socket.name in ("gcs_server", "raylet"):
        return Purpose(text=f"control plane of the Ray cluster ({socket.name})", asks=guarded)
    if socket.name.startswith("ray::"):
        return Purpose(text=f"calls between Ray's processes ({socket.name[:40]})", asks=guarded)
    if socket.name.lower().startswith(("dashboard", "agent", "runtime_env", "python")) and variables:
        return Purpose(text=f"helper of the Ray cluster ({socket.name[:40]})", asks=guarded)
    return Purpose(text=f"nothing that we know of ({socket.name[:40]})")


def socket_checks(sockets: Iterable[Listening], declared: Mapping[int, Purpose]) -> Iterator[Check]:
    """One check a socket; beyond loopback without asking for anything is a warning."""
    for socket in sockets:
        purpose = purpose_of(socket, declared)
        reach = "loopback" if socket.is_loopback else "reachable from other machines"
        asks = f", asks for {purpose.asks}" if purpose.asks and not socket.is_loopback else ""
        name, detail = f"socket {socket.port}", f"{socket.address}, {reach}: {purpose.text}{asks}, pid {socket.pid}"
        if socket.is_loopback:
            yield Check(name=name, verdict=Verdict.OK, detail=detail)
        elif purpose.asks:
            yield Check(name=name, verdict=Verdict.NOTE, detail=detail)
        else:
            yield Check(name=name, verdict=Verdict.WARN, detail=detail, advice=FIREWALL)
