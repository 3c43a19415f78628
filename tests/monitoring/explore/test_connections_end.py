"""A console that stops leaves no connection to the service open."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.inference_options import InferenceOptions
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client
from tests.support.console_store import MemoryCatalogue, StillMonitor, fill, manifest
from tests.support.watching import until


def test_a_console_that_stops_ends_its_connections_to_the_service(tmp_path: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    class Service(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # which keeps connections

        def handle(self) -> None:
            begun.set()
            super().handle()
            ended.set()

        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    store = Store(f"sqlite:///{tmp_path / 'm.db'}")
    fill(store, windows=2, cases=3)
    reports = ReportService(ReportOptions(folder=tmp_path / "reports"), lambda request, most: None)  # type: ignore[arg-type,return-value]
    app = build_console(
        store, MemoryCatalogue(manifests=(manifest(),)), StillMonitor(), list, ConsoleOptions(), reports=reports,
        inference=InferenceOptions(url=f"http://127.0.0.1:{service.server_address[1]}"),
    )  # fmt: skip
    with client(app) as console:
        tried = {"inputs": [{"name": "x", "data": [0.0] * 64}]}
        console.post("/api/models/digits/try", json=tried)
        assert begun.is_set(), "positive control: the service was asked"
        assert not ended.is_set(), "the connection is kept while the console runs"
    until(ended.is_set, 10, "the console's connection to the service is still open")
    reports.close()
    store.close()
    service.shutdown()
    service.server_close()
    thread.join(10)
