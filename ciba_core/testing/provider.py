"""A simulated OpenID provider for CIBA: in process, deterministic, strict.

It is written from CIBA Core 1.0 and the standards around it, and shares no encoding and no checking code
with the client side of this package. All time is that of the clock it is given; nothing is waited for, and
nothing is sent but by the notifier that it is given.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import functools
import hashlib
import math
import re
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from typing import Final, assert_never

from ciba_core.values.http import HttpRequest, HttpResponse

from .assertions import AssertionAudience, ClientJwts
from .callbacks import Address, News, Notifier, Outbox
from .checks import (
    Refusal,
    authenticate,
    read_acr,
    read_authorization_details,
    read_form,
    read_notification_token,
    read_scope,
)
from .clock import Clock, SchedulingClock
from .discovery import metadata
from .dpop import DpopProofs
from .jose import KeyRing
from .journal import AnswerDropped, Endpoint, JournalEntry, PendingRequest
from .script import (
    CIBA_GRANT,
    REFRESH_GRANT,
    Answer,
    Approve,
    BadIdToken,
    Busy,
    CallbackFault,
    Delay,
    Deny,
    DropAfter,
    DropBefore,
    Fault,
    Ignore,
    IgnoreDpop,
    OtherSubject,
    Refuse,
    SimulatedClient,
    SlowDown,
    Truncate,
    Twist,
    User,
)
from .tokens import Issued, TokenStore
from .userinfo import UserInfo
from .visit import Transaction, Visit, json_reply
from .wire import Headers, NoReply, Reply

__all__ = ["SimulatedProvider"]

_DEFAULT_INTERVAL: Final = 5  # CIBA Core 7.3: without an interval the client waits 5 seconds
_SLOW_DOWN_STEP: Final = 5  # CIBA Core 11

_AUTHENTICATED: Final = frozenset({"backchannel_authentication", "token", "revocation"})
_METHODS: Final[Mapping[Endpoint, tuple[str, ...]]] = {
    "metadata": ("GET",),
    "jwks": ("GET",),
    "userinfo": ("GET", "POST"),  # OpenID Connect Core 5.3.1
    "backchannel_authentication": ("POST",),
    "token": ("POST",),
    "revocation": ("POST",),
}

# POSIX instants of today have a resolution of 2.4e-7 s as floats, so that a client which waits for exactly
# one interval can seem to come a little early.
_GRANULARITY: Final = 0.001

# While a poll is held, the record is looked at this often, since another thread may decide it.
_HOLD_SLICE: Final = 0.25

_ISSUER: Final = re.compile(r"https?://[^/?#\s]+(?:/[^?#\s]*)?")
_EXPIRY: Final = re.compile(r"[1-9][0-9]{0,9}")
_HINTS: Final = ("login_hint_token", "id_token_hint", "login_hint")


def _counting_entropy(issuer: str) -> Callable[[int], bytes]:
    """Octets that differ on every call and are the same in every run; not for any other use."""
    calls = 0

    def entropy(size: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{issuer} {calls}".encode()).digest(size)

    return entropy


class SimulatedProvider:
    """An OpenID provider for CIBA that runs inside the test.

    Give requests to `handle` (as a server would) or to `send` (as a driver would). Which users there are and
    what they do is scripted, or decided by hand with `approve` and `deny`; faults are planned with `inject`;
    everything that happened is in `journal`. Safe to use from several threads.

    Clients in ping and push mode are called back: when the user decides, the notifier is called by the
    clock, which is to say by the next `VirtualClock.sleep`, or by the thread of a `RealClock`. Faults of
    callbacks are planned with `inject_callback`.

    The provider has a wall clock of its own. It starts with that of `clock` and never jumps: a
    `VirtualClock.step_wall` is a jump of the client's clock only.

    Args:
        clock: a `VirtualClock`; for real time a `RealClock`, or the module ``time`` if all clients poll.
        clients: the registered clients.
        users: what the user does who is found by a hint, by the value of that hint, whichever of the three
            kinds it is. An ID Token issued by this provider is a hint to its user without being listed.
        deliver: delivers callbacks; needed if there are clients in ping or push mode. It may make requests.
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
        authorization_details_types: the types of authorization details that are supported (RFC 9396 10);
            ``None``: all, and none is advertised.
        assertion_audiences: what the ``aud`` of a client assertion may name; as it stands, all that CIBA
            Core 7.1 has the provider accept.
        require_dpop_nonce: demand a nonce in DPoP proofs (RFC 9449 8).
        dpop_nonce_uses: good proofs after which the nonce is replaced; ``None``: it stays.
        jwks_cache_control: the ``Cache-Control`` header of the key set; ``None``: no such header.
        at_hash: put the hash of the access token into ID Tokens (OpenID Connect Core 3.1.3.6). Those that
            are pushed have it always.
        auth_req_id_claim: put the ``auth_req_id`` into ID Tokens. Those that are pushed have it always
            (CIBA Core 10.3.1).
        callback_on_expiry: call back clients when a request has expired, too: with a ping, or a push of
            ``expired_token`` (CIBA Core 10.2, 12).
        rotate_refresh_tokens: answer each refresh with a new refresh token, and take no old one any more.
        id_token_on_refresh: answer each refresh with a new ID Token (OpenID Connect Core 12.2).
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
        deliver: Notifier | None = None,
        issuer: str = "https://op.example",
        expires_in: int = 120,
        interval: int | None = 5,
        throttle_early_polls: bool = True,
        throttle_first_poll: bool = False,
        long_poll: float = 0.0,
        require_openid: bool = True,
        binding_message: str = r"[^\x00-\x1f\x7f-\x9f]{1,64}",
        authorization_details_types: Collection[str] | None = None,
        assertion_audiences: Collection[AssertionAudience] = ("issuer", "token_endpoint", "called_endpoint"),
        require_dpop_nonce: bool = False,
        dpop_nonce_uses: int | None = None,
        jwks_cache_control: str | None = "no-store",
        at_hash: bool = False,
        auth_req_id_claim: bool = False,
        callback_on_expiry: bool = False,
        rotate_refresh_tokens: bool = True,
        id_token_on_refresh: bool = True,
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
        if dpop_nonce_uses is not None and dpop_nonce_uses < 1:
            raise ValueError("dpop_nonce_uses: a positive number, or None")
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
        self._transactions: dict[str, Transaction] = {}
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
            f"{slash}{path}/revoke": "revocation",
            f"{slash}{path}/userinfo": "userinfo",
        }

        self._outbox: Outbox | None = None
        self._callback_on_expiry = callback_on_expiry
        if any(client.is_called_back for client in self._clients):
            if deliver is None:
                raise ValueError("deliver: needed for clients in ping or push mode")
            if not isinstance(clock, SchedulingClock):
                raise ValueError("clock: needs call_at for clients in ping or push mode")
            self._outbox = Outbox(clock, self.now, deliver, self._random_token, self._record)

        self._details_types = authorization_details_types
        self._jwks_cache_control = jwks_cache_control
        self._keys = KeyRing(
            alg
            for client in self._clients
            for alg in (client.id_token_signed_response_alg, client.userinfo_signed_response_alg)
            if alg is not None
        )
        self._jwts = ClientJwts(issuer, f"{self._base}/token", assertion_audiences)
        self._dpop = DpopProofs(
            (lambda: self._random_token(16)) if require_dpop_nonce else None, dpop_nonce_uses
        )
        self._tokens = TokenStore(
            issuer=issuer,
            keys=self._keys,
            random_token=self._random_token,
            at_hash=at_hash,
            auth_req_id_claim=auth_req_id_claim,
            rotate_refresh_tokens=rotate_refresh_tokens,
            id_token_on_refresh=id_token_on_refresh,
        )

        self._userinfo = UserInfo(self._tokens, self._dpop)

    def __repr__(self) -> str:
        return f"<SimulatedProvider {self.issuer}>"

    # --- what a test sees and does ---------------------------------------------------------------------

    @property
    def journal(self) -> tuple[JournalEntry, ...]:
        """All requests and callbacks so far, in the order in which their handling ended."""
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
        self._decide(auth_req_id, None)

    def deny(self, auth_req_id: str, *, error: str = "access_denied") -> None:
        """Decide a pending request as its user would.

        Args:
            auth_req_id: the request.
            error: what the client is told, as in `Deny`.

        Raises:
            LookupError: there is no such request, or it is decided or expired.

        """
        self._decide(auth_req_id, error)

    def inject(self, endpoint: Endpoint | None, fault: Fault, *, times: int = 1) -> None:
        """Plan a fault for the next requests to an endpoint, or to any if `endpoint` is ``None``.

        Each request meets one fault: the first planned one that is for its endpoint. A fault that changes
        an answer of success waits for one, at the head of the line.
        """
        with self._lock:
            self._faults.extend((endpoint, fault) for _ in range(times))

    @property
    def faults(self) -> tuple[tuple[Endpoint | None, Fault], ...]:
        """The planned faults that no request has met yet."""
        with self._lock:
            return tuple(self._faults)

    def inject_callback(self, *faults: CallbackFault, times: int = 1) -> None:
        """Plan what goes wrong with the next callbacks.

        All faults given here meet the same callback, one after the other: `DropBefore` and then `Forge` is a
        forged callback in the place of the right one, `Forge` and then `Repeat` repeats both. They wait, at
        the head of the line, for a callback to which all of them apply.

        Args:
            faults: what goes wrong; none of them: nothing does, this once.
            times: the number of callbacks that it goes wrong with.

        Raises:
            ValueError: no client is in ping or push mode.

        """
        if self._outbox is None:
            raise ValueError("no client is in ping or push mode")
        with self._lock:
            self._outbox.faults.extend(faults for _ in range(times))

    @property
    def callback_faults(self) -> tuple[tuple[CallbackFault, ...], ...]:
        """The planned faults that no callback has met yet."""
        with self._lock:
            return tuple(self._outbox.faults) if self._outbox else ()

    def rotate_keys(self, *, keep_old: bool = True) -> None:
        """Sign with new keys, under a new ``kid``, from now on.

        Args:
            keep_old: leave the earlier keys in the key set; otherwise tokens signed with them cannot be
                verified any more.

        """
        with self._lock:
            self._keys.rotate(keep_old=keep_old)

    def now(self) -> float:
        """Return the provider's wall clock as POSIX seconds."""
        wall, monotonic = self._started
        return wall + (self._clock.monotonic() - monotonic)

    # --- requests --------------------------------------------------------------------------------------

    def handle(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Reply | NoReply:
        """Answer one request.

        A JWT in it (client assertion, signed request, DPoP proof) is used up by this, even if a fault is
        planned: a client makes a new one for each attempt.

        Args:
            method: the HTTP method.
            target: path and query of the request, as on the request line.
            headers: name and value pairs.
            body: the octets of the body.

        """
        path, _, query = target.partition("?")
        with self._lock:
            endpoint = self._paths.get(path, "unknown")
            where, fault = self._next_fault(endpoint)
            visit = Visit(
                endpoint=endpoint,
                method=method,
                query=query,
                headers=tuple((name.lower(), value) for name, value in headers),
                body=body,
                arrived=self.now(),
                url=self._origin + path,
                twist=fault if isinstance(fault, Twist) else None,
            )
            refusal = self._admit(visit)
            if (polled := visit.transaction) is None:
                answer = self._answer(visit, refusal, fault)
            else:
                arrives = refusal is None and not isinstance(fault, DropBefore)
                self._note_poll(visit, polled, arrives=arrives)
                polled.in_flight += 1
                try:
                    answer = self._answer(visit, refusal, fault)
                finally:
                    polled.in_flight -= 1
                self._note_retry_after(polled, answer)
            if visit.twist is not None and not visit.twisted:
                self._faults.insert(0, (where, visit.twist))
                fault = None
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

    def _admit(self, visit: Visit) -> Refusal | None:
        """Fill in the form, the client and the transaction polled; return what stands against it."""
        if visit.endpoint not in _AUTHENTICATED or visit.method != "POST":
            return None
        try:
            visit.form = read_form(visit.query, visit.header("content-type"), visit.body)
            client = visit.client = authenticate(
                self._clients,
                visit.header("authorization"),
                visit.form.parameters,
                lambda client, token: self._jwts.check_assertion(
                    client, token, url=visit.url, now=visit.arrived
                ),
            )
            if visit.endpoint == "backchannel_authentication":
                visit.form = self._jwts.read_request(client, visit.form, now=visit.arrived)
                if client.is_pushed_to:
                    self._check_possession(visit, client)  # there is no other request to bind tokens by
            if visit.endpoint == "token":
                transaction = self._transactions.get(visit.form.parameters.get("auth_req_id", ""))
                if transaction is not None and transaction.client is client:
                    visit.transaction = transaction
                self._check_possession(visit, client)
        except Refusal as refusal:
            return refusal
        return None

    def _check_possession(self, visit: Visit, client: SimulatedClient) -> None:
        """Check the DPoP proof of the request that tokens are asked for with (RFC 9449 5)."""
        proofs = visit.header("dpop")
        if proofs:
            visit.jkt, visit.more_headers = self._dpop.check(
                proofs, method=visit.method, url=visit.url, now=visit.arrived
            )
        elif client.dpop_bound_access_tokens:
            raise Refusal("invalid_dpop_proof", "this client needs a DPoP proof")

    def _note_poll(self, visit: Visit, transaction: Transaction, *, arrives: bool) -> None:
        visit.too_early = visit.arrived < transaction.poll_due - _GRANULARITY
        visit.overlapping = transaction.in_flight > 0
        if arrives:
            transaction.poll_due = visit.arrived + transaction.interval

    def _note_retry_after(self, transaction: Transaction, answer: Reply | NoReply) -> None:
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

    def _next_fault(self, endpoint: Endpoint) -> tuple[Endpoint | None, Fault | None]:
        for index, (where, _) in enumerate(self._faults):
            if where in {None, endpoint}:
                return self._faults.pop(index)
        return None, None

    def _answer(self, visit: Visit, refusal: Refusal | None, fault: Fault | None) -> Reply | NoReply:
        match fault:
            case None | BadIdToken() | IgnoreDpop() | OtherSubject():
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
                return json_reply(
                    {"error": "slow_down"},
                    status=status,
                    headers=self._retry_after(retry_after, http_date=http_date),
                )
            case _:
                assert_never(fault)

    @contextlib.contextmanager
    def _unlocked(self) -> Generator[None]:
        """Let others use the provider during the block."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    def _pause(self, seconds: float) -> None:
        with self._unlocked():
            self._clock.sleep(seconds)

    def _retry_after(self, seconds: int | None, *, http_date: bool) -> Headers:
        if seconds is None:
            return ()
        if http_date:
            return (("Retry-After", email.utils.formatdate(math.ceil(self.now() + seconds), usegmt=True)),)
        return (("Retry-After", str(seconds)),)

    # --- acting ----------------------------------------------------------------------------------------

    def _act(self, visit: Visit, refusal: Refusal | None) -> Reply:
        """Do what the request asks for."""
        allowed = _METHODS.get(visit.endpoint)
        if allowed is not None and visit.method not in allowed:
            visit.outcome = "method_not_allowed"
            return Reply(405, (("Allow", ", ".join(allowed)),))
        try:
            if refusal is not None:
                raise refusal
            reply = self._serve(visit)
        except Refusal as caught:
            visit.outcome = caught.error
            reply = json_reply(
                {"error": caught.error, "error_description": caught.description},
                status=caught.status,
                headers=caught.headers,
            )
        return Reply(reply.status, (*reply.headers, *visit.more_headers), reply.body)

    def _serve(self, visit: Visit) -> Reply:
        match visit.endpoint:
            case "metadata":
                return self._metadata(visit)
            case "jwks":
                return self._jwks(visit)
            case "backchannel_authentication":
                return self._backchannel_authentication(visit)
            case "token":
                return self._token(visit)
            case "revocation":
                return self._revocation(visit)
            case "userinfo":
                return self._userinfo.answer(visit, self.now())
            case "unknown":
                visit.outcome = "not_found"
                return Reply(404)
            case _:
                assert_never(visit.endpoint)

    def _metadata(self, visit: Visit) -> Reply:
        visit.outcome = "served"
        return json_reply(metadata(self.issuer, self._clients, self._details_types))

    def _jwks(self, visit: Visit) -> Reply:
        visit.outcome = "served"
        return json_reply({"keys": self._keys.public()}, cache_control=self._jwks_cache_control)

    def _backchannel_authentication(self, visit: Visit) -> Reply:
        """Check an authentication request and acknowledge it (CIBA Core 7.1 to 7.3)."""
        client = _entitled(visit.client)
        parameters = visit.form.parameters
        # What binds pushed tokens together is an ID Token (CIBA Core 10.3.1).
        scope = read_scope(parameters, require_openid=self._require_openid or client.is_pushed_to)
        token = read_notification_token(parameters, client)
        details = read_authorization_details(parameters, self._details_types)
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
        auth_req_id = self._random_token(20)
        visit.transaction = Transaction(
            auth_req_id=auth_req_id,
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
            jkt=visit.jkt,
            address=None if token is None else Address(client, auth_req_id, token),
        )
        self._transactions[visit.transaction.auth_req_id] = visit.transaction
        acknowledgement: dict[str, object] = {
            "auth_req_id": visit.transaction.auth_req_id,
            "expires_in": lifetime,
        }
        if self._interval is not None and not client.is_pushed_to:  # CIBA Core 7.3
            acknowledgement["interval"] = self._interval
        if self._outbox is not None and visit.transaction.address is not None:
            self._plan_callbacks(visit.transaction, visit.transaction.address, self._outbox)
        return json_reply(acknowledgement)

    def _find_user(self, parameters: Mapping[str, str]) -> tuple[str, Approve | Deny | Ignore]:
        """Find the user by the one hint, and check the user code (CIBA Core 7.1, 7.2)."""
        hints = [parameters[name] for name in _HINTS if name in parameters]
        if len(hints) != 1:
            raise Refusal("invalid_request", "not exactly one hint")
        hint = self._tokens.hints.get(hints[0], hints[0])
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

    def _token(self, visit: Visit) -> Reply:
        """Answer a poll (CIBA Core 10.1 and 11) or a refresh request."""
        grant = visit.form.parameters.get("grant_type")
        if grant is None:
            raise Refusal("invalid_request", "grant_type: missing")
        if grant not in {CIBA_GRANT, REFRESH_GRANT}:
            raise Refusal("unsupported_grant_type", "only the CIBA grant and refreshes are served")
        client = _entitled(visit.client)
        if grant == CIBA_GRANT and client.is_pushed_to:
            raise Refusal("unauthorized_client", "in push mode tokens are not asked for")  # CIBA Core 11
        if grant == REFRESH_GRANT:
            return self._deliver(
                visit,
                self._tokens.refresh(
                    client, visit.form.parameters, now=self.now(), jkt=visit.jkt, twist=visit.twist
                ),
            )
        if "auth_req_id" not in visit.form.parameters:
            raise Refusal("invalid_request", "auth_req_id: missing")
        transaction = visit.transaction
        if transaction is None:
            raise Refusal("invalid_grant", "no such auth_req_id")
        try:
            return self._poll(visit, transaction)
        finally:
            transaction.polls += 1
            if transaction.address is not None and self._outbox is not None:
                self._look_later(transaction, self._outbox)

    def _poll(self, visit: Visit, transaction: Transaction) -> Reply:
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
        if not transaction.settled:
            raise Refusal("authorization_pending", "the user has not decided yet")
        if transaction.error is not None:
            raise Refusal(transaction.error, "the user denied the request")
        transaction.redeemed = True
        issued = self._tokens.issue(transaction.consent, now=self.now(), jkt=visit.jkt, twist=visit.twist)
        return self._deliver(visit, issued)

    @staticmethod
    def _deliver(visit: Visit, issued: Issued) -> Reply:
        visit.outcome = "tokens"
        visit.twisted = issued.twisted
        return json_reply(issued.response)

    def _revocation(self, visit: Visit) -> Reply:
        """Revoke a token (RFC 7009 2)."""
        self._tokens.revoke(_entitled(visit.client), visit.form.parameters)
        visit.outcome = "revoked"
        return Reply(200)

    # --- the life of a transaction ----------------------------------------------------------------------

    def _is_undecided(self, transaction: Transaction) -> bool:
        """Let a scripted user decide who is due to; tell whether the request still waits for a decision."""
        if transaction.settled or (now := self.now()) >= transaction.expires:
            return False
        user = transaction.user
        if (
            isinstance(user, Ignore)
            or transaction.polls < user.after_polls
            or now < transaction.created + user.after - _GRANULARITY
        ):
            return True
        self._settle(transaction, _error_of(user))
        return False

    def _decide(self, auth_req_id: str, error: str | None) -> None:
        with self._lock:
            transaction = self._transactions.get(auth_req_id)
            if transaction is None or not self._is_undecided(transaction):
                raise LookupError("no pending request has this auth_req_id")
            self._settle(transaction, error)

    def _settle(self, transaction: Transaction, error: str | None) -> None:
        transaction.settle(error, now=self.now())
        self._call_back(transaction, error)

    def _call_back(self, transaction: Transaction, error: str | None) -> None:
        if self._outbox is not None and transaction.address is not None:
            self._outbox.post(self._news(transaction, transaction.address, error))

    def _news(self, transaction: Transaction, address: Address, error: str | None) -> News:
        def issue(bad: BadIdToken | None) -> dict[str, object]:
            return self._tokens.issue(
                transaction.consent, now=self.now(), jkt=transaction.jkt, twist=bad, push=True
            ).response

        return News(address, error, issue)

    def _plan_callbacks(self, transaction: Transaction, address: Address, outbox: Outbox) -> None:
        """See to it that the client is called back even if nobody polls and nobody looks."""
        outbox.register(address)
        if not isinstance(transaction.user, Ignore):
            news = self._news(transaction, address, error := _error_of(transaction.user))
            if outbox.goes_ahead(news):
                transaction.settle(error, now=self.now())
                sends = outbox.post(news, ahead=True)
                with self._unlocked():
                    for send in sends:
                        send()
                return
        self._look_later(transaction, outbox)
        if self._callback_on_expiry:
            self._schedule(outbox, transaction.expires, functools.partial(self._expire, transaction))

    def _look_later(self, transaction: Transaction, outbox: Outbox) -> None:
        """Have a look whether a scripted user decides, when it is time for that."""
        if not isinstance(transaction.user, Ignore):
            instant = transaction.created + transaction.user.after
            self._schedule(outbox, instant, functools.partial(self._is_undecided, transaction))

    def _schedule(self, outbox: Outbox, instant: float, function: Callable[[], object]) -> None:
        def call() -> None:
            with self._lock:
                function()

        outbox.clock.call_at(self._clock.monotonic() + (instant - self.now()), call)

    def _expire(self, transaction: Transaction) -> None:
        if not transaction.settled:
            self._call_back(transaction, "expired_token")

    def _record(self, entry: JournalEntry) -> None:
        with self._lock:
            self._journal.append(entry)

    def _hold(self, transaction: Transaction) -> None:
        """Hold a poll back while it waits for the decision (long polling, CIBA Core 10.1)."""
        until = min(self.now() + self._long_poll, transaction.expires)
        while self._is_undecided(transaction) and (left := until - self.now()) > 0:
            self._pause(min(left, _HOLD_SLICE))

    @staticmethod
    def _slow_down(visit: Visit, transaction: Transaction) -> None:
        transaction.interval += _SLOW_DOWN_STEP
        transaction.poll_due = visit.arrived + transaction.interval

    def _random_token(self, size: int) -> str:
        return base64.urlsafe_b64encode(self._entropy(size)).rstrip(b"=").decode()


def _error_of(user: Approve | Deny) -> str | None:
    """Return what a user's decision comes to at the token endpoint; ``None``: tokens."""
    return user.error if isinstance(user, Deny) else None


def _entitled(client: SimulatedClient | None) -> SimulatedClient:
    if client is None or (CIBA_GRANT not in client.grant_types and not client.is_pushed_to):
        raise Refusal("unauthorized_client", "this client may not use CIBA")
    return client
