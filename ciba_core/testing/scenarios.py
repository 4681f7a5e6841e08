"""The scenarios of `check_driver`, and the duties that they check."""

from __future__ import annotations

import enum
import gzip
import itertools
import json
import threading
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol

from attrs import evolve, frozen

from ciba_core import (
    AuthenticationRequest,
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
)
from ciba_core.errors import (
    AccessDenied,
    AcknowledgementLost,
    AuthenticationExpired,
    AuthenticationRequestDenied,
    InvalidClient,
    RemoteProtocolError,
    TokenResponseLost,
    TransportError,
    UnknownUserId,
)
from ciba_core.states import Authenticated

from .journal import Endpoint
from .script import (
    Answer,
    Approve,
    Busy,
    CallbackFault,
    Delay,
    Deny,
    DropAfter,
    DropBefore,
    Fault,
    Ignore,
    Refuse,
    SlowDown,
    Truncate,
    User,
)
from .wire import Headers, Reply

__all__ = [
    "ALL_SCENARIOS",
    "BACKCHANNEL",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "ELSEWHERE",
    "NEVER_ANSWERED",
    "REQUEST",
    "TOKEN",
    "USER",
    "Duty",
    "Scenario",
    "Scene",
]


class Duty(enum.Enum):
    """What the core relies on a driver to do."""

    AS_IT_STANDS = "send each request as it stands, and no credentials or cookies beside it"
    ONCE = "send each request once, and nothing that no step asked for"
    ONE_AT_A_TIME = "wait for the answer before sending the next request (CIBA Core 10.1)"
    NO_REDIRECT = "follow no redirect"
    CERTIFICATE = "verify the provider's certificate"
    ANSWERS = "hand in every whole answer: any status, all header fields, the body without content coding"
    FAILURES = "report a request without a whole answer as failed, and as NOT_SENT only if nothing was sent"
    LIMIT = "read one octet more of a body than the limit, and no further"
    TIMEOUT = "give up when the timeout of the request is over"
    WAIT = "wait for the deadline, by a monotonic clock from when it was set, and no longer (CIBA Core 10.1)"
    ELAPSED = (
        "say, by a monotonic clock, how long an answer took from when its request left, or nothing of it"
        " (CIBA Core 10.1)"
    )
    NOW = "hand in the time of the wall clock with each input"
    ROUTE = "know the client_notification_token before the authentication request is sent (CIBA Core 7.3)"
    WAKE = "hand in a notification when it comes, and go on at once"
    ANSWER_FIRST = "answer a ping before the poll that it leads to (CIBA Core 10.2)"
    CALLBACKS = "answer every callback, and as the core says"
    FINISH = "feed the transaction until it is finished, and return it"


CLIENT_ID: Final = "s6BhdRkqt3:a+b"
CLIENT_SECRET: Final = "7Fjfp0ZB%r1K tDRbnfVdmIw"  # noqa: S105  # of nobody
USER: Final = "alice+ciba@example.com"
# Without `openid`: there is no ID Token, so no keys are needed and the wall clock may be wrong.
REQUEST: Final = AuthenticationRequest(
    scope="profile", openid=False, login_hint=USER, binding_message="W4SCT & 50 €"
)
BACKCHANNEL: Final = "/bc-authorize"
TOKEN: Final = "/token"  # noqa: S105  # a path
ELSEWHERE: Final = "/elsewhere"
_APPROVING: Final = Approve(after_polls=1)
_BASIC: Final = ClientSecretBasic(CLIENT_SECRET)
_JSON: Final = ("Content-Type", "application/json")


class Scene(Protocol):
    """What a twist may use of the running scenario."""

    overlapped: threading.Event
    """Set when two requests are under way."""
    closing: threading.Event
    """Set at the end."""

    def flood(self) -> Iterable[bytes]:
        """Return an endless body in pieces."""
        ...

    def drip(self, octets: bytes) -> Iterable[bytes]:
        """Return the octets again and again, slowly, until the end."""
        ...


Twist = Callable[[Scene, int, Headers, Reply], Reply]
"""Changes an answer: scene, number of the poll (0: the authentication request), header fields, answer."""


@frozen(kw_only=True)
class Scenario:
    """What happens to a driver, and the outcome that it has to reach."""

    name: str
    about: str
    ends: type
    """State, or class of the error, that the transaction has to end with."""
    duty: Duty
    """The duty that the driver neglected if the transaction ends otherwise."""
    waits: tuple[float | tuple[float, ...], ...] = ()
    """Virtual seconds from the beginning to the first poll, and from each poll to the next one. Where several
    values are right, all of them are listed."""
    waits_duty: Duty = Duty.WAIT
    """The duty that the driver neglected if a poll comes at another time."""
    ends_after: float | None = None
    """Virtual seconds that the whole scenario takes; ``None``: any number."""
    user: User | None = _APPROVING
    """``None``: the provider does not know the user."""
    faults: tuple[tuple[Endpoint, Fault], ...] = ()
    mode: Literal["poll", "ping", "push"] = "poll"
    callback_faults: tuple[CallbackFault, ...] = ()
    """What goes wrong with the one callback."""
    answers: tuple[int, ...] = ()
    """The statuses that callbacks are to be answered with."""
    twist: Twist | None = None
    wall_clock: tuple[tuple[float, float], ...] = ()
    """When the wall clock is set (virtual seconds), and by how many seconds."""
    expires_in: int = 600
    timeout: float = 40.0
    authentication: ClientAuthentication = _BASIC
    resumed: Literal["", "unacknowledged", "overdue", "in flight"] = ""
    """The situation in which the transaction was stored; empty: it is a new one."""
    refused_until: float = 0.0
    """Virtual seconds for which the token endpoint refuses connections."""
    connecting: float = 0.0
    """Virtual seconds that the first connection to the token endpoint takes, from the first poll on."""
    tls: bool = False
    """Whether the provider speaks TLS, with a certificate that the machine does not trust."""

    @property
    def request(self) -> AuthenticationRequest:
        """The authentication request; for push with ``openid``, since a push has to have an ID Token."""
        return evolve(REQUEST, scope="openid profile", openid=True) if self.mode == "push" else REQUEST


def _error(status: int, code: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, json.dumps({"error": code}).encode(), (_JSON, *headers))


def _redirect(status: int) -> Answer:
    return Answer(status, b"", (("Location", ELSEWHERE),))


def _set_cookie(_scene: Scene, _poll: int, _headers: Headers, reply: Reply) -> Reply:
    return _with_header(reply, "Set-Cookie", "session=1; Path=/")


def _compress(_scene: Scene, _poll: int, headers: Headers, reply: Reply) -> Reply:
    """Compress the answer if the driver, or its stack, has asked for that."""
    if not any(name.lower() == "accept-encoding" and "gzip" in value for name, value in headers):
        return reply
    return evolve(_with_header(reply, "Content-Encoding", "gzip"), body=gzip.compress(reply.body))


def _in_chunks(_scene: Scene, _poll: int, _headers: Headers, reply: Reply) -> Reply:
    return evolve(reply, body=b"", stream=(reply.body[:10], reply.body[10:]))


def _flood(scene: Scene, poll: int, _headers: Headers, reply: Reply) -> Reply:
    """Answer the first poll with a token response whose body never ends."""
    if poll != 1:
        return reply
    tokens = {"access_token": "x", "token_type": "Bearer"}
    return Reply(200, (_JSON,), json.dumps(tokens).encode(), stream=scene.flood())


def _silence(scene: Scene, poll: int, _headers: Headers, reply: Reply) -> Reply:
    """Leave the first poll without an answer."""
    if poll == 1:
        scene.closing.wait()
    return reply


def _drip_body(scene: Scene, poll: int, _headers: Headers, reply: Reply) -> Reply:
    """Send the body of the answer to the first poll one octet after the other, without an end."""
    return evolve(reply, body=b"", stream=scene.drip(b" ")) if poll == 1 else reply


def _drip_head(scene: Scene, poll: int, _headers: Headers, reply: Reply) -> Reply:
    """Send the head of the answer to the first poll one octet after the other, without an end."""
    before = itertools.chain((b"HTTP/1.1 200 OK\r\nX-Long: ",), scene.drip(b"x"))
    return evolve(reply, before=before) if poll == 1 else reply


def _interim(scene: Scene, poll: int, _headers: Headers, reply: Reply) -> Reply:
    """Send interim answers to the first poll, and no other."""
    return evolve(reply, before=scene.drip(b"HTTP/1.1 100 Continue\r\n\r\n")) if poll == 1 else reply


NEVER_ANSWERED: Final = (_silence, _drip_body, _drip_head, _interim)
"""The twists that leave the first poll without an answer until the scenario ends."""


def _hold(scene: Scene, poll: int, _headers: Headers, reply: Reply) -> Reply:
    """Give another request the time to arrive beside the first poll."""
    if poll == 1:
        scene.overlapped.wait(0.1)
    return reply


def _with_header(reply: Reply, name: str, value: str) -> Reply:
    return evolve(reply, headers=(*reply.headers, (name, value)))


ALL_SCENARIOS: Final = (
    # How it ends.
    Scenario(
        name="approved",
        about="The user approves after two polls.",
        user=Approve(after_polls=2),
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(5, 5, 5),
    ),
    Scenario(
        name="denied",
        about="The user denies after one poll; the answer has status 400.",
        user=Deny(after_polls=1),
        ends=AccessDenied,
        duty=Duty.ANSWERS,
        waits=(5, 5),
    ),
    Scenario(
        name="denied_403",
        about="As denied, with status 403.",
        faults=(("token", _error(403, "access_denied")),),
        ends=AccessDenied,
        duty=Duty.ANSWERS,
        waits=(5,),
    ),
    Scenario(
        name="expired",
        about="The user does nothing, and time runs out between two polls.",
        user=Ignore(),
        expires_in=12,
        ends=AuthenticationExpired,
        duty=Duty.FINISH,
        waits=(5, 5),
        ends_after=12,
    ),
    Scenario(
        name="refused",
        about="The authentication request is refused with status 400.",
        user=None,
        ends=UnknownUserId,
        duty=Duty.ANSWERS,
    ),
    Scenario(
        name="refused_403",
        about="The authentication request is refused with status 403.",
        user=Refuse(),
        ends=AuthenticationRequestDenied,
        duty=Duty.ANSWERS,
    ),
    Scenario(
        name="client_refused",
        about="The client's credentials are refused with status 401 and a challenge.",
        faults=(("token", _error(401, "invalid_client", ("WWW-Authenticate", 'Basic realm="x"'))),),
        ends=InvalidClient,
        duty=Duty.ANSWERS,
        waits=(5,),
    ),
    # When to poll.
    Scenario(
        name="slow_down",
        about="The provider asks for longer intervals.",
        faults=(("token", SlowDown()),),
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(5, 10, 10),
    ),
    Scenario(
        name="retry_after",
        about="The provider is busy and says for how many seconds.",
        faults=(("token", Busy(retry_after=30)), ("token", Busy(retry_after=20, status=429))),
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(5, 30, 20, 5),
        waits_duty=Duty.ANSWERS,
    ),
    Scenario(
        name="retry_after_date",
        about="The provider is busy and says until when.",
        faults=(("token", Busy(retry_after=30, http_date=True)),),
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(5, 30, 5),
        waits_duty=Duty.ANSWERS,
    ),
    Scenario(
        name="retry_after_pending",
        about="A pending answer says when to ask again.",
        faults=(("token", _error(400, "authorization_pending", ("Retry-After", "40"))),),
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(5, 40, 5),
        waits_duty=Duty.ANSWERS,
    ),
    Scenario(
        name="long_poll",
        about="The provider holds a poll for 20 seconds, and one for 3.",
        user=Approve(after_polls=2),
        faults=(("token", Delay(20)), ("token", Delay(3))),
        ends=Authenticated,
        duty=Duty.ELAPSED,
        # A driver that cannot tell when a request left counts the interval from the answer.
        waits=(5, (20, 25), 8),
        waits_duty=Duty.ELAPSED,
    ),
    Scenario(
        name="wall_clock_while_waiting",
        about="The wall clock is set one hour forward, then two hours back, in the midst of waits.",
        user=Approve(after_polls=2),
        expires_in=20_000,
        wall_clock=((2.6, 3600), (7.6, -7200)),
        ends=Authenticated,
        duty=Duty.WAIT,
        waits=(5, 5, 5),
    ),
    Scenario(
        name="wall_clock_forward",
        about="The wall clock is set one hour forward while a poll is under way.",
        faults=(("token", Delay(3)),),
        expires_in=20_000,
        wall_clock=((6, 3600),),
        ends=Authenticated,
        duty=Duty.ELAPSED,
        waits=(5, 8),
        waits_duty=Duty.ELAPSED,
    ),
    Scenario(
        name="wall_clock_back",
        about="The wall clock is set one hour back while a poll is under way.",
        faults=(("token", Delay(3)),),
        wall_clock=((6, -3600),),
        ends=Authenticated,
        duty=Duty.ELAPSED,
        waits=(5, 8),
        waits_duty=Duty.ELAPSED,
    ),
    Scenario(
        name="slow_connection",
        about="The connection for the first poll takes 8 seconds, and the answer none.",
        connecting=8,
        ends=Authenticated,
        duty=Duty.ELAPSED,
        waits=(13, 5),
        waits_duty=Duty.ELAPSED,
    ),
    # What goes wrong on the way.
    Scenario(
        name="connection_refused",
        about="Nobody listens at the token endpoint for the first poll.",
        refused_until=6,
        ends=Authenticated,
        duty=Duty.FAILURES,
        waits=(10, 5),
    ),
    Scenario(
        name="connection_lost",
        about="The connection is lost before the answer to a poll.",
        faults=(("token", DropBefore()),),
        ends=Authenticated,
        duty=Duty.FAILURES,
        waits=(5, 5, 5),
    ),
    Scenario(
        name="answer_cut",
        about="The connection is reset in the middle of the answer to a poll.",
        faults=(("token", Truncate(10)),),
        ends=Authenticated,
        duty=Duty.FAILURES,
        waits=(5, 5),
    ),
    Scenario(
        name="answer_short",
        about="The connection is closed in the middle of the answer to a poll.",
        faults=(("token", Truncate(10, reset=False)),),
        ends=Authenticated,
        duty=Duty.FAILURES,
        waits=(5, 5),
    ),
    Scenario(
        name="tokens_lost",
        about="The answer with the tokens is lost, and the provider does not issue them again.",
        user=Approve(),
        faults=(("token", DropAfter()),),
        ends=TokenResponseLost,
        duty=Duty.FAILURES,
        waits=(5, 5),
    ),
    Scenario(
        name="acknowledgement_lost",
        about="The answer to the authentication request is lost; the user may have been asked.",
        faults=(("backchannel_authentication", DropAfter()),),
        ends=AcknowledgementLost,
        duty=Duty.FAILURES,
    ),
    Scenario(
        name="acknowledgement_short",
        about="The connection is closed in the middle of the answer to the authentication request.",
        faults=(("backchannel_authentication", Truncate(10, reset=False)),),
        ends=AcknowledgementLost,
        duty=Duty.FAILURES,
    ),
    Scenario(
        name="answer_late",
        about="The answer to a poll does not come in the time that the request allows.",
        twist=_silence,
        timeout=0.3,
        ends=Authenticated,
        duty=Duty.FAILURES,
        waits=(5, 5),
    ),
    Scenario(
        name="dripping_head",
        about="The header of the answer to a poll comes octet by octet, for longer than the request allows.",
        twist=_drip_head,
        timeout=0.3,
        ends=Authenticated,
        duty=Duty.FAILURES,
        waits=(5, 5),
    ),
    Scenario(
        name="dripping_body",
        about="The body of the answer to a poll comes octet by octet, for longer than the request allows.",
        twist=_drip_body,
        timeout=0.3,
        ends=Authenticated,
        duty=Duty.FAILURES,
        waits=(5, 5),
    ),
    Scenario(
        name="endless_interim",
        about="There are interim answers (100) to a poll, for longer than the request allows, and no other.",
        twist=_interim,
        timeout=0.3,
        ends=Authenticated,
        duty=Duty.FAILURES,
        waits=(5, 5),
    ),
    Scenario(
        name="busy",
        about="The provider answers 503, and a gateway before it 502 with a page in HTML.",
        faults=(
            ("token", Busy()),
            ("token", Answer(502, b"<html>Bad Gateway</html>", (("Content-Type", "text/html"),))),
        ),
        ends=Authenticated,
        duty=Duty.ANSWERS,
        waits=(5, 5, 10, 5),
    ),
    Scenario(
        name="endless_answer",
        about="The answer to a poll does not end.",
        twist=_flood,
        ends=Authenticated,
        duty=Duty.LIMIT,
        waits=(5, 5),
        waits_duty=Duty.LIMIT,
    ),
    # What it must not do.
    Scenario(
        name="redirected_poll",
        about="The token endpoint redirects (307).",
        faults=(("token", _redirect(307)),),
        ends=RemoteProtocolError,
        duty=Duty.NO_REDIRECT,
        waits=(5,),
    ),
    Scenario(
        name="redirected_poll_302",
        about="The token endpoint redirects (302).",
        faults=(("token", _redirect(302)),),
        ends=RemoteProtocolError,
        duty=Duty.NO_REDIRECT,
        waits=(5,),
    ),
    Scenario(
        name="redirected_authentication",
        about="The backchannel authentication endpoint redirects (307).",
        faults=(("backchannel_authentication", _redirect(307)),),
        ends=RemoteProtocolError,
        duty=Duty.NO_REDIRECT,
    ),
    Scenario(
        name="one_at_a_time",
        about="The provider takes its time, and another request would arrive meanwhile.",
        twist=_hold,
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(5, 5),
    ),
    Scenario(
        name="credentials_in_form",
        about="The client authenticates in the form, so that no Authorization is in order.",
        authentication=ClientSecretPost(CLIENT_SECRET),
        ends=Authenticated,
        duty=Duty.AS_IT_STANDS,
        waits=(5, 5),
    ),
    Scenario(
        name="cookies",
        about="The provider sets cookies, which are not to come back.",
        twist=_set_cookie,
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(5, 5),
    ),
    Scenario(
        name="compressed",
        about="Answers are compressed if the driver or its stack asked for that.",
        twist=_compress,
        ends=Authenticated,
        duty=Duty.ANSWERS,
        waits=(5, 5),
    ),
    Scenario(
        name="chunked",
        about="Answers are in chunked coding.",
        twist=_in_chunks,
        ends=Authenticated,
        duty=Duty.ANSWERS,
        waits=(5, 5),
    ),
    Scenario(
        name="untrusted_certificate",
        about="The machine does not trust the signer of the provider's certificate.",
        tls=True,
        ends=TransportError,
        duty=Duty.CERTIFICATE,
    ),
    # After a restart.
    Scenario(
        name="resumed_in_flight",
        about="The process had ended while a poll was under way.",
        resumed="in flight",
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(5,),
    ),
    Scenario(
        name="resumed_overdue",
        about="The process had ended in a wait that is over by now.",
        resumed="overdue",
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(0, 5),
    ),
    Scenario(
        name="resumed_unacknowledged",
        about="The process had ended before the authentication request was acknowledged.",
        resumed="unacknowledged",
        ends=AcknowledgementLost,
        duty=Duty.ONCE,
    ),
)
