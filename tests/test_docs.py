from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ciba_core import ClientConfig, ClientSecretBasic, ProviderMetadata
from ciba_core.testing import Approve, Deny, LoopbackServer, SimulatedClient, SimulatedProvider

DOCS = Path(__file__).parent.parent / "docs"


def test_tutorial(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the tutorial are one program, which prints what the page says."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = (DOCS / "tutorial" / "index.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    scope: dict[str, Any] = {}
    try:
        exec(compile(program, "tutorial", "exec"), scope)
    finally:
        scope["http"].close()
        scope["server"].close()
    first, second, *journal = capsys.readouterr().out.splitlines()
    assert (first, second) == ("alice", "Bob does not want to")
    assert journal == [
        "metadata served 200",
        "backchannel_authentication acknowledged 200",
        "token tokens 200",
        "jwks served 200",
        "backchannel_authentication acknowledged 200",
        "token access_denied 400",
    ]


def test_many(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the page on pools are one program, which prints what the page says."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    text = (DOCS / "howto" / "many.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    scope: dict[str, Any] = {}
    try:
        exec(compile(program, "many", "exec"), scope)
    finally:
        scope["server"].close()
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["100 users agreed", "1 request for the keys", "carol is left"]
    assert all(f"`{line}`" in text for line in printed)


def test_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The blocks of the page on workers are one program; the worker is stopped when all is done."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "howto" / "workers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    with LoopbackServer() as server:
        op = SimulatedProvider(
            time,
            issuer=server.url,
            clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
            users={"alice": Approve(), "bob": Deny()},
            interval=1,
        )
        server.handler = op.handle
        scope: dict[str, Any] = {
            "secret": "a secret of at least thirty-two octets",
            "client": ClientConfig("s6BhdRkqt3", ClientSecretBasic("gX1fBat3bV")),
            "provider": ProviderMetadata(
                issuer=server.url,
                token_endpoint=f"{server.url}/token",
                backchannel_authentication_endpoint=f"{server.url}/bc-authorize",
                jwks_uri=f"{server.url}/jwks",
                allow_loopback_http=True,
            ),
        }
        exec(compile(blocks[0], "workers", "exec"), scope)
        stopping = threading.Thread(target=_terminate_when_done, args=(scope["stores"],))
        stopping.start()
        exec(compile("\n".join(blocks[1:]), "workers", "exec"), scope)
        stopping.join()
    assert scope["health"].state == "stopped"
    assert scope["session"].user == (server.url, "alice")
    scope["release"]("bob")
    assert scope["stores"].transactions.pending() == ["bob"]


def _terminate_when_done(stores: Any) -> None:
    until = time.monotonic() + 30
    while stores.transactions.pending() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
