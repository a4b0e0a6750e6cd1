"""The shipped site file, in a real nginx: what it passes on, and that its own errors are problems like the API's."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

import stack.nginx
from stack.nginx import Nginx
from stack.ports import HOST, free_port

EXTENDED = stack.nginx.SITE.parent / "longhaul-extended.conf"
TASK = "/v1/workload/status/c7a00dff-6e01-8db8-85b2-2b25aa4ceb3e"


class Upstream(ThreadingHTTPServer):
    """An API that answers with what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, free_port()), Echo)
        self.silent_seconds = 0.0
        self.taken = threading.Semaphore(0)


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(cast("Upstream", self.server).silent_seconds)
        if self.path.endswith("?pieces"):
            self.send_pieces()
            return
        body = "\n".join([f"{self.command} {self.path}", *(f"{name}: {value}" for name, value in self.headers.items())])
        self.send_response(200)
        self.send_header("X-Request-ID", self.headers["X-Request-ID"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def send_pieces(self) -> None:
        """Send three events, each only when the one before it has been taken.

        Up to the end of the connection: what is chunked nginx passes on at once, also when it buffers.
        """
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(3):
            self.wfile.write(f"data: {number}\n\n".encode())
            assert cast("Upstream", self.server).taken.acquire(timeout=10)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def nginx(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """It waits one second for the API instead of ten."""
    directory = tmp_path_factory.mktemp("nginx")
    site = directory / "site.conf"
    shipped = stack.nginx.SITE.read_text()
    assert shipped.count("proxy_read_timeout 10s;") == 2
    site.write_text(shipped.replace("proxy_read_timeout 10s;", "proxy_read_timeout 1s;"))
    server = Nginx(directory / "run", free_port(), [upstream.server_port], die_with_parent=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack.nginx, "SITE", site)
        server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def deserted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """An nginx whose API is away."""
    server = Nginx(tmp_path_factory.mktemp("deserted"), free_port(), [free_port()], die_with_parent=True)
    server.start()
    yield server
    server.stop()


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["server"] == "nginx"  # and no version
    return problem


def test_a_callers_request_id_is_passed_on_and_comes_back(nginx: Nginx) -> None:
    given = "Abc-1.2_" + "x" * 120
    answer = httpx.get(nginx.url + TASK, headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given
    assert f"X-Request-ID: {given}" in answer.text.splitlines()


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ä", "a\tb", "a;b"])
def test_an_ill_formed_request_id_is_replaced(nginx: Nginx, given: str) -> None:
    answer = httpx.get(nginx.url + TASK, headers=[(b"X-Request-ID", given.encode())])
    made = answer.headers["x-request-id"]
    assert len(made) == 32
    assert answer.text.count("X-Request-ID") == 1
    assert f"X-Request-ID: {made}" in answer.text.splitlines()


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/healthz", "/v1//workload", "/v1/workload/", "/v1/%2e%2e/x?a=%20&b=/", "/v1/a%2Fb", "/V1/x"]
)
def test_a_path_reaches_the_api_as_it_was_sent(nginx: Nginx, path: str) -> None:
    with socket.create_connection((HOST, nginx.port)) as peer:
        peer.sendall(f"GET {path} HTTP/1.1\r\nHost: example.com:8443\r\nConnection: close\r\n\r\n".encode())
        answer = peer.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 200")
    assert f"GET {path}\r\n" in answer.replace("\n", "\r\n")
    assert "Host: example.com:8443" in answer
    assert "X-Forwarded-For: 127.0.0.1" in answer
    assert "X-Forwarded-Proto: http" in answer


@pytest.mark.parametrize("path", ["/v1/workload/ws", TASK.replace("status/", "") + "/ws"])
def test_a_websocket_handshake_is_passed_on(nginx: Nginx, path: str) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": "longhaul.v1, bearer.x"}
    sent = httpx.get(nginx.url + path, headers=upgrade).text.splitlines()
    assert "Upgrade: websocket" in sent
    assert "Connection: upgrade" in sent
    assert "Sec-WebSocket-Protocol: longhaul.v1, bearer.x" in sent


def test_another_upgrade_is_not_passed_on(nginx: Nginx) -> None:
    sent = httpx.get(nginx.url + TASK, headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}).text
    assert "Upgrade" not in sent
    assert "Connection" not in sent


@pytest.mark.parametrize("size", [65_536, 65_537, 80_000])
def test_a_body_that_the_api_is_to_judge_reaches_it(nginx: Nginx, size: int) -> None:
    assert httpx.post(f"{nginx.url}/v1/workload", content=b"x" * size).status_code == 200


def test_a_much_larger_body_is_a_problem(nginx: Nginx) -> None:
    answer = httpx.post(f"{nginx.url}/v1/workload", content=b"x" * 200_000, headers={"X-Request-ID": "mine"})
    problem = assert_problem(answer, 413, "payload-too-large")
    assert problem["instance"] == "/v1/workload"
    assert problem["request_id"] == "mine"


def test_headers_of_24_kilobytes_pass_and_of_40_are_a_problem(nginx: Nginx) -> None:
    assert httpx.get(nginx.url + TASK, headers={"Authorization": "Bearer " + "x" * 24_000}).status_code == 200
    answer = httpx.get(nginx.url + TASK, headers={"Authorization": "Bearer " + "x" * 40_000})
    assert_problem(answer, 431, "headers-too-large")


def test_an_api_that_is_away_is_a_problem(deserted: Nginx) -> None:
    answer = httpx.get(f"{deserted.url}{TASK}?x=1", headers={"X-Request-ID": "mine", "Accept": "text/html"})
    problem = assert_problem(answer, 502, "bad-gateway")
    assert problem["request_id"] == "mine"
    assert problem["instance"] == TASK


@pytest.fixture
def silent(upstream: Upstream) -> Iterator[None]:
    """The API takes twice as long as nginx waits for an ordinary request."""
    upstream.silent_seconds = 2.0
    yield
    upstream.silent_seconds = 0.0


@pytest.mark.usefixtures("silent")
def test_only_what_is_meant_to_wait_may_take_its_time(nginx: Nginx) -> None:
    """A submission may not; a long poll, an event stream and a WebSocket may."""
    task = f"{nginx.url}{TASK.replace('status/', '')}"
    patient = [nginx.url + TASK, f"{task}/events", f"{task}/ws", f"{nginx.url}/v1/workload/ws"]
    with ThreadPoolExecutor() as pool:
        *answers, late = pool.map(httpx.get, [*patient, f"{nginx.url}/v1/workload"])
    assert [answer.status_code for answer in answers] == [200] * len(patient)
    assert_problem(late, 504, "gateway-timeout")


def test_how_long_is_waited_is_what_the_contract_says() -> None:
    """What the tests here shorten; the longest polls of the API, 50 s and 290 s, end before these waits do."""
    site, profile = stack.nginx.SITE.read_text(), EXTENDED.read_text()
    waits = dict(re.findall(r"location (?:~ )?(\S+) \{[^}]*?proxy_read_timeout (\w+);", site + profile))
    assert waits == {
        "/v1/": "10s",
        "/v1/workload/status/": "60s",
        "^/v1/workload/[^/]+/events$": "60s",
        "^/v1/workload/([^/]+/)?ws$": "1h",
        "^/v1/workload/status/": "300s",
    }


def test_a_method_that_nothing_here_serves_is_a_problem(nginx: Nginx) -> None:
    answer = httpx.request("TRACE", nginx.url + TASK)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST, DELETE"


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/7.0\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: strange\r\n\r\n",
        b'GET /a"b\\c<d> HTTP/1.1\r\nHost: a b\r\n\r\n',
    ],
)
def test_what_is_not_http_is_a_problem(nginx: Nginx, sent: bytes) -> None:
    with socket.create_connection((HOST, nginx.port), timeout=5) as peer:
        peer.sendall(sent)
        answers = peer.makefile("rb")
        status = answers.readline()
        headers = dict(line.decode().rstrip().split(": ", 1) for line in iter(answers.readline, b"\r\n"))
        body = answers.read(int(headers["Content-Length"]))
    answer = httpx.Response(int(status.split()[1]), headers=headers, content=body)
    assert_problem(answer, 400, "malformed")


def test_the_pages_of_the_problems_are_not_to_be_asked_for(nginx: Nginx) -> None:
    assert_problem(httpx.get(f"{nginx.url}/.longhaul/bad-gateway"), 404, "not-found")


def test_query_strings_stay_out_of_the_access_log(nginx: Nginx, upstream: Upstream) -> None:
    httpx.get(f"{nginx.url}/v1/workload/ws?ticket=secret", headers={"X-Request-ID": "look-for-me"})
    log: Path = nginx.logs / "nginx-access.log"
    deadline = time.monotonic() + 5
    while "look-for-me" not in log.read_text():
        assert time.monotonic() < deadline
    assert "secret" not in log.read_text()
    assert '"GET /v1/workload/ws" 200' in log.read_text()


def test_a_ticket_stays_out_of_every_log_also_when_the_api_is_away(deserted: Nginx) -> None:
    for path in ("/v1/workload/ws", f"{TASK.replace('status/', '')}/ws", f"{TASK.replace('status/', '')}/events"):
        answer = httpx.get(f"{deserted.url}{path}?ticket=secret", headers={"X-Request-ID": "look-for-me"})
        assert_problem(answer, 502, "bad-gateway")
    log: Path = deserted.logs / "nginx-access.log"
    deadline = time.monotonic() + 10
    while log.read_text().count("look-for-me") < 3:
        assert time.monotonic() < deadline
    for written in deserted.logs.rglob("*.log"):
        assert "secret" not in written.read_text(), written


def test_events_pass_as_they_come(nginx: Nginx, upstream: Upstream) -> None:
    with httpx.stream("GET", f"{nginx.url}{TASK.replace('status/', '')}/events?pieces", timeout=10) as answer:
        pieces = answer.iter_raw()
        for number in range(3):
            assert next(pieces) == f"data: {number}\n\n".encode()
            upstream.taken.release()
        assert list(pieces) == []


@pytest.mark.usefixtures("silent")
def test_the_extended_profile_waits_longer(upstream: Upstream, tmp_path: Path) -> None:
    """Its 300 s, here 10, where the plain profile's 60 s are 1."""
    directory, site = tmp_path / "run", tmp_path / "site.conf"
    site.write_text(stack.nginx.SITE.read_text().replace("proxy_read_timeout 60s;", "proxy_read_timeout 1s;"))
    (directory / "longhaul").mkdir(parents=True)
    (directory / "longhaul" / "extended.conf").write_text(EXTENDED.read_text().replace("300s", "10s"))
    server = Nginx(directory, free_port(), [upstream.server_port], die_with_parent=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stack.nginx, "SITE", site)
            server.start()
        assert httpx.get(server.url + TASK, timeout=20).status_code == 200
    finally:
        server.stop()
