"""`tarmac load-test`: what callers saw is counted right, late answers too, and what is wrong is said."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarmac.ship.loading import Histogram, run


class Slow(BaseHTTPRequestHandler):
    """Answers in 20 ms; every tenth request with an error; one stands still for half a second."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        Slow.asked += 1
        number = Slow.asked
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.5 if self.path == "/stop" and number == 20 else 0.002)
        self.send_response(500 if self.path == "/fails" and number % 10 == 0 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Slow.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_failures_are_counted_apart(url: str) -> None:
    report = run(f"{url}/fails", [b"{}"], callers=2, seconds=1.0)
    assert report.failed == report.failures["status 500"] > 0
    assert abs(report.failed / (report.answers + report.failed) - 0.1) < 0.05
    assert report.p50_ms >= 2


def test_with_a_rate_everybody_who_had_to_wait_counts(url: str) -> None:
    """One stop of half a second, one caller, 100 requests a second: dozens were late, not one."""
    report = run(f"{url}/stop", [b"{}"], callers=1, seconds=2.0, rate=100)
    late = sum(bucket.answers for bucket in report.histogram if bucket.up_to_ms > 80)
    assert late >= 20
    assert report.max_ms >= 400


@given(st.lists(st.floats(1e-5, 100), min_size=1, max_size=200), st.floats(0.01, 1))
def test_quantiles_are_never_better_than_they_were(times: list[float], share: float) -> None:
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    exact = sorted(times)[min(len(times) - 1, int(share * len(times)))]
    below = sorted(times)[max(0, int(share * len(times)) - 1)]
    found = histogram.quantile(share)
    assert found >= below * 0.999
    assert found <= exact * 1.2
    assert sum(count for _, count in histogram.octaves()) == len(times)


def tarmac(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tarmac", "load-test", *words], capture_output=True, text=True, timeout=60
    )


def test_on_the_command_line(url: str) -> None:
    body = ["--body", __file__]
    done = tarmac(f"{url}/any", "--seconds", "0.5", "--json", *body)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answers"] > 0
    assert tarmac(f"{url}/any", "--seconds", "0.5", "--p99", "0.001", *body).returncode == 1
    assert "nothing says what to send" in tarmac(f"{url}/any").stderr
    assert "only http://" in tarmac("https://localhost/any", *body).stderr
    assert "does not answer" in tarmac("http://127.0.0.1:9/any", "--seconds", "0.5", *body).stderr
