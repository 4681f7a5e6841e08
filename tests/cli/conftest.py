from __future__ import annotations

import gc
import json
import os
import pty
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from ciba_adapters.cli import main
from ciba_core.testing import (
    Answer,
    Approve,
    Deny,
    Handler,
    Ignore,
    LoopbackServer,
    Refuse,
    Reply,
    SimulatedClient,
    SimulatedProvider,
)

SECRET = "gX1f Bat3bV&%"
COMMAND = (sys.executable, "-W", "error", "-m", "ciba_adapters.cli")


@frozen
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        value: dict[str, Any] = json.loads(self.out)
        return value


@frozen
class World:
    """A provider in real time behind a real port, a client file for it, and the command line."""

    provider: SimulatedProvider
    client: str
    capture: pytest.CaptureFixture[str] = field(repr=False)

    def run(self, *arguments: str) -> Ran:
        status = main(arguments)
        captured = self.capture.readouterr()
        return Ran(status, captured.out, captured.err)

    def login(self, hint: str, *arguments: str, issuer: str | None = None, client: str | None = None) -> Ran:
        """Log a user in, asking at once whether there are tokens."""
        return self.run(
            "login",
            *("--issuer", issuer or self.provider.issuer, "--client", client or self.client),
            *("--login-hint", hint, "--allow-loopback-http", "--first-poll-after", "0"),
            *arguments,
        )

    def token_error(self, error: str, description: str = "because") -> None:
        """Let the next poll meet an error."""
        content = json.dumps({"error": error, "error_description": description}).encode()
        self.provider.inject("token", Answer(400, content, (("Content-Type", "application/json"),)))


class Terminal:
    """A program in a pseudo-terminal of its own."""

    def __init__(self, *program: str, columns: int = 80) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLUMNS=str(columns), LINES="24")
            os.execv(program[0], program)
        self.output = ""

    def read_until(self, text: str) -> None:
        while text not in self.output:
            self.output += os.read(self.terminal, 65536).decode()

    def press(self, key: bytes) -> None:
        os.write(self.terminal, key)

    def wait(self) -> int:
        try:
            while octets := os.read(self.terminal, 65536):
                self.output += octets.decode()
        except OSError:  # how Linux tells the end
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither proxies nor wishes about colours of the environment; what a test left open is its failure."""
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name in {"FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    yield
    gc.collect()


@pytest.fixture
def client_file(tmp_path: Path) -> str:
    """A client file in the terms of OpenID Connect registration."""
    path = tmp_path / "client.json"
    path.write_text(
        json.dumps(
            {
                "client_id": "s6BhdRkqt3",
                "client_secret": SECRET,
                "backchannel_token_delivery_mode": "poll",
                "client_name": "of no use here",
                "redirect_uris": [],
            }
        )
    )
    return str(path)


def always(reply: Reply) -> Handler:
    """Return a server that answers everything alike."""

    def handle(_method: str, _target: str, _headers: Iterable[tuple[str, str]], _body: bytes) -> Reply:
        return reply

    return handle


def simulated_provider(issuer: str) -> SimulatedProvider:
    return SimulatedProvider(
        time,
        issuer=issuer,
        clients=[SimulatedClient("s6BhdRkqt3", SECRET)],
        users={
            "alice": Approve(),
            "coded": Approve(user_code="4711"),
            "dora": Deny(),
            "ian": Ignore(),
            "rick": Refuse(),
        },
        interval=1,
    )


@pytest.fixture
def world(client_file: str, capsys: pytest.CaptureFixture[str]) -> Generator[World]:
    """A world over plain HTTP."""
    with LoopbackServer() as server:
        provider = simulated_provider(server.url)
        server.handler = provider.handle
        yield World(provider, client_file, capsys)
