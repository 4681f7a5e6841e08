from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import termios
import threading
from typing import Any

import httpx
import pytest
from rich.console import Console

from ciba_adapters.cli import demo
from ciba_adapters.cli.demo import demonstrate
from ciba_adapters.cli.phone import Phone
from ciba_core.testing import Approve, Ignore, Reply, SimulatedClient, SimulatedProvider, VirtualClock

from .conftest import COMMAND, Terminal, World

DEMO = (*COMMAND, "demo")


def test_without_a_terminal() -> None:
    """The demo approves by itself after two polls, ends by itself, and writes no escape sequence."""
    ran = subprocess.run(
        DEMO, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=90
    )
    assert ran.returncode == 0
    assert "\x1b" not in ran.stdout + ran.stderr
    assert [line.split("  ")[-1] for line in ran.stderr.splitlines() if "  poll " in line] == [
        "poll 1",
        "poll 2",
        "poll 3",
    ]
    assert ran.stdout.startswith("✓ authenticated\n  user           248289761001 (alice@example.com)\n")


@pytest.mark.parametrize(
    ("keys", "status", "last"),
    [(b"a", 0, "authenticated"), (b"xd", 3, "denied"), (b"\x03", 130, "ciba: cancelled")],
    ids=["a", "d", "Ctrl-C"],
)
def test_in_a_terminal(keys: bytes, status: int, last: str) -> None:
    """The keys a and d decide, no other does; every way out brings the cursor back."""
    terminal = Terminal(*DEMO)
    terminal.read_until("acknowledged")
    terminal.press(keys)
    assert terminal.wait() == status
    assert last in terminal.output
    assert terminal.output.count("\x1b[?25l") == terminal.output.count("\x1b[?25h") == 1
    assert "waiting for the user" in terminal.output


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_terminal_is_restored(number: signal.Signals, status: int) -> None:
    """However the demo is ended, a line is a line again: echo and line mode are as they were."""
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    with subprocess.Popen(DEMO, stdin=follower, stdout=follower, stderr=follower) as process:
        try:
            output = b""
            while b"acknowledged" not in output:
                output += os.read(leader, 65536)
            assert not termios.tcgetattr(follower)[3] & termios.ICANON
            process.send_signal(number)
            assert process.wait(timeout=30) == status
        finally:
            process.kill()
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


def test_page_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page does in a browser: fetch it, list the requests, approve one; the demo ends with tokens."""
    monkeypatch.setattr(demo, "_INTERVAL", 1)
    progress = io.StringIO()
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(demonstrate(Console(file=progress), by_itself=False))
    )
    thread.start()
    while "acknowledged" not in progress.getvalue():
        assert thread.is_alive()
    (url,) = re.findall(r"the phone: (http://127\.0\.0\.1:\d+/)", progress.getvalue())
    (message,) = re.findall(r"binding message: (\w+)", progress.getvalue())
    with httpx.Client(base_url=url, trust_env=False) as browser:
        page = browser.get("/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        (token,) = re.findall(r'token = "([\w-]+)"', page.text)
        (request,) = browser.get("/phone/requests").json()
        assert (request["binding_message"], request["user"]) == (message, "alice@example.com")
        decision = {"id": request["id"], "decision": "approve"}
        assert browser.post("/phone/decision", json=decision).status_code == 403
        answer = browser.post("/phone/decision", json=decision, headers={"X-Phone-Token": token})
        assert answer.status_code == 204
    thread.join()
    assert results[0].outcome == "authenticated"


def _approve_at_once(*, after_polls: int, sub: str) -> Approve:
    return Approve(sub=sub)


def test_port(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--port` decides where the page is; one that is taken is one line and exit 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = world.run("demo", "--port", port)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"ciba: --port {port}: Address already in use")
    monkeypatch.setattr(demo, "_INTERVAL", 1)
    monkeypatch.setattr(demo, "Approve", _approve_at_once)
    ran = world.run("demo", "--port", port, "--allow-loopback-http")
    assert ran.status == 0
    assert f"the phone: http://127.0.0.1:{port}/" in ran.err


# --- the phone by itself ---------------------------------------------------------------------------------


HOST = "127.0.0.1:8000"


class Page:
    """The phone's page, asked without a network."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.provider = SimulatedProvider(
            self.clock,
            issuer=f"http://{HOST}",
            clients=[SimulatedClient("shop", "s")],
            users={"<b>al&ice": Ignore()},
        )
        self.told: list[bool] = []
        self.phone = Phone(self.provider, self.told.append)
        (self.token,) = re.findall(r'token = "([\w-]+)"', self.get("/").body.decode())

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        fields = {"Host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = self.phone.handle(method, path, fields.items(), body)
        assert isinstance(answer, Reply)
        return answer

    def get(self, path: str, host: str = HOST) -> Reply:
        return self.ask("GET", path, Host=host)

    def decide(self, content: object, token: str | None = None) -> int:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask("POST", "/phone/decision", body, X_Phone_Token=token or self.token).status

    def authenticate(self) -> None:
        body = b"scope=openid&login_hint=%3Cb%3Eal%26ice&binding_message=%3Cscript%3E&client_id=shop&client_secret=s"
        answer = self.ask("POST", "/bc-authorize", body, Content_Type="application/x-www-form-urlencoded")
        assert answer.status == 401  # the client is registered for client_secret_basic
        answer = self.ask(
            "POST",
            "/bc-authorize",
            body.partition(b"&client_id")[0],
            Content_Type="application/x-www-form-urlencoded",
            Authorization="Basic c2hvcDpz",
        )
        assert answer.status == 200


@pytest.fixture
def page() -> Page:
    return Page()


def test_texts_of_a_client_are_not_in_the_page(page: Page) -> None:
    """What a client wrote reaches the page as JSON, of a type that no browser renders."""
    page.authenticate()
    assert b"<script>" not in page.get("/").body
    listed = page.get("/phone/requests")
    assert (json.loads(listed.body)[0]["user"], dict(listed.headers)["Content-Type"]) == (
        "<b>al&ice",
        "application/json",
    )
    assert dict(listed.headers)["X-Content-Type-Options"] == "nosniff"
    assert page.provider.pending[0].auth_req_id not in listed.body.decode()


def test_page_allows_its_own_script_only(page: Page) -> None:
    """The content security policy names the page's one script and style, anew for each answer."""
    first, second = page.get("/"), page.get("/")
    policy = dict(first.headers)["Content-Security-Policy"]
    (nonce,) = re.findall(r"script-src 'nonce-([\w-]+)'", policy)
    assert f'<script nonce="{nonce}">'.encode() in first.body
    assert "default-src 'none'" in policy
    assert nonce.encode() not in second.body


@pytest.mark.parametrize("host", ["evil.example:8000", "127.0.0.1", "127.0.0.1:8001", ""])
@pytest.mark.parametrize("path", ["/", "/phone/requests", "/.well-known/openid-configuration"])
def test_other_hosts_are_turned_away(host: str, path: str, page: Page) -> None:
    """A page that rebinds its name to this machine gets nothing (DNS rebinding)."""
    assert page.get(path, host).status == 421


def test_localhost_is_the_same_host(page: Page) -> None:
    """The name localhost is as good as the address."""
    assert page.get("/", "LOCALHOST:8000").status == 200


def test_decisions(page: Page) -> None:
    """A decision needs the page's token, a known request and a known word, and counts once."""
    page.authenticate()
    (request,) = json.loads(page.get("/phone/requests").body)
    approve = {"id": request["id"], "decision": "approve"}
    assert page.decide(approve, token="guess") == 403
    assert page.decide(approve, token="gueß") == 403
    assert page.ask("POST", "/phone/decision", json.dumps(approve).encode()).status == 403
    bad: list[object] = [b"", b"[]", b'"x"', b"\xff", {}, {"id": request["id"]}, {**approve, "decision": []}]
    for content in bad:
        assert page.decide(content) == 400
    assert page.decide({**approve, "id": "other"}) == 404
    assert page.decide({**approve, "id": []}) == 404
    assert len(page.provider.pending) == 1
    assert page.decide({**approve, "decision": "deny"}) == 204
    (shown,) = json.loads(page.get("/phone/requests").body)
    assert shown == {**request, "state": "denied"}
    assert page.decide(approve) == 404
    assert page.told == [False]
    assert not page.phone.decide_oldest(approve=True)


def test_what_became_of_a_request(page: Page) -> None:
    """A request that was seen stays, with its end: decided here, decided elsewhere, or too late."""

    def states() -> list[str]:
        return [request["state"] for request in json.loads(page.get("/phone/requests").body)]

    assert states() == []
    for _ in range(3):
        page.authenticate()
    assert states() == ["pending"] * 3
    assert page.phone.decide_oldest(approve=True)
    page.provider.deny(page.provider.pending[0].auth_req_id)
    assert states() == ["approved", "elsewhere", "pending"]
    page.clock.sleep(page.provider.pending[0].expires - page.clock.time())
    assert states() == ["approved", "elsewhere", "expired"]


def test_methods(page: Page) -> None:
    """The page's own paths take the methods they are for."""
    for method, path in (("POST", "/"), ("DELETE", "/phone/requests"), ("GET", "/phone/decision")):
        assert page.ask(method, path).status == 405
    assert page.get("/?from=bookmark").status == 200
    assert page.get("/elsewhere").status == 404
