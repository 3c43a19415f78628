"""What leaves the monitor: where it may go, how long it may take, what errors say."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from monitoring.integrations.addresses import refusal
from monitoring.integrations.egress import Egress, EgressFailed, EgressOptions, EgressRefused

Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


class Receiver:
    """A local server that keeps what it was sent and answers as it is told."""

    def __init__(self, reply: Reply) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                receiver.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                reply(self, body)

            do_GET = do_POST = do_PUT = handle_one  # names that the library calls

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}"


@contextmanager
def receiving(reply: Reply, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(reply)
    if context is not None:
        receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()


def ok(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    answer(handler, 200, b'{"fine": true}')


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def client(receiver: Receiver, **more: object) -> Egress:
    options = EgressOptions(allowed_hosts=(receiver.host,), **more)  # type: ignore[arg-type]
    return Egress(options=options, sleep=lambda s: None)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.1.2.3", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "198.18.0.1", "192.0.2.1",
    ],
)  # fmt: skip
def test_no_address_inside_is_called_without_being_named(address: str):
    assert refusal(address, named=False) is not None
    found = Egress(resolver=lambda host, port: [address])
    with pytest.raises(EgressRefused):
        found.send("GET", "http://innocent.example/")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
def test_public_addresses_may_be_called(address: str):
    assert refusal(address, named=False) is None


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "224.0.0.1"])
def test_link_local_and_nobodys_addresses_stay_closed_to_named_hosts_too(address: str):
    assert refusal(address, named=True) is not None


def test_one_private_address_among_public_ones_closes_the_host():
    with pytest.raises(EgressRefused, match="private"):
        Egress(resolver=lambda host, port: ["93.184.216.34", "10.0.0.1"]).check("https://mixed.example/")


def test_a_named_host_on_this_machine_is_called_and_another_port_of_it_is_not():
    with receiving(ok) as receiver:
        assert client(receiver).send("GET", receiver.url + "/x?y=1").json() == {"fine": True}
        assert receiver.seen[0][:2] == ("GET", "/x?y=1")
        assert receiver.seen[0][2]["host"] == receiver.host
        with pytest.raises(EgressRefused, match="private"):
            client(receiver).send("GET", f"http://127.0.0.1:{int(receiver.host.split(':')[1]) + 1}/")


def test_the_connection_goes_to_what_was_resolved_though_the_name_changes_its_mind():
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    with receiving(ok) as receiver:
        port = receiver.host.split(":")[1]
        name = f"rebinding.example:{port}"
        caller = Egress(options=EgressOptions(allowed_hosts=(name,)), resolver=lambda host, p: next(answers))
        assert caller.send("GET", f"http://{name}/").ok
        assert receiver.seen[0][2]["host"] == name
        with pytest.raises(EgressRefused):  # asked anew for the next call, and refused
            caller.send("GET", f"http://{name}/")


def test_a_redirect_is_an_answer_and_is_not_followed():
    with receiving(ok) as inner, receiving(lambda h, b: answer(h, 302, location=inner.url + "/secret")) as outer:
        caller = Egress(options=EgressOptions(allowed_hosts=(inner.host, outer.host)))
        found = caller.send("GET", outer.url)
        assert (found.status, found.ok, inner.seen) == (302, False, [])


def test_an_answer_that_drips_ends_at_the_total_limit():
    def drip(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        for _ in range(40):
            try:
                handler.wfile.write(b"x")
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    with receiving(drip) as receiver:
        started = time.monotonic()
        with pytest.raises(EgressFailed, match="in time"):
            client(receiver, total_s=0.3, attempts=1).send("GET", receiver.url)
        assert time.monotonic() - started < 1.5


def test_an_answer_over_the_limit_is_cut_off():
    with receiving(lambda h, b: answer(h, 200, b"x" * 5000)) as receiver:
        assert len(client(receiver, max_bytes=5000).send("GET", receiver.url).body) == 5000
        with pytest.raises(EgressFailed, match="longer than 4999"):
            client(receiver, max_bytes=4999, attempts=1).send("GET", receiver.url)


def test_what_can_be_repeated_is_and_the_pauses_grow():
    def flaky(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        answer(handler, 200 if len(handler.server.told) == 3 else 503)  # type: ignore[attr-defined]

    with receiving(flaky) as receiver:
        receiver.server.told = receiver.seen  # type: ignore[attr-defined]
        pauses: list[float] = []
        caller = Egress(
            options=EgressOptions(allowed_hosts=(receiver.host,), pause_s=1.0), sleep=pauses.append, draw=lambda: 0.5
        )
        assert caller.send("GET", receiver.url).status == 200
        assert (len(receiver.seen), pauses) == (3, [1.0, 2.0])


def test_what_cannot_be_repeated_is_sent_once_when_the_connection_breaks():
    def hang_up(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)

    with receiving(hang_up) as receiver:
        with pytest.raises(EgressFailed):
            client(receiver).send("POST", receiver.url, body=b"pay")
        assert len(receiver.seen) == 1
        with pytest.raises(EgressFailed):
            client(receiver).send("POST", receiver.url, body=b"pay", idempotent=True)
        assert len(receiver.seen) == 4


def test_what_was_never_sent_is_tried_again_whatever_it_is():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    pauses: list[float] = []
    caller = Egress(options=EgressOptions(allowed_hosts=(f"127.0.0.1:{port}",)), sleep=pauses.append)
    with pytest.raises(EgressFailed, match="no connection"):
        caller.send("POST", f"http://127.0.0.1:{port}/", body=b"x")
    assert len(pauses) == 2


def test_errors_hold_neither_address_nor_secret():
    secret = "https://hooks.internal.example/T000/B000/s3cr3t"
    for resolver in (lambda h, p: ["10.0.0.1"], lambda h, p: []):
        with pytest.raises((EgressRefused, EgressFailed)) as caught:
            Egress(options=EgressOptions(pause_s=0.0), resolver=resolver).send(
                "POST", secret, headers={"authorization": "Token s3cr3t"}
            )
        assert all(word not in str(caught.value) for word in ("s3cr3t", "hooks", "10.0.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "gopher://x.example/", "ftp://x.example/", "http://", "http:///x", "//x.example/",
        "http://user:word@x.example/", "http://x.example:99999/", "http://x.example/a b", "http://x.example/\r\nX: y",
        "http://[::1", "http://x.example/é",
    ],
)  # fmt: skip
def test_what_is_no_plain_http_address_is_refused(url: str):
    with pytest.raises(EgressRefused):
        Egress(resolver=lambda host, port: ["93.184.216.34"]).check(url)


def test_a_header_cannot_smuggle_another():
    with receiving(ok) as receiver, pytest.raises(EgressRefused):
        client(receiver).send("GET", receiver.url, headers={"x-a": "b\r\nx-c: d"})


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-subj", "/CN=localhost", "-days", "2", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with receiving(ok, context) as receiver:
        with pytest.raises(EgressFailed):
            client(receiver, attempts=1).send("GET", f"https://{receiver.host}/")
        assert receiver.seen == []
