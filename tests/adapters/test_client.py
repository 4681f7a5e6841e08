"""Clients over an HTTP stack of one's own, as the documentation has it."""

from __future__ import annotations

import http.client
import re
import ssl
import textwrap
import threading
from typing import Any, Final

import pytest
from attrs import evolve

import ciba_adapters.client
from ciba_adapters.client import AsyncClient, Cancellation, SyncClient
from ciba_core import (
    AuthenticationRequest,
    HttpRequest,
    HttpResponse,
    PollingPolicy,
    Transaction,
)
from ciba_core.errors import AuthenticationCancelled
from ciba_core.testing import (
    SCENARIOS,
    Approve,
    LoopbackServer,
    RealClock,
    SimulatedClient,
    SimulatedProvider,
    VirtualClock,
    check_driver,
)

from .inprocess import CLIENT, PROVIDER, SyncCiba
from .server import PATIENCE
from .stacks import Session

REQUEST: Final = AuthenticationRequest(scope="openid", login_hint="alice")


def example() -> str:
    """The code in the docstring."""
    assert ciba_adapters.client.__doc__ is not None
    found = re.search(
        r"A complete one, .*?::\n\n(.*?)\n\nThe client", ciba_adapters.client.__doc__, re.DOTALL
    )
    assert found is not None
    return textwrap.dedent(found[1])


def test_example_of_the_documentation(
    monkeypatch: pytest.MonkeyPatch, trusting: Session, loopback_tls: ssl.SSLContext
) -> None:
    """The example gets tokens over TLS, as it stands but for its issuer."""
    assert trusting.ca_file is not None
    monkeypatch.setenv("SSL_CERT_FILE", trusting.ca_file)
    polling = PollingPolicy(first_poll_after=0)
    with LoopbackServer(ssl_context=loopback_tls) as server, RealClock() as clock:
        op = SimulatedProvider(
            clock,
            issuer=server.url,
            clients=[SimulatedClient("s6BhdRkqt3", "gX1fBat3bV")],
            users={"alice": Approve()},
        )
        server.handler = op.handle
        names: dict[str, Any] = {"client": evolve(CLIENT, polling=polling), "request": REQUEST}
        exec(example().replace("https://op.example", server.url), names)
    assert names["tokens"].id_token_claims["sub"] == "alice"


def test_example_is_a_good_driver() -> None:
    """HTTP-01, HTTP-05: its transport keeps all that the core relies on, whatever the network does."""
    names: dict[str, Any] = {}
    exec(example().partition("ciba = ")[0], names)

    def drive(
        transaction: Transaction, request: AuthenticationRequest | None, clock: VirtualClock
    ) -> Transaction:
        tls = transaction.provider.token_endpoint.startswith("https:")
        ciba = names["CibaClient"](
            transaction.provider,
            transaction.client,
            http=http.client.HTTPSConnection if tls else http.client.HTTPConnection,
            clock=clock,
        )
        *_, last = ciba.steps(request or transaction)
        found: Transaction = last.transaction
        return found

    report = check_driver(drive)
    report.raise_for_findings()
    assert report.scenarios == tuple(SCENARIOS)


def test_cancelling_a_transport_that_knows_nothing_of_it() -> None:
    """The call ends at once; what its transport has under way ends by itself, and counts for nothing."""
    cancellation, let_go = Cancellation(), threading.Event()

    class Slow:
        def send(self, request: HttpRequest) -> HttpResponse:
            cancellation.cancel()
            assert let_go.wait(PATIENCE)
            return HttpResponse(500, (), b"")

    with pytest.raises(AuthenticationCancelled):
        SyncCiba(PROVIDER, CLIENT, http=Slow()).authenticate(REQUEST, cancellation=cancellation)
    let_go.set()
    for thread in threading.enumerate():
        if thread.name == "ciba request":
            thread.join(PATIENCE)


@pytest.mark.parametrize("client", [SyncClient, AsyncClient])
def test_a_client_needs_its_transport(client: type[Any]) -> None:
    """A client that does not say how it sends cannot be made."""
    with pytest.raises(TypeError, match="make_transport"):
        client(PROVIDER, CLIENT, http=None)
