"""A check that the author of a store can point at it: whether it does what logins rely on.

What they rely on is written in `ciba_core.login.stores`. Each scenario works with keys of its own, so that a
store that has other things in it can be checked too; what a scenario leaves behind, it removes.
"""

from __future__ import annotations

import inspect
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from attrs import field, frozen

from ciba_core import (
    AsyncSessionStore,
    AsyncTransactionStore,
    SessionStore,
    StoredRecord,
    TransactionStore,
)
from ciba_core.errors import StoreConflict

from .report import CheckReport

__all__ = ["StoreFinding", "StoreReport", "check_session_store", "check_transaction_store"]

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
_DAY: Final = 86_400.0
_CONTENDERS: Final = 4
_ROUNDS: Final = 10


@frozen
class StoreFinding:
    """Something that a store got wrong."""

    scenario: str
    message: str
    """What happened instead."""
    error: BaseException | None = field(default=None, eq=False, repr=False)
    """What the store raised, if it did."""

    def __str__(self) -> str:
        return f"{self.scenario}: {self.message}"


@frozen
class StoreReport(CheckReport[StoreFinding]):
    """What came of a check. ``str(report)`` is for people."""


def check_transaction_store(
    make_store: Callable[[], TransactionStore | AsyncTransactionStore],
    *,
    run: Run | None = None,
    store_options: Any = None,
) -> StoreReport:
    """Check a store for logins under way.

    Whatever it does wrong is in the report::

        check_transaction_store(lambda: MyStore("postgresql://...")).raise_for_findings()
        check_transaction_store(make_async_store, run=lambda main: asyncio.run(main())).raise_for_findings()

    Args:
        make_store: opens the store, as each process of the application does: whatever one of them saved, the
            others find. It is called many times, in several threads.
        run: for a store whose methods are awaited: runs an async function in an event loop of its own, as
            ``anyio.run`` and ``trio.run`` do. `make_store` is called within.
        store_options: handed to the store as it is.

    """
    return _check(_Check(make_store, run, store_options))


def check_session_store(
    make_store: Callable[[], SessionStore | AsyncSessionStore],
    *,
    run: Run | None = None,
    store_options: Any = None,
) -> StoreReport:
    """Check a store for sessions, as `check_transaction_store` checks the other one."""
    return _check(_Check(make_store, run, store_options))


class _Wrong(Exception):
    """Ends a scenario with a finding."""


class _RunNeeded(TypeError):
    """The check was called in a wrong way; no finding."""


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
                # Nothing in it waits, so that it comes to its end at once.
                coroutine.send(None)
            except StopIteration as end:
                return end.value


def _new_key() -> str:
    return f"check-{uuid.uuid4().hex}"


def _check(check: _Check) -> StoreReport:
    findings: list[StoreFinding] = []
    for name, scenario in _SCENARIOS.items():
        try:
            scenario(check)
        except _Wrong as wrong:
            findings.append(StoreFinding(name, str(wrong)))
        except _RunNeeded:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a store raises is a finding
            findings.append(StoreFinding(name, f"the store raised {type(error).__name__}", error))
    return StoreReport(tuple(_SCENARIOS), tuple(findings))


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
    """Let several threads save at once what they loaded before: one gets through each time."""
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
