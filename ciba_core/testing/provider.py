"""A simulated OpenID provider for CIBA in poll mode: in process, deterministic, strict.

It is written from CIBA Core 1.0 and shares no encoding and no checking code with the client side of this
package. All time is that of the clock it is given; nothing is sent and nothing is waited for.
"""

from __future__ import annotations

import base64
import email.utils
import functools
import hashlib
import json
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, assert_never

from attrs import define, field, frozen

from ciba_core.http import HttpRequest, HttpResponse

from .checks import Form, Refusal, authenticate, read_acr, read_authorization_details, read_form, read_scope
from .clock import Clock
from .script import (
    AUTHENTICATION_METHODS,
    CIBA_GRANT,
    Answer,
    Approve,
    Busy,
    Delay,
    Deny,
    DropAfter,
    DropBefore,
    Fault,
    Ignore,
    Refuse,
    SimulatedClient,
    SlowDown,
    Truncate,
    User,
)
from .wire import Headers, NoReply, Reply

if TYPE_CHECKING:
    from joserfc.jwk import RSAKey

__all__ = ["AnswerDropped", "Endpoint", "JournalEntry", "PendingRequest", "SimulatedProvider"]

Endpoint = Literal["metadata", "backchannel_authentication", "token", "jwks", "unknown"]
"""What a request was for; ``"unknown"`` when nothing is at its path."""

_DEFAULT_INTERVAL: Final = 5  # CIBA Core 7.3: without an interval the client waits 5 seconds
_SLOW_DOWN_STEP: Final = 5  # CIBA Core 11
_TOKEN_LIFETIME: Final = 3600
_ID_TOKEN_LIFETIME: Final = 300

# POSIX instants of today have a resolution of 2.4e-7 s as floats, so that a client which waits for exactly
# one interval can seem to come a little early.
_GRANULARITY: Final = 0.001

# While a poll is held, the record is looked at this often, since another thread may decide it.
_HOLD_SLICE: Final = 0.25

_ISSUER: Final = re.compile(r"https?://[^/?#\s]+(?:/[^?#\s]*)?")
_EXPIRY: Final = re.compile(r"[1-9][0-9]{0,9}")
_HINTS: Final = ("login_hint_token", "id_token_hint", "login_hint")


class AnswerDropped(ConnectionError):
    """An exchange with `SimulatedProvider.send` brought no complete answer.

    `acted` tells whether the provider had acted on the request. To a client the first case is "not sent",
    the second one "unknown".
    """

    def __init__(self, *, acted: bool) -> None:
        super().__init__("the answer was lost" if acted else "the request did not arrive")
        self.acted = acted


@frozen
class JournalEntry:
    """What became of one request. Instants are POSIX seconds by the provider's clock."""

    endpoint: Endpoint
    arrived: float
    answered: float
    outcome: str
    """The error code of the answer; or ``"served"`` (metadata, keys), ``"acknowledged"``, ``"tokens"``; or,
    when the provider did not act, ``"not_found"``, ``"method_not_allowed"``, ``"fault"``, ``"dropped"``."""
    status: int | None
    """Status of the answer; ``None`` when there was none."""
    fault: Fault | None
    client_id: str | None
    """The client, once authenticated."""
    auth_req_id: str | None = field(repr=False)
    """The transaction that was begun or polled, if it is one of this client's."""
    too_early: bool
    """A poll that came before the interval or an earlier ``Retry-After`` was over (CIBA Core 10.1)."""
    overlapping: bool
    """A poll that came while another one of its transaction was being handled (CIBA Core 10.1)."""
    replayed: bool
    """A poll for tokens that had been issued already. Some providers revoke the grant on this."""


@frozen
class PendingRequest:
    """An authentication request that its user has not decided yet. Instants are POSIX seconds."""

    auth_req_id: str = field(repr=False)
    client_id: str
    hint: str
    """Value of the ``login_hint``, ``login_hint_token`` or ``id_token_hint`` parameter."""
    binding_message: str | None
    scope: str
    created: float
    expires: float


@define(eq=False)
class _Transaction:
    auth_req_id: str
    client: SimulatedClient
    user: Approve | Deny | Ignore
    hint: str
    scope: str
    binding_message: str | None
    authorization_details: list[Any] | None
    acr: str | None
    created: float
    expires: float
    interval: int
    poll_due: float
    """Instant before which a poll is too early."""
    polls: int = 0
    in_flight: int = 0
    approved: bool | None = None
    """The user's decision; ``None``: not made."""
    decided: float = 0.0
    redeemed: bool = False


@define(eq=False)
class _Visit:
    """One request on its way through the provider, and what the journal will say of it."""

    endpoint: Endpoint
    method: str
    query: str
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes
    arrived: float
    form: Form = field(factory=Form)
    client: SimulatedClient | None = None
    transaction: _Transaction | None = None
    outcome: str = "fault"
    too_early: bool = False
    overlapping: bool = False
    replayed: bool = False

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


def _json_reply(content: object, *, status: int = 200, headers: Headers = ()) -> Reply:
    return Reply(
        status,
        (("Content-Type", "application/json"), ("Cache-Control", "no-store"), *headers),
        json.dumps(content).encode(),
    )


@functools.cache
def _signing_key() -> RSAKey:
    # One key for the whole process: to make one takes longer than an hour of virtual polling.
    from joserfc.jwk import RSAKey  # noqa: PLC0415  # joserfc is loaded only when a key is used

    return RSAKey.generate_key(2048, auto_kid=True)


def _counting_entropy(issuer: str) -> Callable[[int], bytes]:
    """Octets that differ on every call and are the same in every run; not for any other use."""
    calls = 0

    def entropy(size: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{issuer} {calls}".encode()).digest(size)

    return entropy


class SimulatedProvider:
    """An OpenID provider for CIBA in poll mode that runs inside the test.

    Give requests to `handle` (as a server would) or to `send` (as a driver would). Which users there are and
    what they do is scripted, or decided by hand with `approve` and `deny`; faults are planned with `inject`;
    everything that happened is in `journal`. Safe to use from several threads.

    The provider has a wall clock of its own. It starts with that of `clock` and never jumps: a
    `VirtualClock.step_wall` is a jump of the client's clock only.

    Args:
        clock: a `VirtualClock`, or the module ``time`` for real time.
        clients: the registered clients.
        users: what the user does who is found by a hint, by the value of that hint, whichever of the three
            kinds it is. An ID Token issued by this provider is a hint to its user without being listed.
        issuer: issuer identifier; all endpoints are below it.
        expires_in: seconds a request lives; a client can ask for less by ``requested_expiry``, not for more.
        interval: least seconds between polls; ``None``: left out of the acknowledgement, which means 5.
        throttle_early_polls: answer a poll that comes too early with ``slow_down``; otherwise the journal
            alone tells.
        throttle_first_poll: count the interval from the acknowledgement, so that the first poll can come too
            early, as some providers do.
        long_poll: seconds a poll is held back while the user has not decided (CIBA Core 10.1).
        require_openid: refuse a scope without ``openid``; otherwise such a request gets no ID Token.
        binding_message: regular expression that a binding message has to match in full; as it stands, up to
            64 characters and no control characters.
        entropy: source of identifiers and tokens, from octets wanted to octets. As it stands, a counter:
            every run gives the same ones.

    Raises:
        ValueError: a setting is out of range.

    """

    def __init__(
        self,
        clock: Clock,
        *,
        clients: Iterable[SimulatedClient],
        users: Mapping[str, User] | None = None,
        issuer: str = "https://op.example",
        expires_in: int = 120,
        interval: int | None = 5,
        throttle_early_polls: bool = True,
        throttle_first_poll: bool = False,
        long_poll: float = 0.0,
        require_openid: bool = True,
        binding_message: str = r"[^\x00-\x1f\x7f-\x9f]{1,64}",
        entropy: Callable[[int], bytes] | None = None,
    ) -> None:
        if not _ISSUER.fullmatch(issuer):
            raise ValueError("issuer: an http or https URL without query and fragment")
        if expires_in < 1:
            raise ValueError("expires_in: a positive number of seconds")
        if interval is not None and interval < 1:
            raise ValueError("interval: a positive number of seconds, or None")
        if long_poll < 0:
            raise ValueError("long_poll: a number of seconds, or 0")
        self.issuer: Final = issuer
        self.users: Final = dict(users or {})
        """The scripted users; may be changed at any time, for later requests."""
        self._clock = clock
        self._clients = tuple(clients)
        self._expires_in = expires_in
        self._interval = interval
        self._throttle_early_polls = throttle_early_polls
        self._throttle_first_poll = throttle_first_poll
        self._long_poll = long_poll
        self._require_openid = require_openid
        self._binding_message = re.compile(binding_message)
        self._entropy = entropy or _counting_entropy(issuer)
        self._started = clock.time(), clock.monotonic()
        self._lock = threading.Lock()
        self._transactions: dict[str, _Transaction] = {}
        self._id_tokens: dict[str, str] = {}
        self._faults: list[tuple[Endpoint | None, Fault]] = []
        self._journal: list[JournalEntry] = []

        # RFC 8414 3 puts its suffix between host and path, OpenID Connect Discovery 4 after the path.
        self._base = issuer.removesuffix("/")
        scheme, _, rest = self._base.partition("://")
        authority, slash, path = rest.partition("/")
        self._origin = f"{scheme}://{authority}"
        self._paths: dict[str, Endpoint] = {
            f"{slash}{path}/.well-known/openid-configuration": "metadata",
            f"/.well-known/oauth-authorization-server{slash}{path}": "metadata",
            f"{slash}{path}/bc-authorize": "backchannel_authentication",
            f"{slash}{path}/token": "token",
            f"{slash}{path}/jwks": "jwks",
        }

    def __repr__(self) -> str:
        return f"<SimulatedProvider {self.issuer}>"

    # --- what a test sees and does ---------------------------------------------------------------------

    @property
    def journal(self) -> tuple[JournalEntry, ...]:
        """All requests so far, in the order in which their handling ended."""
        with self._lock:
            return tuple(self._journal)

    @property
    def pending(self) -> tuple[PendingRequest, ...]:
        """The authentication requests that wait for a decision, oldest first."""
        with self._lock:
            return tuple(
                PendingRequest(
                    auth_req_id=transaction.auth_req_id,
                    client_id=transaction.client.client_id,
                    hint=transaction.hint,
                    binding_message=transaction.binding_message,
                    scope=transaction.scope,
                    created=transaction.created,
                    expires=transaction.expires,
                )
                for transaction in self._transactions.values()
                if self._is_undecided(transaction)
            )

    def approve(self, auth_req_id: str) -> None:
        """Decide a pending request as its user would.

        Raises:
            LookupError: there is no such request, or it is decided or expired.

        """
        self._decide(auth_req_id, approved=True)

    def deny(self, auth_req_id: str) -> None:
        """Decide a pending request as its user would.

        Raises:
            LookupError: there is no such request, or it is decided or expired.

        """
        self._decide(auth_req_id, approved=False)

    def inject(self, endpoint: Endpoint | None, fault: Fault, *, times: int = 1) -> None:
        """Plan a fault for the next requests to an endpoint, or to any if `endpoint` is ``None``.

        Each request meets one fault: the first planned one that is for its endpoint.
        """
        with self._lock:
            self._faults.extend((endpoint, fault) for _ in range(times))

    @property
    def faults(self) -> tuple[tuple[Endpoint | None, Fault], ...]:
        """The planned faults that no request has met yet."""
        with self._lock:
            return tuple(self._faults)

    def now(self) -> float:
        """Return the provider's wall clock as POSIX seconds."""
        wall, monotonic = self._started
        return wall + (self._clock.monotonic() - monotonic)

    # --- requests --------------------------------------------------------------------------------------

    def handle(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        """Answer one request.

        Args:
            method: the HTTP method.
            target: path and query of the request, as on the request line.
            headers: name and value pairs.
            body: the octets of the body.

        """
        path, _, query = target.partition("?")
        with self._lock:
            visit = _Visit(
                endpoint=self._paths.get(path, "unknown"),
                method=method,
                query=query,
                headers=tuple((name.lower(), value) for name, value in headers),
                body=body,
                arrived=self.now(),
            )
            fault = self._next_fault(visit.endpoint)
            refusal = self._admit(visit)
            if (polled := visit.transaction) is None:
                answer = self._answer(visit, refusal, fault)
            else:
                self._note_poll(visit, polled, arrives=not isinstance(fault, DropBefore))
                polled.in_flight += 1
                try:
                    answer = self._answer(visit, refusal, fault)
                finally:
                    polled.in_flight -= 1
                self._note_retry_after(polled, answer)
            self._journal.append(
                JournalEntry(
                    endpoint=visit.endpoint,
                    arrived=visit.arrived,
                    answered=self.now(),
                    outcome=visit.outcome,
                    status=answer.status if isinstance(answer, Reply) else None,
                    fault=fault,
                    client_id=visit.client.client_id if visit.client else None,
                    auth_req_id=visit.transaction.auth_req_id if visit.transaction else None,
                    too_early=visit.too_early,
                    overlapping=visit.overlapping,
                    replayed=visit.replayed,
                )
            )
            return answer

    def send(self, request: HttpRequest) -> HttpResponse:
        """Carry out an exchange in process, in place of an HTTP stack.

        Raises:
            AnswerDropped: a planned fault, or the answer took more than the request's ``timeout`` by the
                clock (which then stands where the provider was done).
            ValueError: the request's URL is not at this provider.

        """
        target = request.url.removeprefix(self._origin)
        if target == request.url or not target.startswith("/"):
            raise ValueError("the URL is not at this provider")
        begun = self._clock.monotonic()
        answer = self.handle(request.method, target, request.headers, request.body)
        if isinstance(answer, NoReply):
            raise AnswerDropped(acted=answer.acted)
        if answer.cut is not None or self._clock.monotonic() - begun > request.timeout:
            raise AnswerDropped(acted=True)
        return HttpResponse(answer.status, answer.headers, answer.body[: request.response_limit + 1])

    # --- before acting: who asks, and for which transaction ----------------------------------------------

    def _admit(self, visit: _Visit) -> Refusal | None:
        """Fill in the form, the client and the transaction polled; return what stands against it."""
        if visit.endpoint not in {"backchannel_authentication", "token"} or visit.method != "POST":
            return None
        try:
            visit.form = read_form(visit.query, visit.header("content-type"), visit.body)
            visit.client = authenticate(self._clients, visit.header("authorization"), visit.form.parameters)
        except Refusal as refusal:
            return refusal
        if visit.endpoint == "token":
            transaction = self._transactions.get(visit.form.parameters.get("auth_req_id", ""))
            if transaction is not None and transaction.client is visit.client:
                visit.transaction = transaction
        return None

    def _note_poll(self, visit: _Visit, transaction: _Transaction, *, arrives: bool) -> None:
        visit.too_early = visit.arrived < transaction.poll_due - _GRANULARITY
        visit.overlapping = transaction.in_flight > 0
        if arrives:
            transaction.poll_due = visit.arrived + transaction.interval

    def _note_retry_after(self, transaction: _Transaction, answer: Reply | NoReply) -> None:
        if isinstance(answer, NoReply):
            return
        for name, value in answer.headers:
            if name.lower() == "retry-after":
                if value.isdecimal():
                    due = self.now() + int(value)
                else:
                    try:
                        due = email.utils.parsedate_to_datetime(value).timestamp()
                    except ValueError:
                        continue
                transaction.poll_due = max(transaction.poll_due, due)

    # --- faults ----------------------------------------------------------------------------------------

    def _next_fault(self, endpoint: Endpoint) -> Fault | None:
        for index, (where, fault) in enumerate(self._faults):
            if where in {None, endpoint}:
                del self._faults[index]
                return fault
        return None

    def _answer(self, visit: _Visit, refusal: Refusal | None, fault: Fault | None) -> Reply | NoReply:
        match fault:
            case None:
                return self._act(visit, refusal)
            case Delay(seconds):
                self._pause(seconds)
                return self._act(visit, refusal)
            case DropAfter():
                self._act(visit, refusal)
                return NoReply(acted=True)
            case Truncate(octets, reset):
                reply = self._act(visit, refusal)
                return Reply(reply.status, reply.headers, reply.body, cut=octets, reset=reset)
            case DropBefore():
                visit.outcome = "dropped"
                return NoReply(acted=False)
            case Answer(status, body, headers):
                return Reply(status, headers, body)
            case Busy(retry_after, http_date, status):
                return Reply(status, self._retry_after(retry_after, http_date=http_date))
            case SlowDown(retry_after, http_date, status):
                visit.outcome = "slow_down"
                if visit.transaction is not None:
                    self._slow_down(visit, visit.transaction)
                return _json_reply(
                    {"error": "slow_down"},
                    status=status,
                    headers=self._retry_after(retry_after, http_date=http_date),
                )
            case _:
                assert_never(fault)

    def _pause(self, seconds: float) -> None:
        """Sleep by the clock; meanwhile other threads may use the provider."""
        self._lock.release()
        try:
            self._clock.sleep(seconds)
        finally:
            self._lock.acquire()

    def _retry_after(self, seconds: int | None, *, http_date: bool) -> Headers:
        if seconds is None:
            return ()
        if http_date:
            return (("Retry-After", email.utils.formatdate(math.ceil(self.now() + seconds), usegmt=True)),)
        return (("Retry-After", str(seconds)),)

    # --- acting ----------------------------------------------------------------------------------------

    def _act(self, visit: _Visit, refusal: Refusal | None) -> Reply:
        """Do what the request asks for."""
        if visit.endpoint == "unknown":
            visit.outcome = "not_found"
            return Reply(404)
        allowed = "GET" if visit.endpoint in {"metadata", "jwks"} else "POST"
        if visit.method != allowed:
            visit.outcome = "method_not_allowed"
            return Reply(405, (("Allow", allowed),))
        try:
            if refusal is not None:
                raise refusal
            match visit.endpoint:
                case "metadata":
                    return self._metadata(visit)
                case "jwks":
                    return self._jwks(visit)
                case "backchannel_authentication":
                    return self._backchannel_authentication(visit)
                case "token":
                    return self._token(visit)
                case _:
                    assert_never(visit.endpoint)
        except Refusal as caught:
            visit.outcome = caught.error
            return _json_reply(
                {"error": caught.error, "error_description": caught.description},
                status=caught.status,
                headers=caught.headers,
            )

    def _metadata(self, visit: _Visit) -> Reply:
        visit.outcome = "served"
        return _json_reply(
            {
                "issuer": self.issuer,
                "token_endpoint": f"{self._base}/token",
                "backchannel_authentication_endpoint": f"{self._base}/bc-authorize",
                "jwks_uri": f"{self._base}/jwks",
                "backchannel_token_delivery_modes_supported": ["poll"],
                "backchannel_user_code_parameter_supported": True,
                "grant_types_supported": [CIBA_GRANT],
                "token_endpoint_auth_methods_supported": list(AUTHENTICATION_METHODS),
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "claims_parameter_supported": True,
            }
        )

    @staticmethod
    def _jwks(visit: _Visit) -> Reply:
        visit.outcome = "served"
        key = _signing_key().as_dict(private=False, use="sig", alg="RS256")
        return _json_reply({"keys": [key]})

    def _backchannel_authentication(self, visit: _Visit) -> Reply:
        """Check an authentication request and acknowledge it (CIBA Core 7.1 to 7.3)."""
        client = _entitled(visit.client)
        parameters = visit.form.parameters
        scope = read_scope(parameters, require_openid=self._require_openid)
        details = read_authorization_details(parameters)
        acr = read_acr(parameters)
        lifetime = self._expires_in
        if (requested := parameters.get("requested_expiry")) is not None:
            if not _EXPIRY.fullmatch(requested):
                raise Refusal("invalid_request", "requested_expiry: not a positive integer")
            lifetime = min(lifetime, int(requested))
        message = parameters.get("binding_message")
        if message is not None and not self._binding_message.fullmatch(message):
            raise Refusal("invalid_binding_message", "binding_message: too long, or unusual characters")
        hint, user = self._find_user(parameters)

        interval = self._interval or _DEFAULT_INTERVAL
        visit.outcome = "acknowledged"
        visit.transaction = _Transaction(
            auth_req_id=self._random_token(20),
            client=client,
            user=user,
            hint=hint,
            scope=scope,
            binding_message=message,
            authorization_details=details,
            acr=acr,
            created=visit.arrived,
            expires=visit.arrived + lifetime,  # CIBA Core 7.3: counted from when the request was received
            interval=interval,
            poll_due=self.now() + interval if self._throttle_first_poll else visit.arrived,
        )
        self._transactions[visit.transaction.auth_req_id] = visit.transaction
        acknowledgement: dict[str, object] = {
            "auth_req_id": visit.transaction.auth_req_id,
            "expires_in": lifetime,
        }
        if self._interval is not None:
            acknowledgement["interval"] = self._interval
        return _json_reply(acknowledgement)

    def _find_user(self, parameters: Mapping[str, str]) -> tuple[str, Approve | Deny | Ignore]:
        """Find the user by the one hint, and check the user code (CIBA Core 7.1, 7.2)."""
        hints = [parameters[name] for name in _HINTS if name in parameters]
        if len(hints) != 1:
            raise Refusal("invalid_request", "not exactly one hint")
        hint = self._id_tokens.get(hints[0], hints[0])
        user = self.users.get(hint)
        if user is None:
            raise Refusal("unknown_user_id", "the hint names no user")
        if isinstance(user, Refuse):
            status = 403 if user.error == "access_denied" else 400  # CIBA Core 13
            raise Refusal(user.error, "refused for this user", status=status)
        if user.user_code is not None:
            if "user_code" not in parameters:
                raise Refusal("missing_user_code", "this user has a user code")
            if parameters["user_code"] != user.user_code:
                raise Refusal("invalid_user_code", "wrong user code")
        return hint, user

    def _token(self, visit: _Visit) -> Reply:
        """Answer a poll (CIBA Core 10.1 and 11)."""
        grant = visit.form.parameters.get("grant_type")
        if grant is None:
            raise Refusal("invalid_request", "grant_type: missing")
        if grant != CIBA_GRANT:
            raise Refusal("unsupported_grant_type", "only the CIBA grant is served")
        _entitled(visit.client)
        if "auth_req_id" not in visit.form.parameters:
            raise Refusal("invalid_request", "auth_req_id: missing")
        transaction = visit.transaction
        if transaction is None:
            raise Refusal("invalid_grant", "no such auth_req_id")
        try:
            return self._poll(visit, transaction)
        finally:
            transaction.polls += 1

    def _poll(self, visit: _Visit, transaction: _Transaction) -> Reply:
        over = transaction.redeemed or self.now() >= transaction.expires
        if visit.too_early and self._throttle_early_polls and not over:
            self._slow_down(visit, transaction)
            raise Refusal("slow_down", "polled before the interval was over")
        self._hold(transaction)
        if transaction.redeemed:  # before this poll, or by another one while it was held
            visit.replayed = True
            raise Refusal("invalid_grant", "the tokens have been issued already")
        if self.now() >= transaction.expires:
            raise Refusal("expired_token", "the auth_req_id has expired")
        if transaction.approved is None:
            raise Refusal("authorization_pending", "the user has not decided yet")
        if not transaction.approved:
            raise Refusal("access_denied", "the user denied the request")
        transaction.redeemed = True
        visit.outcome = "tokens"
        return _json_reply(self._tokens(transaction))

    # --- the life of a transaction ----------------------------------------------------------------------

    def _is_undecided(self, transaction: _Transaction) -> bool:
        """Let a scripted user decide who is due to; tell whether the request still waits for a decision."""
        if transaction.approved is not None or (now := self.now()) >= transaction.expires:
            return False
        user = transaction.user
        if (
            isinstance(user, Ignore)
            or transaction.polls < user.after_polls
            or now < transaction.created + user.after - _GRANULARITY
        ):
            return True
        self._settle(transaction, approved=isinstance(user, Approve))
        return False

    def _decide(self, auth_req_id: str, *, approved: bool) -> None:
        with self._lock:
            transaction = self._transactions.get(auth_req_id)
            if transaction is None or not self._is_undecided(transaction):
                raise LookupError("no pending request has this auth_req_id")
            self._settle(transaction, approved=approved)

    def _settle(self, transaction: _Transaction, *, approved: bool) -> None:
        transaction.approved = approved
        transaction.decided = self.now()

    def _hold(self, transaction: _Transaction) -> None:
        """Hold a poll back while it waits for the decision (long polling, CIBA Core 10.1)."""
        until = min(self.now() + self._long_poll, transaction.expires)
        while self._is_undecided(transaction) and (left := until - self.now()) > 0:
            self._pause(min(left, _HOLD_SLICE))

    @staticmethod
    def _slow_down(visit: _Visit, transaction: _Transaction) -> None:
        transaction.interval += _SLOW_DOWN_STEP
        transaction.poll_due = visit.arrived + transaction.interval

    def _tokens(self, transaction: _Transaction) -> dict[str, object]:
        """Build the successful token response (CIBA Core 10.1.1)."""
        scopes = transaction.scope.split(" ")
        response: dict[str, object] = {
            "access_token": self._random_token(32),
            "token_type": "Bearer",
            "expires_in": _TOKEN_LIFETIME,
            "scope": transaction.scope,
        }
        if "offline_access" in scopes:
            response["refresh_token"] = self._random_token(32)
        if transaction.authorization_details is not None:
            response["authorization_details"] = transaction.authorization_details
        if "openid" in scopes:
            id_token = self._id_token(transaction)
            self._id_tokens[id_token] = transaction.hint
            response["id_token"] = id_token
        return response

    def _id_token(self, transaction: _Transaction) -> str:
        from joserfc import jwt  # noqa: PLC0415  # joserfc is loaded only when a key is used

        now = int(self.now())
        claims = {
            "iss": self.issuer,
            "sub": transaction.user.sub or transaction.hint,
            "aud": transaction.client.client_id,
            "iat": now,
            "exp": now + _ID_TOKEN_LIFETIME,
            "auth_time": int(transaction.decided),
        }
        if transaction.acr is not None:
            claims["acr"] = transaction.acr
        key = _signing_key()
        return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)

    def _random_token(self, size: int) -> str:
        return base64.urlsafe_b64encode(self._entropy(size)).rstrip(b"=").decode()


def _entitled(client: SimulatedClient | None) -> SimulatedClient:
    if client is None or CIBA_GRANT not in client.grant_types:
        raise Refusal("unauthorized_client", "this client may not use CIBA")
    return client
