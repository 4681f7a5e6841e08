"""The README tells the truth: its code runs, its diagram is the transition table, its names exist."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest
import trustme
import uvicorn
from attrs import evolve

import ciba_core.errors
import ciba_core.states
from ciba_adapters._drive import Cancellation
from ciba_core.states import TRANSITIONS
from ciba_core.testing import (
    Approve,
    Callback,
    CallbackSender,
    Deny,
    LoopbackServer,
    RealClock,
    SimulatedClient,
    SimulatedProvider,
)

README: Final = Path(__file__).parent.parent / "README.md"
BEGIN: Final = "<!-- states: written by tests/test_readme.py -->\n"
END: Final = "<!-- /states -->\n"
CODE: Final = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
BLOCKS: Final = [code for code in CODE if "FastAPI" not in code]
APPLICATIONS: Final = [code for code in CODE if "FastAPI" in code]
"""Those need a server, and a browser that asks it."""


def diagram() -> str:
    """Draw the transition table as a Mermaid state diagram."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (source, event), target in TRANSITIONS.items():
        arrows.setdefault((source.__name__, target.__name__), []).append(event.__name__)
    sources = {source.__name__ for source, _ in TRANSITIONS}
    ends = dict.fromkeys(name for _, name in arrows if name not in sources)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> New"]
    lines += [
        f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()
    ]
    lines += [f"    {name} --> [*]" for name in ends]
    return "\n".join([*lines, "```", ""])


def test_diagram_is_the_transition_table() -> None:
    """The diagram in the README is drawn from the table; run this module to draw it anew."""
    drawn = README.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert drawn == diagram()


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """Make a certificate for localhost that every HTTP library trusts."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    # The means of the HTTP libraries, for the sake of code that is printed without any set-up.
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # as trustme has it
    return context


@pytest.fixture
def op(monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> Iterator[str]:
    """Serve a simulated provider over TLS; waits pass at once."""

    async def anyio_sleep(_seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    def sleep(_seconds: float) -> None:
        pass

    def wait(_cancellation: Cancellation, _seconds: float, _until: object = None) -> None:
        pass

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(anyio, "sleep", anyio_sleep)
    monkeypatch.setattr(Cancellation, "wait", wait)
    with LoopbackServer(ssl_context=tls) as server:
        issuer = server.url.replace("127.0.0.1", "localhost")
        provider = SimulatedProvider(
            time,
            issuer=issuer,
            clients=[SimulatedClient("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw")],
            users={"alice": Approve(after_polls=1)},
            interval=1,
            throttle_early_polls=False,
        )
        server.handler = provider.handle
        yield issuer


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_runs(number: int, op: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each block of Python runs as it stands, with the example's provider replaced by a real one."""
    code = BLOCKS[number].replace("https://op.example", op)
    scope: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, f"README block {number}", "exec"), scope)  # our own text
    printed = capsys.readouterr().out
    expected = ["alice openid Secret('***')", "thank you", "", "TokenResponse", "", ""][number]
    assert expected in printed
    assert "7Fjfp0ZBr1KtDRbnfVdmIw" not in printed


@contextmanager
def served(app: Any) -> Generator[httpx.Client]:
    """Serve an ASGI application by uvicorn, and be its browser."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as browser:
            yield browser
    finally:
        server.should_exit = True
        thread.join()


def end_of(browser: httpx.Client, user: str) -> dict[str, str]:
    """Log a user in as the page of the example would: start, and ask until it is over."""
    login = browser.post("/logins", params={"user": user}).json()["login"]
    while (status := browser.get(f"/logins/{login}").json()) == {"status": "pending"}:
        pass
    answer: dict[str, str] = status
    return answer


@pytest.mark.parametrize("mode", ["ping", "push"])
def test_callbacks_of_the_web_application(mode: str, tls: ssl.SSLContext) -> None:
    """The example of ping and push runs under a real server, called back by a provider over real HTTP."""
    (code,) = (one for one in APPLICATIONS if "NotificationApp" in one)
    called: list[str] = []

    def deliver(callback: Callback) -> int | None:
        return CallbackSender()(evolve(callback, url=called[0]))

    with RealClock() as clock, LoopbackServer(ssl_context=tls) as server:
        issuer = server.url.replace("127.0.0.1", "localhost")
        provider = SimulatedProvider(
            clock,
            issuer=issuer,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    "7Fjfp0ZBr1KtDRbnfVdmIw",
                    backchannel_token_delivery_mode=mode,
                    backchannel_client_notification_endpoint="https://shop.example/ciba",
                )
            ],
            users={"alice": Approve(), "bob": Deny()},
            deliver=deliver,
        )
        server.handler = provider.handle
        scope: dict[str, Any] = {"__name__": "readme"}
        code = code.replace("https://op.example", issuer).replace('mode="ping"', f'mode="{mode}"')
        exec(compile(code, "README application", "exec"), scope)  # our own text
        with served(scope["app"]) as browser:
            called.append(str(browser.base_url.join("/ciba")))
            assert end_of(browser, "alice") == {"status": "authenticated", "user": "alice"}
            assert end_of(browser, "bob") == {"status": "denied"}
            assert browser.post("/logins", params={"user": "nobody"}).status_code == 502
            assert browser.get("/logins/unknown").status_code == 404
            assert browser.post("/ciba", json={}).status_code == 401
    callbacks = [entry.status for entry in provider.journal if entry.endpoint == "client_notification"]
    assert callbacks == [204, 204]


def test_names_exist() -> None:
    """Every state and exception that the table of outcomes names is there."""
    table = README.read_text("utf-8").partition("| state at the end |")[2].partition("\n\n")[0]
    names = set(re.findall(r"`([A-Z]\w+)`", table))
    known = {*ciba_core.states.__all__, *ciba_core.errors.__all__}
    assert names <= known
    ends = {cls.__name__ for cls in TRANSITIONS.values()} - {source.__name__ for source, _ in TRANSITIONS}
    assert ends <= names


if __name__ == "__main__":
    head, _, rest = README.read_text("utf-8").partition(BEGIN)
    README.write_text(head + BEGIN + diagram() + END + rest.partition(END)[2], "utf-8")
