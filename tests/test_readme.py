"""The README tells the truth: its code runs, its diagram is the transition table, its names exist."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from attrs import evolve

import ciba_core.errors
import ciba_core.profiles
import ciba_core.states
from ciba_core import AuthenticationRequest, Begin, Input, Resumed, Step, Transaction, proceed, step
from ciba_core.errors import CibaError
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
    VirtualClock,
    check_driver,
)
from tests.readme import BLOCKS, README, SECRET, certificate, pass_at_once, run, served

BEGIN: Final = "<!-- states: written by tests/test_readme.py -->\n"
END: Final = "<!-- /states -->\n"
PRINTED: Final = {
    ("Five lines", 0): "alice openid Secret('***')",
    ("Show progress, store it, stop it", 0): "thank you",
    ("Show progress, store it, stop it", 1): "",
    ("Bring your own HTTP stack", 0): "TokenResponse",
    ("Keys", 0): "",
    ("Providers differ", 1): "",
    ("Test your own code", 0): "",
}
"""The blocks that need nothing but a provider, and what they print."""
CALLBACKS: Final = ("Ping and push", 0)
RECIPES: Final = {
    ("Providers differ", 0),
    ("A login that keeps its state", 0),
    ("A login that keeps its state", 1),
    *(("Recipes", number) for number in range(4)),
}
"""The blocks that run in `test_recipes`."""


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


def test_every_block_runs_somewhere() -> None:
    """There is no code in the README that no test runs."""
    assert BLOCKS.keys() == PRINTED.keys() | {CALLBACKS} | RECIPES


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """Make a certificate for localhost that every HTTP library trusts."""
    return certificate(monkeypatch, tmp_path)


@pytest.fixture
def op(monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> Iterator[str]:
    """Serve a simulated provider over TLS; waits pass at once."""
    pass_at_once(monkeypatch)
    with LoopbackServer(ssl_context=tls) as server:
        issuer = server.url.replace("127.0.0.1", "localhost")
        provider = SimulatedProvider(
            time,
            issuer=issuer,
            clients=[SimulatedClient("s6BhdRkqt3", SECRET)],
            users={"alice": Approve(after_polls=1)},
            interval=1,
            throttle_early_polls=False,
        )
        server.handler = provider.handle
        yield issuer


@pytest.mark.parametrize(("heading", "number"), PRINTED)
def test_code_runs(heading: str, number: int, op: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each block of Python runs as it stands, with the example's provider replaced by a real one."""
    named = "https://op.example" in BLOCKS[heading, number]
    run(heading, number, {"https://op.example": op} if named else {})
    printed = capsys.readouterr().out
    assert PRINTED[heading, number] in printed
    assert SECRET not in printed


def test_the_whole_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver of the README does all that the core relies on, over plain HTTP on loopback and in virtual time."""
    code = BLOCKS["Bring your own HTTP stack", 0].partition('client = ClientConfig("')[0]
    scope: dict[str, Any] = {}
    exec(compile(code, "README, the whole driver", "exec"), scope)
    tls = http.client.HTTPSConnection

    def drive(
        transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        scope["time"] = clock
        plain = transaction.provider.token_endpoint.startswith("http:")
        monkeypatch.setattr(http.client, "HTTPSConnection", http.client.HTTPConnection if plain else tls)
        taken = [transaction]

        def start(now: float) -> Step:
            return seen(step(transaction, Resumed() if request is None else Begin(request), now))

        def seen(current: Step) -> Step:
            taken.append(current.transaction)
            return current

        def observed(current: Step, happened: Input, now: float) -> Step:
            return seen(proceed(current, happened, now))

        scope["proceed"] = observed
        tokens = None
        with contextlib.suppress(CibaError):
            tokens = scope["drive"](start)
        assert tokens is taken[-1].tokens
        return taken[-1]

    check_driver(drive).raise_for_findings()


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
    called: list[str] = []

    def deliver(callback: Callback) -> int | Future[int | None] | None:
        return CallbackSender()(evolve(callback, url=called[0]))

    with RealClock() as clock, LoopbackServer(ssl_context=tls) as server:
        issuer = server.url.replace("127.0.0.1", "localhost")
        provider = SimulatedProvider(
            clock,
            issuer=issuer,
            clients=[
                SimulatedClient(
                    "s6BhdRkqt3",
                    SECRET,
                    backchannel_token_delivery_mode=mode,
                    backchannel_client_notification_endpoint="https://shop.example/ciba",
                )
            ],
            users={"alice": Approve(), "bob": Deny()},
            deliver=deliver,
        )
        server.handler = provider.handle
        scope = run(*CALLBACKS, {"https://op.example": issuer, 'mode="ping"': f'mode="{mode}"'})
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


def test_table_of_profiles() -> None:
    """The table has a row for every profile."""
    table = README.read_text("utf-8").partition("| profile |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == ciba_core.profiles.__all__


if __name__ == "__main__":
    head, _, rest = README.read_text("utf-8").partition(BEGIN)
    README.write_text(head + BEGIN + diagram() + END + rest.partition(END)[2], "utf-8")
