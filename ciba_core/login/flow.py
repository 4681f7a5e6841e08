"""The login that keeps its state: what is stored when, and which process may go on with it. A pure flow.

`LoginFlow` decides, and does nothing itself. Each of its methods returns a generator that yields wishes. The
driver fulfils each wish and sends the outcome back; at the end the generator returns the result::

    def run(flow):
        answer = None
        while True:
            try:
                wish = flow.send(answer)
            except StopIteration as end:
                return end.value
            match wish:
                case Load() | Save() | Release():
                    try:
                        answer = wish.ask(stores, store_options)  # awaited, where the store's methods are
                    except Exception as error:
                        answer = StoreFailed(error)
                case Advance():
                    answer = step(wish.transaction, wish.happened, time.time(), shared)
                    shared = answer.shared
                case Act():
                    answer = ...  # send `wish.step.request`, or wait `wish.seconds`: an input for `step`
                case Pause():
                    answer = time.sleep(wish.seconds)
                case Now():
                    answer = time.time()
                case _:
                    assert_never(wish)

The rules:

1. Each step is stored before its request is sent. While a save is outstanding nothing is sent. If the save
   took so long that other processes may think this one dead, the request is not sent; a new one is made.
2. A save is a claim: it takes effect only on the revision that was seen last. When two processes go on with
   one login, one of them gets through, and the other one has sent nothing.
3. A save that failed is tried again, with growing pauses, for as long as the login lives; before the user was
   asked, for some seconds only. If the store's answer to an earlier try was lost, a conflict with that try
   counts as saved.
4. The tokens go into the session before the login's record lets go of them.
5. A conflict does not make this process give up an answer that it has received. It stores tokens over the
   other process's state of the same login, unless that state has tokens too. It stores an acknowledgement
   over a state that says the acknowledgement was lost.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Generator
from typing import Any, Final, Literal, TypeVar, cast

from attrs import evolve, field, frozen

from ciba_core.client.request import AuthenticationRequest
from ciba_core.jose.encoding import base64url
from ciba_core.login.records import MARGIN, LoginRecords, Session, StoredLogin
from ciba_core.login.stores import AsyncStores, Claimed, StoredCallback, StoredRecord, Stores
from ciba_core.tokens.errors import AuthenticationCancelled
from ciba_core.tokens.issued import TokenResponse
from ciba_core.transaction.inputs import (
    Begin,
    Cancel,
    Input,
    NotificationReceived,
    RequestFailed,
    Resumed,
    SigningFailed,
    TimerFired,
)
from ciba_core.transaction.states import AwaitingCallback, AwaitingKeys, FetchingKeys
from ciba_core.transaction.transaction import Step, Transaction
from ciba_core.values.errors import (
    AcknowledgementLost,
    LoginUnderWay,
    NoPendingLogin,
    StoreConflict,
    StoreError,
    StoreUnavailable,
)
from ciba_core.values.http import Delivery
from ciba_core.values.secret import Secret

__all__ = [
    "Act",
    "Advance",
    "Answer",
    "Flow",
    "Left",
    "Load",
    "LoginFlow",
    "Now",
    "Pause",
    "Release",
    "Save",
    "StoreFailed",
    "Waiting",
    "Wish",
]

PATIENCE: Final = 30.0
"""Least seconds for which a failing save is tried again once the user was asked. Also the seconds that a
process which waits by itself gets to go on before other processes may take its login over."""
FIRST_PAUSE: Final = 0.1
"""Seconds before the second try of a save; each further pause is twice as long."""
LONGEST_PAUSE: Final = 5.0
LISTEN: Final = 2.0
"""Seconds between two looks at the record while waiting for a callback: another process may receive it."""
LOOK: Final = 1.0
"""Seconds between two looks at the record while waiting for another process."""

Place = Literal["transactions", "sessions"]


@frozen
class Load:
    """Load a record; answered by it, by ``None`` where there is none, or by `StoreFailed`."""

    place: Place
    """Which of the two stores."""
    key: str

    def ask(
        self, stores: Stores | AsyncStores, store_options: Any
    ) -> StoredRecord | Awaitable[StoredRecord | None] | None:
        """Ask the store; an async store returns an awaitable."""
        return _store(stores, self.place).load(self.key, store_options=store_options)  # type: ignore[no-any-return]


@frozen(kw_only=True)
class Save:
    """Save a record; answered by its new revision, or by `StoreFailed`."""

    place: Place
    """Which of the two stores."""
    key: str
    text: str = field(repr=False)
    expected_revision: str | None
    revision: str
    """Name of the new state, for stores that let the caller choose it."""
    forget_at: float | None = None
    """POSIX instant, for stores that have no clock of their own to count by."""
    forget_after: float | None = None
    """The same in seconds from now; the spans below are in seconds, too."""
    wake_after: float | None = None
    lease: float = 0.0
    taken: tuple[str, ...] = ()
    """Identifiers of the callbacks that this text takes into account."""

    def ask(self, stores: Stores | AsyncStores, store_options: Any) -> str | Awaitable[str]:
        """Ask the store, as `Load.ask`; a store that cannot claim gets only the arguments that it knows."""
        store = _store(stores, self.place)
        options: dict[str, Any] = {
            "expected_revision": self.expected_revision,
            "store_options": store_options,
        }
        if hasattr(store, "claim"):
            options |= {
                "forget_at": None,
                "revision": self.revision,
                "wake_after": self.wake_after,
                "lease": self.lease,
                "forget_after": self.forget_after,
                "taken": self.taken,
            }
        else:
            options["forget_at"] = self.forget_at
        return store.save(self.key, self.text, **options)  # type: ignore[no-any-return]


@frozen(kw_only=True)
class Release:
    """Give a login back that was claimed and not saved; answered by whether it was still ours."""

    key: str
    revision: str
    wake_after: float | None

    def ask(self, stores: Stores | AsyncStores, store_options: Any) -> bool | Awaitable[bool]:
        """Ask the store for logins, as `Load.ask`."""
        store: Any = stores.transactions
        return store.release(  # type: ignore[no-any-return]
            self.key, self.revision, wake_after=self.wake_after, store_options=store_options
        )


@frozen
class Advance:
    """Feed an input to `ciba_core.step`, with the time and the shared state; answered by the `Step`."""

    transaction: Transaction
    happened: Input


@frozen
class Act:
    """Act on a step that was stored: send its request, have its draft signed, or wait.

    Answered by the resulting input; a wait can also be answered by `Left`.
    """

    step: Step
    seconds: float | None
    """How long to wait for a callback or for ``transaction.deadline``. For a draft: how long its signatures
    are of use. ``None``: without limit."""
    is_part: bool = False
    """Whether `seconds` is only a part of the wait: at its end the answer is ``None``, not `TimerFired`."""


@frozen
class Pause:
    """Let so many seconds pass; answered by ``None``, or by `Left` or `Cancel` if the caller ends it."""

    seconds: float
    may_leave: bool = True
    """Whether the caller can leave during this pause. The caller can always cancel."""


@frozen
class Now:
    """Tell the time; answered by POSIX seconds."""


@frozen
class Left:
    """The caller stops waiting; the login itself goes on."""


@frozen
class StoreFailed:
    """A store raised an exception."""

    error: Exception


Wish = Load | Save | Release | Advance | Act | Pause | Now
Answer = StoredRecord | str | bool | Step | Input | float | Left | StoreFailed | None
"""The answers to wishes; each wish says which of them it gets."""
ResultT = TypeVar("ResultT")
Flow = Generator[Wish, Answer, ResultT]


@frozen
class Waiting:
    """A login for which there is nothing to do just now."""

    wake_at: float
    """POSIX instant at which there will be something to do, by the clock of this process."""
    seconds: float = field(eq=False)
    """Seconds until that instant. Where clocks differ, this counts."""


@frozen
class _Held:
    """A login as it was loaded or saved last."""

    login: StoredLogin
    revision: str | None
    callbacks: tuple[StoredCallback, ...] = ()
    """Callbacks that came for the login and that it does not take into account yet."""


@frozen(kw_only=True)
class LoginFlow:
    """The logins of one session key: each method is a generator of wishes.

    Each generator raises what the client's method of the same name documents. Close a generator that is not
    run to its end; the next one goes on with the stored state.
    """

    records: LoginRecords
    can_claim: bool = False
    """Whether the store for logins is a `ClaimingStore`."""
    as_requested: bool = False
    """Accept only what was requested."""

    # --- what a client offers ---------------------------------------------------------------------------

    def login(self, request: AuthenticationRequest) -> Flow[Session | Waiting]:
        """Begin a login and see it through; `Waiting` if the wait was left."""
        return (yield from self._go_on(*(yield from self._begin(request))))

    def start(self, request: AuthenticationRequest) -> Flow[Session | Waiting]:
        """Begin a login and stop when its acknowledgement is stored."""
        return (yield from self._go_on(*(yield from self._begin(request)), polls=0))

    def adopt(self, transaction: Transaction) -> Flow[Session | Waiting]:
        """Store a transaction that was kept elsewhere as a login; of several processes, one succeeds."""
        found = yield from self._load()
        if found is not None:
            found.login.check_over((yield from self._now()))
            if found.login.id == _origin(transaction):
                raise LoginUnderWay("session_key: this transaction was stored as a login before")
        login = StoredLogin(id=_origin(transaction), transaction=None)
        current = yield from self._advance(transaction, Resumed())
        held = _Held(login, None if found is None else found.revision)
        return (yield from self._go_on(held, current, polls=transaction.polls))

    def resume(self) -> Flow[Session | Waiting]:
        """Go on with a login and see it through; another process that waits for it has to stop."""
        held = yield from self._load()
        now = yield from self._now()
        if held is not None and (seconds := held.login.seconds_busy(now)):
            if (yield from self._pause(seconds)):
                return Waiting(now + seconds, seconds)
            seen, held = held.revision, (yield from self._load())
            changed = held is None or held.revision != seen
            if changed and not (held is not None and held.login.is_finished):
                raise StoreConflict("another process is going on with this login")
        return (yield from self._resumed(_found(held)))

    def advance(self, claimed: Claimed | None = None) -> Flow[Session | Waiting]:
        """Do what is due for a login and nothing else; at most one poll.

        Args:
            claimed: the login, if the store handed it out. If there is nothing to save, the login is given
                back.

        """
        held = _found((yield from (self._load() if claimed is None else self._open(claimed.record))))
        login, now = held.login, (yield from self._now())
        if login.transaction is None or login.transaction.is_finished:
            return (yield from self._finish(held))
        # A claim succeeds only after the previous holder's lease is over, so nobody else is busy with it.
        left = 0.0 if claimed is not None else login.seconds_busy(now)
        if left == 0.0 and not held.callbacks:
            left = login.seconds_to_wait(now)
        if left == 0.0:
            return (yield from self._resumed(held, polls=login.transaction.polls + 1))
        if claimed is not None:
            yield Release(key=claimed.key, revision=claimed.record.revision, wake_after=left)
        return Waiting(now + left, left)

    def ensure(self, request: AuthenticationRequest) -> Flow[Session | Waiting]:
        """Return the stored session, or that of the login under way; if there is neither, begin a login."""
        while True:
            session = yield from self.load_session()
            if session is not None:
                return session
            held = yield from self._load()
            try:
                if held is not None and not _is_over(held.login, (yield from self._now())):
                    return (yield from self._join(held))
                held, current = yield from self._first(request, held)
                now = yield from self._now()
                held = yield from self._save_step(held, current, lives=True)
                # The record is ours now: nobody else can begin a login. But another login may have ended
                # meanwhile.
                session = yield from self.load_session()
                if session is None:
                    return (yield from self._go_on(held, current, saved_since=now))
                ended = evolve(held.login, id=session.login, busy_for=0.0).stored()
                yield from self._save_login(evolve(held, login=ended))
            except StoreConflict:
                continue  # Another process was quicker: look at its login.
            return session

    def load_session(self) -> Flow[Session | None]:
        """Return the session, if there is one."""
        record = yield from self._ask_for("sessions")
        return None if record is None else self.records.unseal_session(record)

    def renew_session(self, session: Session, tokens: TokenResponse) -> Flow[Session]:
        """Store refreshed tokens in the place of a session's own."""
        return (yield from self._save_session(session.renewed(tokens), None))

    # --- the parts --------------------------------------------------------------------------------------

    def _begin(self, request: AuthenticationRequest) -> Flow[tuple[_Held, Step]]:
        found = yield from self._load()
        if found is not None:
            found.login.check_over((yield from self._now()))
        return (yield from self._first(request, found))

    def _first(self, request: AuthenticationRequest, found: _Held | None) -> Flow[tuple[_Held, Step]]:
        """Return a new login, to be saved in the place of one that is over."""
        client, provider = self.records.client, self.records.provider
        current = yield from self._advance(Transaction(client=client, provider=provider), Begin(request))
        return _Held(StoredLogin.begin(client), None if found is None else found.revision), current

    def _resumed(self, held: _Held, *, polls: int | None = None) -> Flow[Session | Waiting]:
        """Go on with a login that was loaded. If `polls` is given, the login is due."""
        transaction = held.login.transaction
        if transaction is None or transaction.is_finished:
            return (yield from self._finish(held))
        current = yield from self._advance(transaction, Resumed())
        fed: tuple[StoredCallback, ...] = ()
        for callback in held.callbacks:
            if current.request is not None:
                break  # send this request first; the other callbacks stay in the store
            notification = self.records.unseal_callback(callback)
            current = yield from self._advance(current.transaction, NotificationReceived(notification))
            fed += (callback,)
        held = evolve(held, callbacks=fed)
        if polls is not None and current.transaction == transaction and not fed:
            # The caller found that the wait is over, by the store's clock if it tells; the wall clock may
            # differ.
            current = yield from self._advance(transaction, TimerFired(_deadline(transaction)))
        return (yield from self._go_on(held, current, polls=polls))

    def _join(self, held: _Held) -> Flow[Session | Waiting]:
        """Wait while another process goes on with a login; if that process stops, take its place."""
        while not held.login.is_finished:
            now, seen = (yield from self._now()), held.revision
            left = held.login.seconds_busy(now) or held.login.seconds_to_wait(now)
            # One more look: the other process needs a moment after its wait is over.
            tries = math.ceil(left / LOOK) + 1
            while held.revision == seen and tries:
                if (yield from self._pause(LOOK)):
                    return Waiting(now + left, left)
                tries -= 1
                loaded = yield from self._load()
                if loaded is None:
                    raise StoreConflict("the login was removed")
                held = loaded
            if held.revision == seen:
                break
        return (yield from self._resumed(held))

    def _go_on(
        self, held: _Held, current: Step, *, polls: int | None = None, saved_since: float | None = None
    ) -> Flow[Session | Waiting]:
        """Drive a login on: to its end, or until there is nothing to do.

        Args:
            held: the login, and
            current: the step that it has come to.
            polls: stop when the transaction has made this many polls. ``None``: wait here until the end.
            saved_since: if the step was saved already, the instant before that save.

        """
        while True:
            transaction, now = current.transaction, saved_since
            if now is None:
                now = yield from self._now()
                held = yield from self._save_step(held, current, lives=polls is None)
            saved_since = None
            if transaction.is_finished:
                return (yield from self._finish(held))
            deadline = transaction.deadline
            left = None if deadline is None else max(deadline - now, 0.0)
            if current.request is not None or current.draft is not None:
                if (yield from self._now()) - now > MARGIN:
                    # Other processes may take the login over by now. This request is too late: make a new
                    # one.
                    happened: Input | Left = _given_up(current)
                else:
                    happened = yield from self._act(current, left)
            else:
                assert left is not None  # noqa: S101  # what sends nothing and has not ended waits; for the type checker
                if polls is not None and (left > 0 or transaction.polls >= polls):
                    return Waiting(now + left, left)
                happened, callbacks = yield from self._wait(held, current, left)
                held = evolve(held, callbacks=callbacks)
            if isinstance(happened, Left):
                return (yield from self._left(held))
            current = yield from self._advance(transaction, happened)

    def _wait(
        self, held: _Held, current: Step, left: float
    ) -> Flow[tuple[Input | Left, tuple[StoredCallback, ...]]]:
        """Wait; return what ended the wait, and the stored callback if it came to another process."""
        if not self.can_claim or current.transaction.client_notification_token is None:
            return (yield from self._act(current, left)), ()
        while True:
            part = min(left, LISTEN)
            happened = yield Act(current, part, is_part=part < left)
            if happened is not None:
                return cast("Input | Left", happened), ()
            left -= part
            found = yield Load("transactions", self.records.session_key)
            if isinstance(found, StoreFailed):
                continue  # the store may be away for a moment: ask it again
            record = cast("StoredRecord | None", found)
            if record is None or record.revision != held.revision:
                raise StoreConflict("another process is going on with this login")
            for callback in record.callbacks:
                return NotificationReceived(self.records.unseal_callback(callback)), (callback,)

    def _left(self, held: _Held) -> Flow[Waiting]:
        """Stop waiting for a login; when it is due, another process may go on with it."""
        now = yield from self._now()
        left = held.login.seconds_to_wait(now)
        if self.can_claim:
            yield Release(key=self.records.session_key, revision=held.revision or "", wake_after=left)
        return Waiting(now + left, left)

    def _finish(self, held: _Held) -> Flow[Session]:
        login = held.login
        tokens = _tokens(login.transaction)
        old = yield from self.load_session()
        if old is not None and old.login == login.id:
            # A process stored this session and ended right then. The session may have been renewed since.
            session = old
        elif tokens is None:
            raise NoPendingLogin("session_key: the login is over, and its session is not there any more")
        else:
            new = Session(tokens, login.id)
            session = new if old is None else old.replaced_by(new)
        if self.as_requested:
            session.tokens.require_as_requested()
        if session is not old:
            session = yield from self._save_session(session, login.transaction)
        if tokens is not None:
            yield from self._save_login(evolve(held, login=login.stored()))
        return session

    # --- stores -----------------------------------------------------------------------------------------

    def _load(self) -> Flow[_Held | None]:
        return (yield from self._open((yield from self._ask_for("transactions"))))

    def _open(self, record: StoredRecord | None) -> Flow[_Held | None]:
        if record is None:
            return None
        login = self.records.unseal(record).by_clock((yield from self._now()), record.age)
        return _Held(login, record.revision, record.callbacks)

    def _ask_for(self, place: Place) -> Flow[StoredRecord | None]:
        answer = yield Load(place, self.records.session_key)
        if isinstance(answer, StoreFailed):
            raise answer.error
        return cast("StoredRecord | None", answer)

    def _save_step(self, held: _Held, current: Step, *, lives: bool) -> Flow[_Held]:
        """Store a step before it is acted on. `lives`: whether this process waits for the login by itself."""
        login = held.login.at(current, (yield from self._now()))
        wake_after: float | None = None
        if current.transaction.error is None:
            # The tokens go into the session next, and no worker may come in between.
            beyond = PATIENCE if lives else MARGIN if login.is_finished else 0.0
            wake_after = login.busy_for or login.wait_for + beyond
        return (yield from self._save_login(evolve(held, login=login), wake_after))

    def _save_login(self, held: _Held, wake_after: float | None = None) -> Flow[_Held]:
        login, now = held.login, (yield from self._now())
        forget_at = login.forget_at(now)
        wish = Save(
            place="transactions",
            key=self.records.session_key,
            text=(text := self.records.seal(login)),
            expected_revision=held.revision,
            revision=_name_of(text),
            forget_at=forget_at,
            forget_after=forget_at - now,
            wake_after=wake_after,
            lease=0.0 if login.is_finished else login.busy_for,
            taken=tuple(callback.id for callback in held.callbacks),
        )
        # Without an acknowledgement there is nothing to lose, and a save longer than the margin stops the
        # sending.
        until = max(login.expires_at, now + PATIENCE) if login.expires_at else now + MARGIN
        try:
            revision = yield from self._save(wish, login.transaction, until)
        except StoreConflict:
            found = yield from self._load()
            if found is None or found.login.id != login.id or not _knows_more(login, found.login):
                raise
            # Another process took this one for dead. But this one has received an answer that the other
            # lacks.
            wish = evolve(wish, expected_revision=found.revision)
            revision = yield from self._save(wish, login.transaction, until)
        return _Held(login, revision)

    def _save_session(self, session: Session, transaction: Transaction | None) -> Flow[Session]:
        wish = Save(
            place="sessions",
            key=self.records.session_key,
            text=(text := self.records.seal_session(session)),
            expected_revision=session.revision,
            revision=_name_of(text),
        )
        until = (yield from self._now()) + PATIENCE
        return evolve(session, revision=(yield from self._save(wish, transaction, until)))

    def _save(self, wish: Save, transaction: Transaction | None, until: float) -> Flow[str]:
        """Save, and try again until it is saved; give up at an instant."""
        answer = yield wish
        pause = FIRST_PAUSE
        while isinstance(answer, StoreFailed):
            if not _may_pass(answer.error):
                raise answer.error
            now = yield from self._now()
            snapshot = None if transaction is None else Secret(transaction.to_json())
            if now >= until:
                raise StoreUnavailable(
                    "the login could not be saved, and is given up", snapshot=snapshot
                ) from answer.error
            ended = yield Pause(min(pause, max(until - now, FIRST_PAUSE)), may_leave=False)
            if isinstance(ended, Cancel):
                raise StoreUnavailable(
                    "cancelled while the login could not be saved", snapshot=snapshot
                ) from answer.error
            pause = min(2 * pause, LONGEST_PAUSE)
            answer = yield wish
            if isinstance(answer, StoreFailed) and isinstance(answer.error, StoreConflict):
                # The conflict may be with our own earlier try, if the store's answer to it was lost. A store
                # that can claim recognises that by the revision. For other stores compare the text: no two
                # sealed texts are the same.
                found = yield Load(wish.place, wish.key)
                if isinstance(found, StoredRecord) and found.text == wish.text and self._is_plain(wish):
                    return found.revision
                if not isinstance(found, StoreFailed):
                    raise answer.error
                answer = found
        return cast("str", answer)

    def _is_plain(self, wish: Save) -> bool:
        """Tell whether each change of the record changes its text. A claim would change only the revision."""
        return wish.place == "sessions" or not self.can_claim

    # --- wishes with the types of their answers ---------------------------------------------------------

    def _advance(self, transaction: Transaction, happened: Input) -> Flow[Step]:
        return cast("Step", (yield Advance(transaction, happened)))

    def _act(self, current: Step, seconds: float | None) -> Flow[Input | Left]:
        return cast("Input | Left", (yield Act(current, seconds)))

    def _now(self) -> Flow[float]:
        return cast("float", (yield Now()))

    def _pause(self, seconds: float) -> Flow[bool]:
        """Pause for another process, and return whether the wait was left."""
        ended = yield Pause(seconds)
        if isinstance(ended, Cancel):
            # The other process may still get the answer: leave the login as it is.
            raise AuthenticationCancelled("cancelled while another process may be at this login")
        return isinstance(ended, Left)


def _store(stores: Stores | AsyncStores, place: Place) -> Any:
    return stores.transactions if place == "transactions" else stores.sessions


def _deadline(transaction: Transaction) -> float:
    deadline = transaction.deadline
    assert deadline is not None  # noqa: S101  # what is not finished and sends nothing waits; for the type checker
    return deadline


def _origin(transaction: Transaction) -> str:
    """Return a name for the login of a transaction, which is the same for every snapshot of it."""
    known = transaction.auth_req_id
    return _name_of(transaction.to_json() if known is None else known.reveal())


def _is_over(login: StoredLogin, now: float) -> bool:
    try:
        login.check_over(now)
    except LoginUnderWay:
        return False
    return True


def _found(held: _Held | None) -> _Held:
    if held is None:
        raise NoPendingLogin("session_key: no login is stored under it")
    return held


def _knows_more(ours: StoredLogin, theirs: StoredLogin) -> bool:
    """Tell whether our login has an answer that theirs, another process's state of the same login, lacks."""
    mine, other = ours.transaction, theirs.transaction
    if mine is None or other is None or _has_tokens(other):
        return False
    lost = isinstance(other.error, AcknowledgementLost) or isinstance(other.state, AwaitingCallback)
    return _has_tokens(mine) or (mine.auth_req_id is not None and lost)


def _has_tokens(transaction: Transaction) -> bool:
    return transaction.tokens is not None or isinstance(transaction.state, (FetchingKeys, AwaitingKeys))


def _name_of(text: str) -> str:
    """Return a name for the state that a save makes. It is new, since no two sealed texts are the same."""
    return base64url(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])


def _may_pass(error: Exception) -> bool:
    """Tell whether a store's error may be over a moment later."""
    if isinstance(error, StoreError):
        return isinstance(error, StoreUnavailable)
    # A mistake in the store, or in the call of it, does not go away.
    return not isinstance(error, (TypeError, AttributeError, NotImplementedError))


def _given_up(current: Step) -> Input:
    """Return the input for a request or draft that is given up because storing it took too long."""
    reason = "the store was away for too long"
    if current.request is not None:
        return RequestFailed(current.request.id, Delivery.NOT_SENT, reason, elapsed=0.0)
    assert current.draft is not None  # noqa: S101  # one of the two; for the type checker
    return SigningFailed(current.draft.id, reason)


def _tokens(transaction: Transaction | None) -> TokenResponse | None:
    if transaction is None:
        return None
    if transaction.error is not None:
        # No copy is needed here, unlike elsewhere: only the login that ends here has this transaction.
        raise transaction.error
    return transaction.tokens
