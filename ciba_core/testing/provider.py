"""A simulated OpenID provider for CIBA: in process, deterministic, strict.

It is written from CIBA Core 1.0 and the standards around it, and shares no encoding and no checking code with
the client side of this package. It takes all time from the clock it is given and does not wait by itself. It
sends callbacks only by the notifier it is given.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Unpack, assert_never

from ciba_core.values.http import HttpRequest, HttpResponse

from .assertions import ClientJwts
from .authentications import GRANULARITY, Authentication, Authentications
from .callbacks import Address, Notifier, Outbox
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
from .settings import ProviderOptions, ProviderSettings
from .tokens import Issued, TokenStore
from .userinfo import UserInfo
from .visit import Visit, json_reply
from .wire import Headers, NoReply, Reply

__all__ = ["SimulatedProvider"]

_DEFAULT_INTERVAL: Final = 5  # CIBA Core 7.3: without an interval the client waits 5 seconds

_AUTHENTICATED: Final = frozenset({"backchannel_authentication", "token", "revocation"})
_METHODS: Final[Mapping[Endpoint, tuple[str, ...]]] = {
    "metadata": ("GET",),
    "jwks": ("GET",),
    "userinfo": ("GET", "POST"),  # OpenID Connect Core 5.3.1
    "backchannel_authentication": ("POST",),
    "token": ("POST",),
    "revocation": ("POST",),
}

_EXPIRY: Final = re.compile(r"[1-9][0-9]{0,9}")
_HINTS: Final = ("login_hint_token", "id_token_hint", "login_hint")


def _counting_entropy(issuer: str) -> Callable[[int], bytes]:
    """Return octets that differ on every call and are the same in every run; they are no secrets."""
    calls = 0

    def entropy(size: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"{issuer} {calls}".encode()).digest(size)

    return entropy


class SimulatedProvider:
    """An OpenID provider for CIBA that runs inside the test.

    Give requests to `handle` (as a server would) or to `send` (as a driver would). A script says which users
    there are and what they do; or decide by hand with `approve` and `deny`. Plan faults with `inject`. All
    that happened is in `journal`. Safe to use from several threads.

    Clients in ping and push mode are called back. When the user has decided, the clock calls the notifier: a
    `VirtualClock` in its next `sleep`, a `RealClock` in its own thread. Plan faults of callbacks with
    `inject_callback`.

    The provider has a wall clock of its own. It starts with that of `clock` and never jumps: a
    `VirtualClock.step_wall` is a jump of the client's clock only.

    Args:
        clock: a `VirtualClock`; for real time a `RealClock`, or the module ``time`` if all clients poll.
        clients: the registered clients.
        users: what each user does, by the value of the hint that names the user (of any of the three kinds).
            An ID Token issued by this provider is a hint to its user without being listed.
        deliver: delivers callbacks; needed if there are clients in ping or push mode. It may make requests.
        issuer: issuer identifier; all endpoints are below it.
        expires_in: seconds a request lives; a client can ask for less by ``requested_expiry``, not for more.
        interval: least seconds between polls; ``None``: the acknowledgement does not name it, which means 5.
        throttle_early_polls: answer a poll that comes too early with ``slow_down``; otherwise only the
            journal records it.
        throttle_first_poll: count the interval from the acknowledgement, so that the first poll can come too
            early, as some providers do.
        long_poll: seconds a poll is held back while the user has not decided (CIBA Core 10.1).
        require_openid: refuse a scope without ``openid``; otherwise such a request gets no ID Token.
        binding_message: regular expression that a binding message has to match in full; by default, up to 64
            characters and no control characters.
        authorization_details_types: the types of authorization details that are supported (RFC 9396 10);
            ``None``: all, and none is advertised.
        assertion_audiences: what the ``aud`` of a client assertion may name; by default, all that CIBA Core
            7.1 has the provider accept.
        require_dpop_nonce: demand a nonce in DPoP proofs (RFC 9449 8).
        dpop_nonce_uses: number of good proofs after which the nonce is replaced; ``None``: it stays.
        jwks_cache_control: the ``Cache-Control`` header of the key set; ``None``: no such header.
        at_hash: put the hash of the access token into ID Tokens (OpenID Connect Core 3.1.3.6). Pushed ID
            Tokens always have it.
        auth_req_id_claim: put the ``auth_req_id`` into ID Tokens. Pushed ID Tokens always have it (CIBA Core
            10.3.1).
        callback_on_expiry: call back clients when a request has expired, too: with a ping, or a push of
            ``expired_token`` (CIBA Core 10.2, 12).
        rotate_refresh_tokens: answer each refresh with a new refresh token, and refuse the old ones.
        id_token_on_refresh: answer each refresh with a new ID Token (OpenID Connect Core 12.2).
        entropy: source of identifiers and tokens: takes a number and returns that many octets. By default a
            counter, so that every run gives the same ones.

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
        **settings: Unpack[ProviderOptions],
    ) -> None:
        chosen = ProviderSettings(**settings)
        self.settings: Final = chosen
        """How the provider is set up."""
        self.issuer: Final = chosen.issuer
        self.users: Final = dict(users or {})
        """The scripted users; may be changed at any time, for later requests."""
        self._clock = clock
        self._clients = tuple(clients)
        self._binding_message = re.compile(chosen.binding_message)
        self._entropy = chosen.entropy or _counting_entropy(chosen.issuer)
        self._started = clock.time(), clock.monotonic()
        self._lock = threading.Lock()
        self._faults: list[tuple[Endpoint | None, Fault]] = []
        self._journal: list[JournalEntry] = []

        # RFC 8414 3 puts the suffix between host and path, OpenID Connect Discovery 4 puts it after the path.
        self._base = chosen.issuer.removesuffix("/")
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

        outbox: Outbox | None = None
        if any(client.is_called_back for client in self._clients):
            if deliver is None:
                raise ValueError("deliver: needed for clients in ping or push mode")
            if not isinstance(clock, SchedulingClock):
                raise ValueError("clock: needs call_at for clients in ping or push mode")
            outbox = Outbox(clock, self.now, deliver, self._random_token, self._record)

        self._keys = KeyRing(
            alg
            for client in self._clients
            for alg in (client.id_token_signed_response_alg, client.userinfo_signed_response_alg)
            if alg is not None
        )
        self._jwts = ClientJwts(chosen.issuer, f"{self._base}/token", chosen.assertion_audiences)
        self._dpop = DpopProofs(
            (lambda: self._random_token(16)) if chosen.require_dpop_nonce else None,
            chosen.dpop_nonce_uses,
        )
        self._tokens = TokenStore(
            issuer=chosen.issuer,
            keys=self._keys,
            random_token=self._random_token,
            at_hash=chosen.at_hash,
            auth_req_id_claim=chosen.auth_req_id_claim,
            rotate_refresh_tokens=chosen.rotate_refresh_tokens,
            id_token_on_refresh=chosen.id_token_on_refresh,
        )

        self._outbox = outbox
        self._authentications = Authentications(chosen, clock, self.now, self._lock, self._tokens, outbox)
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
            return self._authentications.pending

    def approve(self, auth_req_id: str) -> None:
        """Decide a pending request as its user would.

        Raises:
            LookupError: there is no such request, or it is decided or expired.

        """
        with self._lock:
            self._authentications.decide(auth_req_id, None)

    def deny(self, auth_req_id: str, *, error: str = "access_denied") -> None:
        """Decide a pending request as its user would.

        Args:
            auth_req_id: the request.
            error: what the client is told, as in `Deny`.

        Raises:
            LookupError: there is no such request, or it is decided or expired.

        """
        with self._lock:
            self._authentications.decide(auth_req_id, error)

    def inject(self, endpoint: Endpoint | None, fault: Fault, *, times: int = 1) -> None:
        """Plan a fault for the next requests to an endpoint, or to any if `endpoint` is ``None``.

        Each request meets one fault: the first planned one that is for its endpoint. A fault that changes an
        answer of success stays first in line until there is such an answer.
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

        All faults given here act on the same callback, one after the other: `DropBefore` and then `Forge`
        replaces the right callback by a forged one, `Forge` and then `Repeat` repeats both. They stay first
        in line until a callback comes to which all of them apply.

        Args:
            faults: what goes wrong; without any, the next callback is sent without a fault.
            times: the number of callbacks that the faults act on.

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

        This uses up a JWT in the request (client assertion, signed request, DPoP proof), even if a fault is
        planned: a client makes a new JWT for each attempt.

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
            if (polled := visit.authentication) is None:
                answer = self._answer(visit, refusal, fault)
            else:
                arrives = refusal is None and not isinstance(fault, DropBefore)
                visit.too_early = visit.arrived < polled.poll_due - GRANULARITY
                visit.overlapping = polled.in_flight > 0
                if arrives:
                    polled.poll_due = visit.arrived + polled.interval
                polled.in_flight += 1
                try:
                    answer = self._answer(visit, refusal, fault)
                finally:
                    polled.in_flight -= 1
                polled.wait_for(answer, self.now())
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
                    auth_req_id=visit.authentication.auth_req_id if visit.authentication else None,
                    too_early=visit.too_early,
                    overlapping=visit.overlapping,
                    replayed=visit.replayed,
                )
            )
            return answer

    def send(self, request: HttpRequest) -> HttpResponse:
        """Carry out an exchange in process, in place of an HTTP stack.

        Raises:
            AnswerDropped: a planned fault dropped the answer, or the answer took longer than the request's
                ``timeout`` by the clock (which then stands at the instant when the provider was done).
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

    # --- before acting: who asks, and for which authentication ----------------------------------------------

    def _admit(self, visit: Visit) -> Refusal | None:
        """Fill in the form, the client and the authentication polled; return the refusal, if there is one."""
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
                    self._check_possession(visit, client)  # no later request could name the key
            if visit.endpoint == "token":
                auth_req_id = visit.form.parameters.get("auth_req_id", "")
                visit.authentication = self._authentications.find(auth_req_id, client)
                self._check_possession(visit, client)
        except Refusal as refusal:
            return refusal
        return None

    def _check_possession(self, visit: Visit, client: SimulatedClient) -> None:
        """Check the DPoP proof of a request for tokens (RFC 9449 5)."""
        proofs = visit.header("dpop")
        if proofs:
            visit.jkt, visit.more_headers = self._dpop.check(
                proofs, method=visit.method, url=visit.url, now=visit.arrived
            )
        elif client.dpop_bound_access_tokens:
            raise Refusal("invalid_dpop_proof", "this client needs a DPoP proof")

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
                self._authentications.pause(seconds)
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
                if visit.authentication is not None:
                    visit.authentication.slow_down(visit.arrived)
                return json_reply(
                    {"error": "slow_down"},
                    status=status,
                    headers=self._retry_after(retry_after, http_date=http_date),
                )
            case _:
                assert_never(fault)

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
        return json_reply(metadata(self.issuer, self._clients, self.settings.authorization_details_types))

    def _jwks(self, visit: Visit) -> Reply:
        visit.outcome = "served"
        return json_reply({"keys": self._keys.public()}, cache_control=self.settings.jwks_cache_control)

    def _backchannel_authentication(self, visit: Visit) -> Reply:
        """Check an authentication request and acknowledge it (CIBA Core 7.1 to 7.3)."""
        client = _entitled(visit.client)
        parameters = visit.form.parameters
        # An ID Token binds pushed tokens together (CIBA Core 10.3.1).
        scope = read_scope(parameters, require_openid=self.settings.require_openid or client.is_pushed_to)
        token = read_notification_token(parameters, client)
        details = read_authorization_details(parameters, self.settings.authorization_details_types)
        acr = read_acr(parameters)
        lifetime = self.settings.expires_in
        if (requested := parameters.get("requested_expiry")) is not None:
            if not _EXPIRY.fullmatch(requested):
                raise Refusal("invalid_request", "requested_expiry: not a positive integer")
            lifetime = min(lifetime, int(requested))
        message = parameters.get("binding_message")
        if message is not None and not self._binding_message.fullmatch(message):
            raise Refusal("invalid_binding_message", "binding_message: too long, or unusual characters")
        hint, user = self._find_user(parameters)

        interval = self.settings.interval or _DEFAULT_INTERVAL
        visit.outcome = "acknowledged"
        auth_req_id = self._random_token(20)
        authentication = Authentication(
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
            poll_due=self.now() + interval if self.settings.throttle_first_poll else visit.arrived,
            jkt=visit.jkt,
            address=None if token is None else Address(client, auth_req_id, token),
        )
        visit.authentication = authentication
        acknowledgement: dict[str, object] = {
            "auth_req_id": auth_req_id,
            "expires_in": lifetime,
        }
        if self.settings.interval is not None and not client.is_pushed_to:  # CIBA Core 7.3
            acknowledgement["interval"] = self.settings.interval
        self._authentications.add(authentication)
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
        authentication = visit.authentication
        if authentication is None:
            raise Refusal("invalid_grant", "no such auth_req_id")
        try:
            return self._poll(visit, authentication)
        finally:
            self._authentications.was_polled(authentication)

    def _poll(self, visit: Visit, authentication: Authentication) -> Reply:
        over = authentication.redeemed or self.now() >= authentication.expires
        if visit.too_early and self.settings.throttle_early_polls and not over:
            authentication.slow_down(visit.arrived)
            raise Refusal("slow_down", "polled before the interval was over")
        self._authentications.hold(authentication)
        if authentication.redeemed:  # before this poll, or by another one while it was held
            visit.replayed = True
            raise Refusal("invalid_grant", "the tokens have been issued already")
        if self.now() >= authentication.expires:
            raise Refusal("expired_token", "the auth_req_id has expired")
        if not authentication.settled:
            raise Refusal("authorization_pending", "the user has not decided yet")
        if authentication.error is not None:
            raise Refusal(authentication.error, "the user denied the request")
        authentication.redeemed = True
        issued = self._tokens.issue(authentication.consent, now=self.now(), jkt=visit.jkt, twist=visit.twist)
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

    def _record(self, entry: JournalEntry) -> None:
        with self._lock:
            self._journal.append(entry)

    def _random_token(self, size: int) -> str:
        return base64.urlsafe_b64encode(self._entropy(size)).rstrip(b"=").decode()


def _entitled(client: SimulatedClient | None) -> SimulatedClient:
    if client is None or (CIBA_GRANT not in client.grant_types and not client.is_pushed_to):
        raise Refusal("unauthorized_client", "this client may not use CIBA")
    return client
