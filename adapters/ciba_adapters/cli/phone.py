"""The page that plays the user's phone: the requests that wait for a decision, and their outcomes."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from ciba_adapters.cli.details import readable
from ciba_adapters.cli.text import printable
from ciba_core import Secret
from ciba_core.testing import NoReply, PendingRequest, Reply, SimulatedProvider

__all__ = ["Phone"]

_End = Literal["approved", "denied", "expired", "elsewhere"]  # the last one: decided, and not by this phone

_LIST: Final = "/phone/requests"
_DECISION: Final = "/phone/decision"
_TOKEN_HEADER: Final = "x-phone-token"  # noqa: S105  # the name of a header
_COMMON: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)


class Phone:
    """Serves the page beside a simulated provider.

    Any page in the same browser, and any other user of the machine, can reach a loopback port. So requests
    with another host name (DNS rebinding) are turned away, and a decision needs a token that only the page
    has.

    Args:
        provider: the provider to decide at; all other requests are handed on to it.
        on_decision: called after each decision with whether it was an approval.

    """

    def __init__(
        self, provider: SimulatedProvider, on_decision: Callable[[bool], object] = lambda _approved: None
    ) -> None:
        self._provider = provider
        self._on_decision = on_decision
        port = urlsplit(provider.issuer).port
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._token = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._seen: dict[str, PendingRequest] = {}
        self._ends: dict[str, _End] = {}

    def handle(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        """Answer one request, as `ciba_core.testing.Handler`."""
        fields = [(name.lower(), value) for name, value in headers]
        hosts = [value for name, value in fields if name == "host"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return Reply(421, _COMMON)
        match method, target.partition("?")[0]:
            case "GET", "/":
                return self._page()
            case "GET", path if path == _LIST:
                return _json(self._list())
            case "POST", path if path == _DECISION:
                token = next((value for name, value in fields if name == _TOKEN_HEADER), "")
                if not hmac.compare_digest(token.encode(), self._token.encode()):
                    return Reply(403, _COMMON)
                return Reply(self._decide(body), _COMMON)
            case _, path if path in {"/", _LIST, _DECISION}:
                return Reply(405, _COMMON)
            case _:
                return self._provider.handle(method, target, fields, body)

    def decide_oldest(self, *, approve: bool) -> bool:
        """Decide the request that waits longest; return whether there was one."""
        return any(self._settle(request, approve=approve) for request in self._provider.pending[:1])

    def _page(self) -> Reply:
        nonce = secrets.token_urlsafe(16)
        page = resources.files(__package__ or "").joinpath("phone.html").read_text("utf-8")
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return Reply(
            200,
            (("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", policy), *_COMMON),
            # Both consist of letters, digits, "-" and "_"; texts of the client come as JSON later.
            page.replace("@nonce@", nonce).replace("@token@", self._token).encode(),
        )

    def _list(self) -> list[dict[str, Any]]:
        """Return all requests that the phone has seen, the oldest first, with their outcomes."""
        with self._lock:
            pending = {_handle(request): request for request in self._provider.pending}
            self._seen |= pending
            for handle, request in self._seen.items():
                if handle not in pending:
                    # Final: a request that was decided elsewhere does not expire later.
                    late = self._provider.now() >= request.expires
                    self._ends.setdefault(handle, "expired" if late else "elsewhere")
            return [self._shown(handle, request) for handle, request in self._seen.items()]

    def _shown(self, handle: str, request: PendingRequest) -> dict[str, Any]:
        return {
            "id": handle,
            "state": self._ends.get(handle, "pending"),
            "user": printable(request.hint),
            "client": printable(request.client_id),
            "binding_message": None
            if request.binding_message is None
            else printable(request.binding_message),
            "details": [
                {"title": detail.title, "rows": detail.rows}
                for detail in readable(request.authorization_details)
            ],
            "scope": printable(request.scope),
            "seconds_left": max(round(request.expires - self._provider.now()), 0),
        }

    def _decide(self, body: bytes) -> int:
        try:
            decision: Any = json.loads(body)
            wanted, answer = decision["id"], decision["decision"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return 400
        if answer not in ("approve", "deny"):  # a tuple: it may be of a type that has no hash
            return 400
        found = [request for request in self._provider.pending if _handle(request) == wanted]
        return 204 if any(self._settle(request, approve=answer == "approve") for request in found) else 404

    def _settle(self, request: PendingRequest, *, approve: bool) -> bool:
        decide = self._provider.approve if approve else self._provider.deny
        handle = _handle(request)
        with self._lock:  # no view may come between the decision and its note
            try:
                decide(request.auth_req_id)
            except LookupError:  # decided, or expired, a moment ago
                return False
            self._seen.setdefault(handle, request)
            self._ends[handle] = "approved" if approve else "denied"
        self._on_decision(approve)
        return True


def _handle(request: PendingRequest) -> str:
    # The identifier itself is the client's credential and must not be in the page.
    return Secret(request.auth_req_id).fingerprint()


def _json(content: object) -> Reply:
    return Reply(200, (("Content-Type", "application/json"), *_COMMON), json.dumps(content).encode())
