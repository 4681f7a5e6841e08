"""The longer examples of the README, each against a provider that is set up as the real one is."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import evolve
from fastapi import Request
from joserfc.jwk import ECKey

from ciba_adapters.stores import SqliteStore
from ciba_core import ProviderMetadata
from ciba_core.errors import GrantDiffers, LocalProtocolError
from ciba_core.provider.fit import check_fit
from ciba_core.testing import (
    Approve,
    Deny,
    Ignore,
    LoopbackServer,
    Reply,
    SimulatedClient,
    SimulatedProvider,
)
from tests.readme import BLOCKS, SECRET, certificate, pass_at_once, run, served

FAST_FORWARD: Final = Path(__file__).parent / "fast_forward.py"
AUTH0: Final = "https://shop.eu.auth0.com"
STORE_SECRET: Final = "0123456789abcdef0123456789abcdef"
MakeProvider = Callable[[str], SimulatedProvider]


@pytest.fixture(autouse=True)
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """Make a certificate for localhost, and a directory and a secret for stores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORE_SECRET", STORE_SECRET)
    return certificate(monkeypatch, tmp_path)


@contextmanager
def at_work(
    make: MakeProvider, tls: ssl.SSLContext, **pages: Callable[[dict[str, str], bytes], object]
) -> Generator[tuple[SimulatedProvider, str]]:
    """Serve a provider, and beside it pages, by their first step in the path, that answer with JSON."""
    with LoopbackServer(ssl_context=tls) as server:
        origin = server.url.replace("127.0.0.1", "localhost")
        provider = make(origin)

        def handle(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> Any:
            page = pages.get(target.split("/")[1].replace("-", "_"))
            if page is None:
                return provider.handle(method, target, headers, body)
            answer = page({name.lower(): value for name, value in headers}, body)
            return Reply(200, (("Content-Type", "application/json"),), json.dumps(answer).encode())

        server.handler = handle
        yield provider, origin


def prompts(provider: SimulatedProvider) -> int:
    return sum(entry.outcome == "acknowledged" for entry in provider.journal)


def registered_key() -> dict[str, Any]:
    """Make the client's key, and return the set of public keys that it registers."""
    key = ECKey.generate_key("P-256", {"kid": "2026"})
    Path("key.pem").write_bytes(key.as_pem(private=True))
    return {"keys": [key.as_dict(private=False)]}


def test_profile_and_hints() -> None:
    """The request of the example is one that its profile lets through, and a longer expiry is not."""
    names = run("Providers differ", 0, {})
    provider = ProviderMetadata(
        issuer=f"{AUTH0}/",
        token_endpoint=f"{AUTH0}/oauth/token",
        backchannel_authentication_endpoint=f"{AUTH0}/bc-authorize",
        jwks_uri=f"{AUTH0}/.well-known/jwks.json",
    )
    check_fit(names["request"], names["client"], provider)
    with pytest.raises(LocalProtocolError, match="requested_expiry"):
        check_fit(names["attrs"].evolve(names["request"], requested_expiry=301), names["client"], provider)


def test_own_store() -> None:
    """The store of the example passes the published check, and keeps tenants apart."""
    store: Any = run("A login that keeps its state", 1, {})["TenantStore"]("sessions")
    store.save("key", "text", expected_revision=None, forget_at=None, store_options="acme")
    assert store.load("key", store_options="acme").text == "text"
    assert store.load("key", store_options="ajax") is None


def auth0(origin: str) -> SimulatedProvider:
    issuer = f"{origin}/"

    def hint(user: str) -> str:
        return f'{{"format":"iss_sub","iss":"{issuer}","sub":"{user}"}}'

    return SimulatedProvider(
        time,
        issuer=issuer,
        clients=[
            SimulatedClient("s6BhdRkqt3", SECRET, token_endpoint_auth_method="client_secret_post"),
        ],
        users={
            hint("auth0|alice"): Approve(after_polls=1, sub="auth0|alice"),
            hint("auth0|bob"): Deny(),
            hint("auth0|carol"): Deny(error="expired_token"),
            hint("auth0|dave"): Ignore(sub="auth0|dave"),
        },
        expires_in=300,
        throttle_early_polls=False,
        binding_message=r"[A-Za-z0-9+\-_.,:# ]{1,64}",
        authorization_details_types={"order"},
    )


def test_auth0_login_as_a_route(monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> None:
    """The web application runs under a real server; asked again, it prompts nobody again."""
    pass_at_once(monkeypatch)
    options: list[object] = []
    save = SqliteStore.save

    def watched(self: SqliteStore, *arguments: Any, store_options: Any, **rest: Any) -> str:
        options.append(store_options)
        return save(self, *arguments, store_options=store_options, **rest)

    handle = SimulatedProvider.handle

    def generous(self: SimulatedProvider, *request: Any) -> Any:
        reply: Any = handle(self, *request)
        return evolve(reply, body=re.sub(rb'"id": ?13\b', b'"id": 14', reply.body))

    monkeypatch.setattr(SqliteStore, "save", watched)
    monkeypatch.setattr(SimulatedProvider, "handle", generous)
    with at_work(auth0, tls) as (provider, origin):
        app = run("A login that keeps its state", 0, {AUTH0: origin})["app"]
        with served(app) as browser, ThreadPoolExecutor() as browsers:

            def put(user: str, order: int = 4711) -> tuple[int, Any]:
                answer = browser.put(f"/orders/{order}/approval", params={"user": user})
                return answer.status_code, answer.json().get("status")

            assert put("auth0|alice") == (200, "approved")
            assert put("auth0|alice") == (200, "approved")
            assert prompts(provider) == 1
            assert put("auth0|bob") == (200, "denied")
            assert put("auth0|carol") == (200, "expired")
            assert put("auth0|nobody") == (502, None)
            assert put('auth0|","sub":"alice') == (422, None)
            assert prompts(provider) == 3
            assert put("auth0|alice", 13) == (502, None)
            assert put("auth0|alice", 13) == (502, None)
            assert prompts(provider) == 4

            first = browsers.submit(put, "auth0|dave")
            while not provider.pending:
                assert not first.done()
            both = [first, browsers.submit(put, "auth0|dave")]
            (pending,) = provider.pending
            assert pending.binding_message == "Order 4711"
            provider.approve(pending.auth_req_id)
            assert [each.result() for each in both] == [(200, "approved")] * 2
            assert prompts(provider) == 5
    assert options
    assert all(isinstance(each, Request) for each in options)


def test_telco(
    monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator takes assertions for the called endpoint alone, and has the tokens by the first poll."""
    waits = pass_at_once(monkeypatch)
    jwks = registered_key()

    def operator(origin: str) -> SimulatedProvider:
        return SimulatedProvider(
            time,
            issuer=origin,
            clients=[SimulatedClient("fraud-check", token_endpoint_auth_method="private_key_jwt", jwks=jwks)],
            users={"tel:+34666666666": Approve()},
            interval=2,
            assertion_audiences=["called_endpoint"],
        )

    def sim_swap(headers: dict[str, str], body: bytes) -> object:
        assert headers["authorization"].startswith("Bearer ")
        return {"swapped": False}

    with at_work(operator, tls, sim_swap=sim_swap) as (provider, origin):
        run("Recipes", 0, {"https://operator.example": origin})
    assert capsys.readouterr().out == "swapped in the last ten days: False\n"
    assert [entry.outcome for entry in provider.journal if entry.endpoint == "token"] == ["tokens"]
    assert waits == [0.0]


@pytest.mark.parametrize(
    ("granted", "ending"), [("25.00", nullcontext()), ("99.00", pytest.raises(GrantDiffers))]
)
def test_bank(
    monkeypatch: pytest.MonkeyPatch,
    tls: ssl.SSLContext,
    capsys: pytest.CaptureFixture[str],
    granted: str,
    ending: AbstractContextManager[Any],
) -> None:
    """A bank that insists on all of FAPI-CIBA is content, and nothing but what was asked for is paid."""
    pass_at_once(monkeypatch)
    jwks = registered_key()
    shown: list[str | None] = []
    paid: list[bytes] = []

    def bank(origin: str) -> SimulatedProvider:
        return SimulatedProvider(
            time,
            issuer=origin,
            clients=[
                SimulatedClient(
                    "acme-payments",
                    token_endpoint_auth_method="private_key_jwt",
                    token_endpoint_auth_signing_alg="ES256",
                    backchannel_authentication_request_signing_alg="ES256",
                    id_token_signed_response_alg="PS256",
                    dpop_bound_access_tokens=True,
                    jwks=jwks,
                )
            ],
            users={"alice": Approve(after_polls=1)},
            throttle_early_polls=False,
            assertion_audiences=["issuer"],
            require_dpop_nonce=True,
            authorization_details_types={"payment_initiation"},
        )

    def payments(headers: dict[str, str], body: bytes) -> object:
        assert headers["authorization"].startswith("DPoP ")
        assert headers["dpop"].count(".") == 2
        assert json.loads(body)["creditorName"] == "ACME"
        paid.append(body)
        return {}

    handle = SimulatedProvider.handle

    def watched(self: SimulatedProvider, *request: Any) -> Any:
        shown.extend(pending.binding_message for pending in self.pending)
        reply: Any = handle(self, *request)
        return evolve(reply, body=reply.body.replace(b'"25.00"', b'"%s"' % granted.encode()))

    monkeypatch.setattr(SimulatedProvider, "handle", watched)
    with at_work(bank, tls, payments=payments) as (provider, origin), ending:
        run("Recipes", 1, {"https://bank.example": origin})
    printed = capsys.readouterr().out.splitlines()
    (code,) = set(shown)
    assert printed[0] == f"Approve the payment on your phone if it shows {code}."
    assert printed[1:] == ["paid"] * len(paid)
    assert len(paid) == (granted == "25.00")
    assert prompts(provider) == 1


def test_agent_that_exits_and_is_resumed(tls: ssl.SSLContext, tmp_path: Path) -> None:
    """Two real processes, with a database between them: the user is prompted once."""

    def op(origin: str) -> SimulatedProvider:
        return SimulatedProvider(
            time,
            issuer=origin,
            clients=[SimulatedClient("s6BhdRkqt3", SECRET)],
            users={"alice": Ignore()},
            expires_in=86400,
            throttle_early_polls=False,
        )

    def process(number: int) -> str:
        program = tmp_path / "agent.py"
        program.write_text(BLOCKS["Recipes", number].replace("https://op.example", origin), "utf-8")
        arguments = [sys.executable, "-W", "error", str(FAST_FORWARD), str(program)]
        return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60).stdout

    with at_work(op, tls) as (provider, origin):
        asked = process(2)
        (pending,) = provider.pending
        assert asked == (
            f"May I send the report? Your phone shows {pending.binding_message}.\n"
            "I shall go on when you have decided.\n"
        )
        assert pending.auth_req_id.encode() not in Path("agent.db").read_bytes()
        provider.approve(pending.auth_req_id)
        assert process(3) == "Sending it, as alice said.\n"
    assert prompts(provider) == 1
