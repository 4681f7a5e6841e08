"""A check for authors of stores: whether a store does what logins rely on.

`ciba_core.login.stores` says what they rely on. Each scenario works with keys of its own and removes them at
its end, so a store that holds other records can be checked, too.
"""

from __future__ import annotations

import inspect
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final
from unittest import mock

from attrs import field, frozen

from ciba_core import (
    AsyncSessionStore,
    AsyncTransactionStore,
    Claimed,
    Claims,
    SessionStore,
    StoredRecord,
    TransactionStore,
)
from ciba_core.errors import StoreConflict

from .report import CheckReport

__all__ = ["StoreFinding", "StoreReport", "check_session_store", "check_transaction_store"]

Run = Callable[[Callable[[], Awaitable[object]]], object]
_DAY: Final = 86_400.0
_HOUR: Final = 3600.0
_ALL: Final = 1000
_CONTENDERS: Final = 4
_ROUNDS: Final = 10


@frozen
class StoreFinding:
    """Something that a store got wrong."""

    scenario: str
    message: str
    """What happened instead."""
    error: BaseException | None = field(default=None, eq=False, repr=False)
    """The exception that the store raised, if any."""

    def __str__(self) -> str:
        return f"{self.scenario}: {self.message}"


@frozen
class StoreReport(CheckReport[StoreFinding]):
    """The outcome of a check. ``str(report)`` is for people."""


def check_transaction_store(
    make_store: Callable[[], TransactionStore | AsyncTransactionStore],
    *,
    run: Run | None = None,
    store_options: Any = None,
    own_clock: bool = False,
) -> StoreReport:
    """Check a store for logins; a store that can claim is held to all of `ciba_core.ClaimingStore`.

    The report has everything that the store does wrong::

        check_transaction_store(lambda: MyStore("postgresql://...")).raise_for_findings()
        check_transaction_store(make_async_store, run=lambda main: asyncio.run(main())).raise_for_findings()

    Args:
        make_store: opens the store, as each process of the application does; each of them finds what the
            others saved. It is called many times, in several threads.
        run: for a store whose methods are awaited: runs an async function in an event loop of its own, as
            ``anyio.run`` and ``trio.run`` do. `make_store` is called within.
        store_options: handed to the store as it is.
        own_clock: the store has a clock of its own, as a database server has. Then the check sets this
            process's clock, ``time.time``, forward for a while, and the store must not go by it.

    The check also claims due records that are not its own, and gives them back: do not use a store that is in
    use.

    """
    scenarios = dict(_SCENARIOS)
    if hasattr(make_store if isinstance(make_store, type) else _opened(make_store, run), "claim"):
        scenarios |= _CLAIM_SCENARIOS
        if own_clock:
            scenarios["clocks that differ"] = _clocks_that_differ
    return _check(_Check(make_store, run, store_options), scenarios)


def check_session_store(
    make_store: Callable[[], SessionStore | AsyncSessionStore],
    *,
    run: Run | None = None,
    store_options: Any = None,
) -> StoreReport:
    """Check a store for sessions, as `check_transaction_store` checks the other one."""
    return _check(_Check(make_store, run, store_options), _SCENARIOS)


def _opened(make_store: Callable[[], Any], run: Run | None) -> Any:
    """Open the store once, in an event loop if it needs one."""
    if run is None:
        return make_store()

    async def work() -> Any:  # the store is opened inside of a loop
        return make_store()

    return run(work)


class _Wrong(Exception):
    """Ends a scenario with a finding."""


class _RunNeeded(TypeError):
    """The check was called in a wrong way; that is no finding."""


class _Handle:
    """One process that has the store open. Its calls are awaited, whether the store's are or not."""

    def __init__(self, store: Any, store_options: Any, *, may_wait: bool) -> None:
        self._store = store
        self._store_options = store_options
        self._may_wait = may_wait

    async def load(self, key: str) -> StoredRecord | None:
        found: StoredRecord | None = await self._settled(
            self._store.load(key, store_options=self._store_options)
        )
        return found

    async def save(self, key: str, text: str, expected: str | None, forget_at: float | None = None) -> str:
        revision = await self._settled(
            self._store.save(
                key,
                text,
                expected_revision=expected,
                forget_at=forget_at,
                store_options=self._store_options,
            )
        )
        if not isinstance(revision, str) or not revision:
            raise _Wrong("save did not return a revision: a str that is not empty")
        return revision

    async def save_with(self, key: str, text: str, expected: str | None, **more: Any) -> str:
        """Save with the arguments that only a store that can claim gets."""
        options = {"expected_revision": expected, "store_options": self._store_options, **more}
        revision: str = await self._settled(self._store.save(key, text, **options))
        return revision

    async def claims(self, lease: float, *keys: str) -> dict[str, Claimed]:
        """Claim all records that are due, and give back those under other keys."""
        claims: Claims = await self._settled(
            self._store.claim(_ALL, lease, store_options=self._store_options)
        )
        for claimed in claims.claimed:
            if claimed.key not in keys:
                await self.release(claimed.key, claimed.record.revision, 0.0)
        return {claimed.key: claimed for claimed in claims.claimed if claimed.key in keys}

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of a store that can claim."""
        called = getattr(self._store, method)(*arguments, store_options=self._store_options, **options)
        return await self._settled(called)

    async def release(self, key: str, revision: str, wake_after: float | None) -> bool:
        given: bool = await self.call("release", key, revision, wake_after=wake_after)
        return given

    async def remove(self, key: str) -> None:
        await self._settled(self._store.remove(key, store_options=self._store_options))

    async def text(self, key: str) -> str | None:
        found = await self.load(key)
        return None if found is None else found.text

    async def refuses(self, key: str, expected: str | None) -> bool:
        try:
            await self.save(key, "overwritten", expected)
        except StoreConflict:
            return True
        return False

    async def _settled(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result
        if self._may_wait:
            return await result
        if inspect.iscoroutine(result):
            result.close()
        raise _RunNeeded("run: needed to check a store whose methods are awaited")


@frozen
class _Check:
    make_store: Callable[[], Any]
    run: Run | None
    store_options: Any

    def open(self) -> _Handle:
        return _Handle(self.make_store(), self.store_options, may_wait=self.run is not None)

    def carry_out(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if self.run is not None:
            return self.run(work)
        coroutine = work()
        while True:
            try:
                # Nothing in the coroutine waits, so it ends at once.
                coroutine.send(None)
            except StopIteration as end:
                return end.value


def _new_key() -> str:
    return f"check-{uuid.uuid4().hex}"


def _check(check: _Check, scenarios: dict[str, Scenario]) -> StoreReport:
    findings: list[StoreFinding] = []
    for name, scenario in scenarios.items():
        try:
            scenario(check)
        except _Wrong as wrong:
            findings.append(StoreFinding(name, str(wrong)))
        except _RunNeeded:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a store raises is a finding
            findings.append(StoreFinding(name, f"the store raised {type(error).__name__}", error))
    return StoreReport(tuple(scenarios), tuple(findings))


Scenario = Callable[[_Check], None]
Steps = Callable[[_Handle, _Handle, str], Coroutine[Any, Any, None]]


def _alone(steps: Steps) -> Scenario:
    """Make a scenario of what one thread does, with the store opened twice."""

    def scenario(check: _Check) -> None:
        async def work() -> None:
            one, other, key = check.open(), check.open(), _new_key()
            try:
                await steps(one, other, key)
            finally:
                await one.remove(key)

        check.carry_out(work)

    return scenario


async def _nothing_there(one: _Handle, _other: _Handle, key: str) -> None:
    if await one.load(key) is not None:
        raise _Wrong("load returned a record that nobody saved")
    await one.remove(key)
    if await one.load(key) is not None:
        raise _Wrong("remove made a record")


async def _saved(one: _Handle, _other: _Handle, key: str) -> None:
    text = "".join(chr(0x21 + number % 0x5E) for number in range(50_000))
    revision = await one.save(key, text, None)
    found = await one.load(key)
    if found is None:
        raise _Wrong("what was saved was not there")
    if found.text != text:
        raise _Wrong("a text of 50000 printable ASCII characters came back as another one")
    if found.revision != revision:
        raise _Wrong("load returned another revision than save")


async def _another_process(one: _Handle, other: _Handle, key: str) -> None:
    revision = await one.save(key, "first", None)
    if await other.text(key) != "first":
        raise _Wrong("what one process saved, another one did not find")
    await other.save(key, "second", revision)
    if await one.text(key) != "second":
        raise _Wrong("a process did not see what another one saved since it looked last")
    await other.remove(key)
    if await one.text(key) is not None:
        raise _Wrong("a process still saw what another one had removed")


async def _made_twice(one: _Handle, other: _Handle, key: str) -> None:
    await one.save(key, "first", None)
    if not await other.refuses(key, None):
        raise _Wrong("a record that was there already was made anew: expected_revision=None did not count")
    if await one.text(key) != "first":
        raise _Wrong("a save that was refused changed the record")


async def _changed_meanwhile(one: _Handle, other: _Handle, key: str) -> None:
    first = await one.save(key, "first", None)
    await other.save(key, "second", first)
    if not await one.refuses(key, first):
        raise _Wrong("what another process saved was overwritten: expected_revision did not count")
    if await one.text(key) != "second":
        raise _Wrong("a save that was refused changed the record")


async def _removed_meanwhile(one: _Handle, other: _Handle, key: str) -> None:
    first = await one.save(key, "first", None)
    await other.remove(key)
    if await one.load(key) is not None:
        raise _Wrong("a record that was removed was still there")
    if not await one.refuses(key, first):
        raise _Wrong("a record that another process had removed came back by a save")
    if await one.load(key) is not None:
        raise _Wrong("a save that was refused made a record")


async def _revisions(one: _Handle, other: _Handle, key: str) -> None:
    seen = [await one.save(key, "same", None)]
    for _ in range(3):
        seen.append(await one.save(key, "same", seen[-1]))
    await other.remove(key)
    seen.append(await other.save(key, "same", None))
    if len(set(seen)) != len(seen):
        raise _Wrong("a revision was used twice for one key")


async def _keys_apart(one: _Handle, _other: _Handle, key: str) -> None:
    keys = [
        key + end
        for end in (
            "",
            "a",
            "A",
            "ä",
            "a\u0308",
            "%",
            "_",
            " ",
            "'",
            '"',
            "/..",
            ":",
            "\\",
            "€" * 60,
            "a" * 200,
        )
    ]
    try:
        for number, each in enumerate(keys):
            await one.save(each, f"text {number}", None)
        for number, each in enumerate(keys):
            if await one.text(each) != f"text {number}":
                raise _Wrong(f"a key was taken for another one, or not kept: it ends in {each[38:50]!a}")
    finally:
        for each in keys:
            await one.remove(each)


async def _kept(one: _Handle, other: _Handle, key: str) -> None:
    revision = await one.save(key, "first", None, time.time() + _DAY)
    if await other.text(key) != "first":
        raise _Wrong("a record was dropped before forget_at")
    await one.save(key, "second", revision, None)
    if await other.text(key) != "second":
        raise _Wrong("a record without forget_at was dropped")


def _race(check: _Check) -> None:
    """Let several threads save a record that all have loaded, at once: one succeeds each time."""
    for _ in range(_ROUNDS):
        key = _new_key()
        revision = _contend(check, key, None)
        _contend(check, key, revision)
        check.carry_out(partial(_remove, check, key))


async def _remove(check: _Check, key: str) -> None:
    await check.open().remove(key)


async def _text(check: _Check, key: str) -> str | None:
    return await check.open().text(key)


def _contend(check: _Check, key: str, expected: str | None) -> str:
    start = threading.Barrier(_CONTENDERS)
    won: dict[str, str] = {}
    errors: list[Exception] = []

    def contend(text: str) -> None:
        async def work() -> None:
            try:
                handle = check.open()
            finally:
                start.wait()
            won[text] = await handle.save(key, text, expected)

        try:
            check.carry_out(work)
        except StoreConflict:
            pass
        except Exception as error:  # noqa: BLE001  # handed to the thread that waits
            errors.append(error)
            start.abort()

    threads = [threading.Thread(target=contend, args=(f"text {number}",)) for number in range(_CONTENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    if len(won) != 1:
        raise _Wrong(f"of {_CONTENDERS} callers that expected the same revision, {len(won)} got through")
    ((text, revision),) = won.items()
    if check.carry_out(partial(_text, check, key)) != text:
        raise _Wrong("a save that was refused changed the record")
    return revision


_SCENARIOS: Final[dict[str, Scenario]] = {
    "nothing there": _alone(_nothing_there),
    "saved": _alone(_saved),
    "another process": _alone(_another_process),
    "made twice": _alone(_made_twice),
    "changed meanwhile": _alone(_changed_meanwhile),
    "removed meanwhile": _alone(_removed_meanwhile),
    "revisions": _alone(_revisions),
    "keys apart": _alone(_keys_apart),
    "kept": _alone(_kept),
    "race": _race,
}


# --- stores that can claim ------------------------------------------------------------------------------


async def _claimed_once(one: _Handle, other: _Handle, key: str) -> None:
    saved = await one.save_with(key, "text", None, wake_after=0.0)
    claimed = (await one.claims(_HOUR, key)).get(key)
    if claimed is None:
        raise _Wrong("a record that is due was not handed out")
    if claimed.record.text != "text":
        raise _Wrong("a record was handed out with another text")
    if await other.claims(_HOUR, key):
        raise _Wrong("a record was handed out to two claimers")
    if claimed.record.revision == saved or not await other.refuses(key, saved):
        raise _Wrong("whoever had the record before it was claimed could still save it")
    if await other.text(key) != "text":
        raise _Wrong("a save that was refused changed the record")
    if claimed.record.age is None or not 0 <= claimed.record.age < _HOUR or not 0 <= claimed.late < _HOUR:
        raise _Wrong("a claim did not tell how long ago the record was saved, and was due")
    await one.save_with(key, "next", claimed.record.revision, wake_after=_HOUR)


async def _not_due(one: _Handle, other: _Handle, key: str) -> None:
    revision = await one.save_with(key, "text", None, wake_after=_HOUR)
    if await other.claims(_HOUR, key):
        raise _Wrong("a record was handed out before its time")
    if key not in await other.call("pending", _ALL, after=key[:-1]):
        raise _Wrong("a record that will be due was not among those that are pending")
    if key in await other.call("pending", _ALL, after=key):
        raise _Wrong("pending returned a key that is not behind `after`")
    revision = await one.save_with(key, "text", revision, wake_after=0.0, lease=_HOUR)
    if await other.claims(_HOUR, key):
        raise _Wrong("a record was handed out while its lease lasts")
    await one.save_with(key, "text", revision, wake_after=None)
    if await other.claims(_HOUR, key):
        raise _Wrong("a record that is not to be gone on with was handed out")
    if key in await other.call("pending", _ALL, after=key[:-1]):
        raise _Wrong("a record that is not to be gone on with was among those that are pending")


async def _expired_lease(one: _Handle, other: _Handle, key: str) -> None:
    await one.save_with(key, "text", None, wake_after=0.0)
    first = (await one.claims(0.0, key)).get(key)
    second = (await other.claims(_HOUR, key)).get(key)
    if first is None or second is None:
        raise _Wrong("a record whose lease is over was not handed out again")
    if not await one.refuses(key, first.record.revision):
        raise _Wrong("whoever lost the lease could still save the record")
    if await one.call("renew", key, first.record.revision, _HOUR):
        raise _Wrong("whoever lost the lease could renew it")
    if await one.release(key, first.record.revision, 0.0) or await one.claims(_HOUR, key):
        raise _Wrong("whoever lost the lease could give the record back")


async def _renewed(one: _Handle, other: _Handle, key: str) -> None:
    await one.save_with(key, "text", None, wake_after=0.0)
    claimed = (await one.claims(0.0, key)).get(key)
    if claimed is None or not await one.call("renew", key, claimed.record.revision, _HOUR):
        raise _Wrong("a lease could not be renewed")
    if await other.claims(_HOUR, key):
        raise _Wrong("a record was handed out though its lease was renewed")
    await one.save_with(key, "text", claimed.record.revision, wake_after=0.0)
    if key not in await other.claims(_HOUR, key):
        raise _Wrong("a save without lease did not end the one that was there")


async def _released(one: _Handle, other: _Handle, key: str) -> None:
    await one.save_with(key, "text", None, wake_after=0.0)
    for wake_after, is_due in ((0.0, True), (_HOUR, False)):
        claimed = (await one.claims(_HOUR, key)).get(key)
        if claimed is None or not await one.release(key, claimed.record.revision, wake_after):
            raise _Wrong("a record that was claimed could not be given back")
        if is_due:
            again = (await other.claims(_HOUR, key)).get(key)
            if again is None:
                raise _Wrong("a record that was given back was not handed out again")
            await other.release(key, again.record.revision, 0.0)
        elif await other.claims(_HOUR, key):
            raise _Wrong("a record was handed out before the time that it was given back for")
    found = await one.load(key)
    if found is None or not await one.release(key, found.revision, None):
        raise _Wrong("a record could not be parked")
    if key in await other.call("pending", _ALL, after=key[:-1]):
        raise _Wrong("release without wake_after did not take the record off the list")


async def _lost_commit(one: _Handle, other: _Handle, key: str) -> None:
    first, expected = uuid.uuid4().hex, uuid.uuid4().hex
    for revision, before in ((first, None), (expected, first)):
        for _ in range(2):  # the second time as if the answer of the first one was lost
            if await one.save_with(key, revision, before, revision=revision) != revision:
                raise _Wrong("a save did not give the record the revision that it named")
    await other.save_with(key, "other", expected, revision=uuid.uuid4().hex, wake_after=0.0)
    try:
        await one.save_with(key, "late", expected, revision=uuid.uuid4().hex)
    except StoreConflict:
        pass
    else:
        raise _Wrong("a save got through that expected an older revision")
    try:
        await one.save_with(key, expected, None, revision=expected)
    except StoreConflict:
        pass
    else:
        raise _Wrong("a try that was repeated after another save counted as saved")
    if await one.text(key) != "other":
        raise _Wrong("a save that was refused changed the record")


async def _called_back(one: _Handle, other: _Handle, key: str) -> None:
    if await other.call("deliver", key, "callback"):
        raise _Wrong("a callback was taken for a record that is not there")
    revision = await one.save_with(key, "text", None, wake_after=_HOUR)
    for text in ("first", "second", "first"):
        if not await other.call("deliver", key, text):
            raise _Wrong("a callback was not taken")
    if (found := await one.load(key)) is None or found.revision != revision:
        raise _Wrong("a callback changed the revision of its record")
    if [callback.text for callback in found.callbacks] != ["first", "second"]:
        raise _Wrong("load did not return the callbacks in the order in which they came, each once")
    claimed = (await one.claims(0.0, key)).get(key)
    if claimed is None:
        raise _Wrong("a record was not due when a callback had come for it")
    if [callback.text for callback in claimed.record.callbacks] != ["first", "second"]:
        raise _Wrong("claim did not return the callbacks in the order in which they came, each once")
    taken = tuple(callback.id for callback in claimed.record.callbacks[:1])
    revision = await one.save_with(key, "text", claimed.record.revision, wake_after=_HOUR, taken=taken)
    claimed = (await other.claims(_HOUR, key)).get(key)
    if claimed is None or [callback.text for callback in claimed.record.callbacks] != ["second"]:
        raise _Wrong("a callback that no save has taken did not make the record due")
    if not await other.call("deliver", key, "third") or await one.claims(_HOUR, key):
        raise _Wrong("a callback ended the lease of a record")
    taken = tuple(callback.id for callback in claimed.record.callbacks)
    revision = await other.save_with(key, "text", claimed.record.revision, wake_after=_HOUR, taken=taken)
    claimed = (await other.claims(_HOUR, key)).get(key)
    if claimed is None:
        raise _Wrong("a callback that came after the record was claimed was lost")
    taken = tuple(callback.id for callback in claimed.record.callbacks)
    await other.save_with(key, "text", claimed.record.revision, wake_after=None, taken=taken)
    if (found := await one.load(key)) is None or found.callbacks:
        raise _Wrong("callbacks that a save has taken were still there")
    if await other.call("deliver", key, "late") and await one.claims(_HOUR, key):
        raise _Wrong("a callback woke a record that is not to be gone on with")


async def _spans(one: _Handle, other: _Handle, key: str) -> None:
    revision = await one.save_with(key, "text", None, forget_after=_DAY, wake_after=0.0)
    found = await other.load(key)
    if found is None:
        raise _Wrong("a record was dropped before forget_after")
    if found.age is not None and not 0 <= found.age < _HOUR:
        raise _Wrong("load told another age than the record has")
    await one.save_with(key, "over", revision, forget_after=0.0, wake_after=0.0)
    if await other.load(key) is not None or await other.claims(_HOUR, key):
        raise _Wrong("a record was there after forget_after")
    await one.call("purge", _ALL)
    await one.save_with(key, "anew", None)
    if await other.text(key) != "anew":
        raise _Wrong("a record that is over was in the way of a new one")


def _claimers(check: _Check) -> None:
    """Let several threads claim at once until nothing is due: each record comes to one of them."""
    keys = [_new_key() for _ in range(_CONTENDERS * _ROUNDS)]
    seen: list[Claimed] = []
    others: list[Claimed] = []
    errors: list[Exception] = []

    async def save() -> None:
        handle = check.open()
        for key in keys:
            await handle.save_with(key, "text", None, wake_after=0.0)

    async def claim() -> None:
        handle = check.open()
        for _ in keys:
            claims: Claims = await handle.call("claim", _CONTENDERS, _HOUR)
            if len(claims.claimed) > _CONTENDERS:
                raise _Wrong("claim handed out more than `limit`")
            for claimed in claims.claimed:
                (seen if claimed.key in keys else others).append(claimed)

    async def clear() -> None:
        handle = check.open()
        for key in keys:
            await handle.remove(key)
        for claimed in others:
            await handle.release(claimed.key, claimed.record.revision, 0.0)

    def contend() -> None:
        try:
            check.carry_out(claim)
        except Exception as error:  # noqa: BLE001  # handed to the thread that waits
            errors.append(error)

    check.carry_out(save)
    threads = [threading.Thread(target=contend) for _ in range(_CONTENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check.carry_out(clear)
    if errors:
        raise errors[0]
    ours = [claimed.key for claimed in seen]
    if len(ours) != len(set(ours)):
        raise _Wrong(f"{len(ours) - len(set(ours))} of {len(keys)} records were handed out twice")
    if set(ours) != set(keys):
        raise _Wrong(f"{len(set(keys) - set(ours))} of {len(keys)} records were handed out to nobody")


def _clocks_that_differ(check: _Check) -> None:
    """Set the clock of this process forward for one of two claimers."""
    real = time.time

    async def scenario(one: _Handle, _other: _Handle, key: str) -> None:
        await one.save_with(key, "text", None, wake_after=_HOUR, forget_after=2 * _HOUR)
        with mock.patch("time.time", side_effect=lambda: real() + 3 * _HOUR):
            found, claimed = await one.load(key), await one.claims(_HOUR, key)
        if found is None or claimed:
            raise _Wrong("the clock of a process decided what is due, and not that of the store")
        if found.age is None or found.age > _HOUR:
            raise _Wrong("the clock of a process decided how old a record is, and not that of the store")

    _alone(scenario)(check)


_CLAIM_SCENARIOS: Final[dict[str, Scenario]] = {
    "claimed once": _alone(_claimed_once),
    "not due": _alone(_not_due),
    "expired lease": _alone(_expired_lease),
    "renewed": _alone(_renewed),
    "released": _alone(_released),
    "lost commit": _alone(_lost_commit),
    "called back": _alone(_called_back),
    "spans": _alone(_spans),
    "claimers": _claimers,
}
