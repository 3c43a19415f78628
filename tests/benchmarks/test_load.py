"""wrk's report is read strictly."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import LoadFailed, parse_wrk, run_wrk

REPORT = """Running 8s test @ http://127.0.0.1:18101/infer
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.44ms  650.21us  15.32ms   91.20%
    Req/Sec    24.10k     1.04k   26.63k    57.50%
  Latency Distribution
     50%  943.00us
     75%    2.61ms
     90%    2.98ms
     99%    1.02s
  193144 requests in 8.01s, 25.31MB read
Requests/sec:  24143.12
Transfer/sec:      3.16MB
"""


def test_a_report_gives_rate_count_and_percentiles_in_microseconds() -> None:
    result = parse_wrk(REPORT)
    assert result.requests == 193_144
    assert result.duration_s == pytest.approx(8.01)
    assert result.requests_per_s == pytest.approx(24_143.12)
    assert result.latency_us == pytest.approx({50: 943.0, 75: 2610.0, 90: 2980.0, 99: 1_020_000.0})
    assert (result.socket_errors, result.bad_statuses) == (0, 0)


def test_errors_and_bad_statuses_are_counted() -> None:
    bad = REPORT.replace(
        "Requests/sec:",
        "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 17\nRequests/sec:",
    )
    result = parse_wrk(bad)
    assert (result.socket_errors, result.bad_statuses) == (4321, 17)


@pytest.mark.parametrize(
    "gone", ["  193144 requests in 8.01s, 25.31MB read\n", "Requests/sec:  24143.12\n", "     99%    1.02s\n"]
)
def test_a_report_that_misses_a_line_is_refused(gone: str) -> None:
    assert gone in REPORT
    with pytest.raises(LoadFailed, match="not complete"):
        parse_wrk(REPORT.replace(gone, ""))


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    handler = type("Handler", (_Answers,), {"status": getattr(request, "param", 200)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/infer"
        server.shutdown()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "post.lua"
    path.write_text('wrk.method = "POST"\nwrk.body = "x"\n')
    return path


needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@needs_wrk
def test_a_real_server_is_loaded(url: str, script: Path) -> None:
    result = run_wrk(url, script, connections=2, duration_s=0.1)
    assert result.requests > 0
    assert 0 < result.latency_us[50] <= result.latency_us[99]


@needs_wrk
@pytest.mark.parametrize("url", [503], indirect=True)
def test_a_server_that_refuses_requests_has_no_rate(url: str, script: Path) -> None:
    with pytest.raises(LoadFailed, match="bad statuses"):
        run_wrk(url, script, connections=2, duration_s=0.1)


@needs_wrk
def test_nobody_listening_has_no_rate(script: Path) -> None:
    with pytest.raises(LoadFailed):
        run_wrk("http://127.0.0.1:9/infer", script, connections=1, duration_s=0.1)
