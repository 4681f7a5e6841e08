"""The callbacks of ping and push mode: their contents, when they are sent, and their faults."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any, Final, assert_never

from attrs import define, evolve, field, frozen

from .clock import SchedulingClock
from .journal import JournalEntry
from .script import (
    BadIdToken,
    BeforeAcknowledgement,
    CallbackFault,
    Delay,
    DropBefore,
    Forge,
    Forgery,
    Overtaken,
    Repeat,
    SimulatedClient,
)
from .wire import Headers

__all__ = ["Address", "Callback", "News", "Notifier", "Outbox", "in_background", "never"]

_SLICE: Final = 0.01
_JSON: Final = ("Content-Type", "application/json")


@frozen
class Callback:
    """A request to a client notification endpoint (CIBA Core 10.2, 10.3.1 and 12)."""

    url: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    auth_req_id: str = field(repr=False)
    """The transaction that the callback is sent for, even if its contents name another one."""
    due: float
    """When it is to be sent, in POSIX seconds by the provider's clock."""
    method: str = "POST"


Notifier = Callable[[Callback], int | Future[int | None] | None]
"""Delivers a callback and returns the status of the answer; ``None``: there was none.

If the answer comes later, it returns a future. A client that is called before it has the acknowledgement, or
that has to fetch keys first, may need the thread in which the notifier is called.
"""


def never() -> bool:
    """Return ``False``."""
    return False


def in_background(
    function: Callable[[], int | None], patience: float, *, enough: Callable[[], bool] = never
) -> int | Future[int | None] | None:
    """Call a function in a thread of its own; return a future if the call does not end in time.

    An exception of the function is raised here, or by the future.

    Args:
        function: what to call.
        patience: real seconds to wait for it.
        enough: tells whether to stop waiting early.

    """
    status = Future[int | None]()

    def work() -> None:
        try:
            status.set_result(function())
        except BaseException as error:  # noqa: BLE001  # raised where the result is asked for
            status.set_exception(error)

    threading.Thread(target=work, name="callback", daemon=True).start()
    end = time.monotonic() + patience
    while not wait([status], min(patience, _SLICE)).done and time.monotonic() < end and not enough():
        pass
    return status.result() if status.done() else status


@frozen
class Address:
    """How a client is told of one transaction."""

    client: SimulatedClient
    auth_req_id: str
    token: str
    """The ``client_notification_token``."""


@frozen
class News:
    """A decision or an expiry that a client hears of."""

    address: Address
    error: str | None
    """The error to push; ``None``: the user has approved."""
    issue: Callable[[BadIdToken | None], Mapping[str, object]]
    """Issues the tokens to push when the user has approved."""

    def members(self, *, push: bool, bad: BadIdToken | None = None) -> dict[str, object]:
        """Return the members of the body."""
        members: dict[str, object] = {"auth_req_id": self.address.auth_req_id}
        if push:
            members |= self.issue(bad) if self.error is None else {"error": self.error}
        return members


@frozen
class _Parcel:
    """A callback that is to be sent."""

    address: Address
    headers: Headers
    body: bytes
    outcome: str
    fault: CallbackFault | None = None
    delay: float = 0.0
    lost: bool = False
    kept_back: bool = False


@define(eq=False)
class Outbox:
    """The callbacks of a provider.

    Call the methods with the provider's lock held. Call what `post` returns or schedules without the lock: it
    takes time.
    """

    clock: SchedulingClock
    now: Callable[[], float]
    deliver: Notifier
    random_token: Callable[[int], str]
    record: Callable[[JournalEntry], None]
    """Adds to the journal; called without the lock."""
    faults: list[tuple[CallbackFault, ...]] = field(init=False, factory=list[tuple[CallbackFault, ...]])
    """What goes wrong with the next callbacks: all faults of a tuple with the same one."""
    _addresses: list[Address] = field(init=False, factory=list[Address])
    _kept_back: list[_Parcel] = field(init=False, factory=list[_Parcel])

    def register(self, address: Address) -> None:
        """Note the address of a new transaction."""
        self._addresses.append(address)

    def goes_ahead(self, news: News) -> bool:
        """Tell whether to send these news before the acknowledgement of their transaction."""
        return (
            bool(self.faults)
            and any(isinstance(fault, BeforeAcknowledgement) for fault in self.faults[0])
            and self._all_apply(news, ahead=True)
        )

    def post(self, news: News, *, ahead: bool = False) -> list[Callable[[], None]]:
        """Schedule the callbacks that are due because of some news.

        Args:
            news: what is to be told.
            ahead: whether the acknowledgement has not been sent yet.

        Returns:
            what the caller has to do before it sends the acknowledgement.

        """
        parcels = self._disturb(news, self._take_faults(news, ahead=ahead))
        self._kept_back, parcels = (
            [*self._kept_back, *(parcel for parcel in parcels if parcel.kept_back)],
            [parcel for parcel in parcels if not parcel.kept_back],
        )
        if parcels:
            last = max(parcel.delay for parcel in parcels)
            parcels += [evolve(parcel, delay=last) for parcel in self._kept_back]
            self._kept_back = []
        first: list[Callable[[], None]] = []
        for parcel in parcels:
            send = functools.partial(self._send, parcel, self.now() + parcel.delay)
            if ahead and not parcel.delay:
                first.append(send)
            else:
                self.clock.call_at(self.clock.monotonic() + parcel.delay, send)
        return first

    def _send(self, parcel: _Parcel, due: float) -> None:
        """Send a callback and note the outcome."""
        sent = self.now()
        callback = Callback(
            url=parcel.address.client.backchannel_client_notification_endpoint or "",
            headers=parcel.headers,
            body=parcel.body,
            auth_req_id=parcel.address.auth_req_id,
            due=due,
        )
        answer = None if parcel.lost else self.deliver(callback)
        if isinstance(answer, Future):
            answer.add_done_callback(lambda done: self._note(parcel, sent, _status(done)))
        else:
            self._note(parcel, sent, answer)

    def _note(self, parcel: _Parcel, sent: float, status: int | None) -> None:
        self.record(
            JournalEntry(
                endpoint="client_notification",
                arrived=sent,
                answered=self.now(),
                outcome="dropped" if parcel.lost else parcel.outcome,
                status=status,
                fault=parcel.fault,
                client_id=parcel.address.client.client_id,
                auth_req_id=parcel.address.auth_req_id,
            )
        )

    # --- faults ------------------------------------------------------------------------------------------

    def _take_faults(self, news: News, *, ahead: bool) -> tuple[CallbackFault, ...]:
        """Return the faults for a callback: the first planned ones, unless they do not apply to it."""
        return self.faults.pop(0) if self.faults and self._all_apply(news, ahead=ahead) else ()

    def _all_apply(self, news: News, *, ahead: bool) -> bool:
        return all(self._applies(fault, news, ahead=ahead) for fault in self.faults[0])

    def _applies(self, fault: CallbackFault, news: News, *, ahead: bool) -> bool:
        match fault:
            case BeforeAcknowledgement():
                return ahead
            case BadIdToken():
                return news.address.client.is_pushed_to and news.error is None
            case Forge("foreign_token" | "foreign_auth_req_id"):
                return self._foreign(news.address) is not None
            case _:
                return True

    def _foreign(self, address: Address) -> Address | None:
        return next((other for other in reversed(self._addresses) if other is not address), None)

    def _disturb(self, news: News, faults: tuple[CallbackFault, ...]) -> list[_Parcel]:
        """Return the callbacks to send instead of one; each fault acts on the result of those before."""
        push = news.address.client.is_pushed_to
        members = news.members(push=push)
        outcome = "ping" if not push else "tokens" if news.error is None else news.error
        right = _parcel(news.address, members, outcome)
        parcels = [right]
        for fault in faults:
            match fault:
                case BeforeAcknowledgement():
                    pass
                case Delay(seconds):
                    parcels = [evolve(one, fault=fault, delay=one.delay + seconds) for one in parcels]
                case DropBefore():
                    parcels = [evolve(one, fault=fault, lost=True) for one in parcels]
                case Overtaken():
                    parcels = [evolve(one, fault=fault, kept_back=True) for one in parcels]
                case Repeat(times, every):
                    parcels += [
                        evolve(one, fault=fault, delay=one.delay + number * every)
                        for number in range(1, times + 1)
                        for one in parcels
                    ]
                case BadIdToken():
                    bad = _parcel(news.address, news.members(push=True, bad=fault), "forged", fault)
                    parcels = [bad, *parcels]
                case Forge(what):
                    parcels = [self._forge(what, news, right, members, fault), *parcels]
                case _:
                    assert_never(fault)
        return parcels

    def _forge(
        self, what: Forgery, news: News, right: _Parcel, members: Mapping[str, object], fault: Forge
    ) -> _Parcel:
        parcel = evolve(right, outcome="forged", fault=fault)
        address = news.address
        foreign = self._foreign(address) or address
        match what:
            case "wrong_token":
                return evolve(parcel, headers=(_bearer(self.random_token(32)), _JSON))
            case "foreign_token":
                return evolve(parcel, headers=(_bearer(foreign.token), _JSON))
            case "no_token":
                return evolve(parcel, headers=(_JSON,))
            case "two_tokens":
                return evolve(parcel, headers=(_bearer(address.token), *parcel.headers))
            case "foreign_auth_req_id":
                other: object = foreign.auth_req_id
            case "unknown_auth_req_id":
                other = self.random_token(20)
            case "numeric_auth_req_id":
                other = 1701
            case "other_mode":
                return evolve(parcel, body=_encode(news.members(push=not address.client.is_pushed_to)))
            case "error_and_tokens":
                token = {"access_token": self.random_token(32), "token_type": "Bearer"}
                return evolve(parcel, body=_encode({**token, **members, "error": "access_denied"}))
            case "broken_json":
                return evolve(parcel, body=parcel.body[:-1])
            case "repeated_member":
                return evolve(parcel, body=parcel.body[:-1] + b', "auth_req_id": "x"}')
            case "not_utf8":
                return evolve(parcel, body=parcel.body[:-1] + b', "x": "\xff"}')
            case _:
                assert_never(what)
        return evolve(parcel, body=_encode({**members, "auth_req_id": other}))


def _status(done: Future[int | None]) -> int | None:
    return None if done.cancelled() or done.exception() is not None else done.result()


def _bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def _encode(members: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(members)).encode()


def _parcel(
    address: Address, members: Mapping[str, object], outcome: str, fault: CallbackFault | None = None
) -> _Parcel:
    return _Parcel(address, (_bearer(address.token), _JSON), _encode(members), outcome, fault)
