"""What the keeper changes in Ray's configuration of HAProxy, and that a dying replica costs no request with it."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.processes import free_ports
from serving.haproxy_keeper import amended
from serving.ray_environment import make_haproxy_keeper

AS_RAY_WRITES_IT = """global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    option redispatch 1
    retry-on conn-failure empty-response
    retries 3
    errorfile 502 {folder}/500.http
    errorfile 503 {folder}/500.http
    errorfile 504 {folder}/500.http
    balance roundrobin
frontend http_frontend
    bind 127.0.0.1:{http}
    default_backend replicas
backend replicas
    http-reuse always
    server dying 127.0.0.1:{dying}
    server whole 127.0.0.1:{whole}
frontend grpc_frontend
    # gRPC requires HTTP/2
    bind 127.0.0.1:{grpc} proto h2
    default_backend replicas
"""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ERROR_PAGE = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def configuration(folder: Path, **ports: int) -> str:
    return AS_RAY_WRITES_IT.format(folder=folder, **{"http": 1, "grpc": 2, "dying": 3, "whole": 4, **ports})


class Replica:
    """Answers requests, or ends each connection once the request has arrived, as a process that is killed does."""

    def __init__(self, *, dies: bool) -> None:
        self.dies, self.asked = dies, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self.asked += data.startswith(b"POST")
                if self.dies:
                    return
                if data.endswith(b"body"):
                    connection.sendall(ANSWER)


@contextlib.contextmanager
def front_door(folder: Path, *, dying: Replica, whole: Replica, amend: bool) -> Iterator[int]:
    """HAProxy in front of both; its port."""
    http, grpc = free_ports(2)
    text = configuration(folder, http=http, grpc=grpc, dying=dying.port, whole=whole.port)
    (folder / "500.http").write_text(ERROR_PAGE, newline="")
    (folder / "haproxy.cfg").write_text(amended(text, 10.0) if amend else text)
    command = [haproxy(folder), "-db", "-f", str(folder / "haproxy.cfg")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", http), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield http
    finally:
        process.kill()
        process.wait()


def haproxy(folder: Path) -> str:
    """The real program, as the keeper's script names it."""
    program = make_haproxy_keeper(folder)
    assert program is not None
    return shlex.split(program.read_text().splitlines()[1])[5]


def ask(port: int) -> int:
    """One request, its head and its body in packets of their own, as Python's own client sends them; the status."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        time.sleep(0.05)
        connection.sendall(b"body")
        answer = connection.recv(65536)
        return int(answer.split()[1]) if answer else 0


def test_a_request_in_two_packets_survives_its_replica(tmp_path: Path) -> None:
    dying, whole = Replica(dies=True), Replica(dies=False)
    with front_door(tmp_path, dying=dying, whole=whole, amend=True) as port:
        assert [ask(port) for _ in range(6)] == [200] * 6
    assert dying.asked >= 2


def test_as_ray_configures_it_such_a_request_is_lost(tmp_path: Path) -> None:
    dying, whole = Replica(dies=True), Replica(dies=False)
    with front_door(tmp_path, dying=dying, whole=whole, amend=False) as port:
        assert {ask(port) for _ in range(6)} == {200, 500}
    assert dying.asked >= 2


def test_what_haproxy_refuses_itself_is_in_the_protocols_words_and_no_500(tmp_path: Path) -> None:
    dying, gone = Replica(dies=True), Replica(dies=True)
    with (
        front_door(tmp_path, dying=dying, whole=gone, amend=True) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
        answer = connection.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 502 ")
    assert '{"error":"the replica ended before it had answered"}' in answer


def test_only_messages_that_end_are_waited_for(tmp_path: Path) -> None:
    lines = amended(configuration(tmp_path), 2.5).splitlines()
    wait = "    http-request wait-for-body time 2500ms"
    unary = " if { path /inference.GRPCInferenceService/ModelInfer }"
    assert lines[lines.index("frontend http_frontend") + 2] == wait
    assert lines[lines.index("frontend grpc_frontend") + 3] == wait + unary
    assert sum("wait-for-body" in line for line in lines) == 2


def test_a_configuration_is_amended_once_and_a_foreign_one_never(tmp_path: Path) -> None:
    once = amended(configuration(tmp_path), 10.0)
    assert amended(once, 10.0) == once
    foreign = "defaults\n    mode http\nfrontend http_frontend\n    bind :80\n"
    assert amended(foreign, 10.0) == foreign


@pytest.mark.parametrize("amend", [False, True])
def test_haproxy_takes_it_without_an_alert(tmp_path: Path, amend: bool) -> None:
    text = configuration(tmp_path)
    (tmp_path / "500.http").write_text(ERROR_PAGE, newline="")
    (tmp_path / "haproxy.cfg").write_text(amended(text, 10.0) if amend else text)
    command = [haproxy(tmp_path), "-c", "-f", str(tmp_path / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "[ALERT]" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
