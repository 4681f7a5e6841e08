"""The demonstration: a provider, a phone and a client, all in this process, over real HTTP."""

from __future__ import annotations

import contextlib
import secrets
from typing import Final

from rich.console import Console

from ciba_adapters.cli.display import Display
from ciba_adapters.cli.keys import has_keys, reading_keys
from ciba_adapters.cli.listening import Listening
from ciba_adapters.cli.login import authenticate
from ciba_adapters.cli.outcome import Result
from ciba_adapters.cli.phone import Phone
from ciba_adapters.cli.stacks import Job, Network
from ciba_adapters.cli.text import Unusable
from ciba_core import AuthenticationRequest, ClientConfig, ClientSecretBasic
from ciba_core.client.config import DeliveryMode
from ciba_core.testing import (
    Approve,
    CallbackSender,
    Ignore,
    LoopbackServer,
    RealClock,
    SimulatedClient,
    SimulatedProvider,
    User,
)

__all__ = ["LOGIN_HINT", "demonstrate"]

_CLIENT_ID: Final = "demo-shop"
LOGIN_HINT: Final = "alice@example.com"
"""The client's hint for the user of the demonstration."""
_SUBJECT: Final = "248289761001"
_EXPIRES_IN: Final = 120
# Short: a demonstration that decides by itself, at the third poll, takes about seven seconds.
_INTERVAL: Final = 2
# For ping and push mode, in which no client polls.
_DECIDES_AFTER: Final = 3.0
_ORDER: Final = {
    "type": "payment_initiation",
    "instructedAmount": {"currency": "EUR", "amount": "49.90"},
    "creditorName": "Demo Shop",
    "remittanceInformationUnstructured": "Order 1138",
}
"""The authorization details that the user is asked to approve (RFC 9396 2)."""
_HOW: Final[dict[DeliveryMode, str]] = {
    "poll": "poll: the client asks at each interval",
    "ping": "ping: the provider calls, then the client asks once",
    "push": "push: the provider calls, and brings the tokens",
}
_NEXT: Final[dict[DeliveryMode, str]] = {
    "poll": "the next poll will tell the client",
    "ping": "the provider pings the client",
    "push": "the provider tells the client",
}
_CALLBACKS: Final = "/ciba"
# No vowels, so that it spells no word; no 0, O, 1, I, so that people do not misread it.
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ23456789"


def demonstrate(console: Console, *, by_itself: bool, mode: DeliveryMode = "poll", port: int = 0) -> Result:
    """Run the demonstration.

    Args:
        console: where to show what happens.
        by_itself: whether the user approves after a while; otherwise the decision is taken by hand.
        mode: how the result comes to the client.
        port: the port of the provider and of the page; 0 for a free one.

    Raises:
        Unusable: the port is taken.

    """
    try:
        server = LoopbackServer(port=port)
    except OSError as error:
        raise Unusable(f"--port {port}: {error.strerror}") from None
    with server, RealClock() as clock, contextlib.ExitStack() as stack:
        secret = secrets.token_urlsafe(24)
        endpoint, callback_url = None, None
        if mode != "poll":
            listening = Listening("127.0.0.1", 0, _CALLBACKS)
            endpoint, callback_port = stack.enter_context(listening.open(lambda _event: None))
            callback_url = f"http://127.0.0.1:{callback_port}{_CALLBACKS}"
        registered = SimulatedClient(
            _CLIENT_ID,
            secret,
            backchannel_token_delivery_mode=mode,
            backchannel_client_notification_endpoint=callback_url,
        )
        provider = SimulatedProvider(
            clock,
            issuer=server.url,
            clients=[registered],
            users={LOGIN_HINT: _user(mode) if by_itself else Ignore(sub=_SUBJECT)},
            deliver=CallbackSender(),
            interval=_INTERVAL,
            expires_in=_EXPIRES_IN,
            entropy=secrets.token_bytes,
        )

        def decided(approved: bool) -> None:
            display.say(f"{'approved' if approved else 'denied'} on the phone; {_NEXT[mode]}", "cyan")

        phone = Phone(provider, decided)
        server.handler = phone.handle
        binding_message = "".join(secrets.choice(_LETTERS) for _ in range(4))
        job = Job(
            issuer=server.url,
            client=ClientConfig(
                _CLIENT_ID,
                ClientSecretBasic(secret),
                backchannel_token_delivery_mode=mode,
            ),
            request=AuthenticationRequest(
                scope="openid",
                login_hint=LOGIN_HINT,
                binding_message=binding_message,
                authorization_details=[_ORDER],
            ),
            # Use no proxy: it could not reach this machine's loopback address.
            network=Network(proxies=False, allow_loopback_http=True),
            endpoint=endpoint,
        )
        keys = not by_itself and has_keys()
        if by_itself:
            hint = "The user approves by itself, after a moment."
        else:
            hint = "a  approve     d  deny     Ctrl-C  stop" if keys else "Decide on the phone."
        display = Display(
            console,
            title="ciba demo",
            facts=[
                ("User", LOGIN_HINT),
                ("Asks for", "49.90 EUR to Demo Shop"),
                ("Binding message", binding_message),
                ("The phone", f"{server.url}/"),
                ("Mode", _HOW[mode]),
                ("Callbacks to", callback_url),
            ],
            hint=hint,
        )

        def pressed(key: str) -> None:
            if key in {"a", "d"}:
                phone.decide_oldest(approve=key == "a")

        with display, reading_keys(pressed) if keys else contextlib.nullcontext():
            return authenticate("httpx", job, display.show)


def _user(mode: DeliveryMode) -> User:
    if mode == "poll":
        return Approve(after_polls=2, sub=_SUBJECT)
    return Approve(after=_DECIDES_AFTER, sub=_SUBJECT)
