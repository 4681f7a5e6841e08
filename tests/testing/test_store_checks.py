"""The check of stores: good ones pass, and each way to be wrong is found."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve

from ciba_adapters.stores import MemoryStore, SqliteStore
from ciba_core import Claims, StoredRecord
from ciba_core.errors import StoreConflict
from ciba_core.testing import StoreReport, check_session_store, check_transaction_store

Check = Callable[..., StoreReport]
CHECKS: Final[tuple[Check, ...]] = (check_transaction_store, check_session_store)
every_check: Final = pytest.mark.parametrize("check", CHECKS)


@every_check
def test_the_stores_of_this_library_pass(check: Check, tmp_path: Path) -> None:
    """The stores that come with the library do what logins rely on."""
    memory = MemoryStore()
    report = check(lambda: memory)
    report.raise_for_findings()
    assert report.ok
    scenarios = 19 if check is check_transaction_store else 10
    assert str(report) == f"{scenarios} scenarios, 0 findings"
    assert len(report.scenarios) == scenarios
    check(lambda: SqliteStore(tmp_path / "stores.db", "transactions")).raise_for_findings()
    check(lambda: SqliteStore(tmp_path / "stores.db", "sessions")).raise_for_findings()


def test_a_check_leaves_nothing_behind() -> None:
    """What the scenarios saved, they remove; what was there before stays."""
    store = MemoryStore()
    store.save("mine", "text", expected_revision=None)
    check_transaction_store(lambda: store).raise_for_findings()
    assert store.keys() == ["mine"]


def test_a_check_gives_back_what_is_not_its_own() -> None:
    """What is due in a store beside the check is claimed, and given back, due as it was."""
    store = MemoryStore()
    store.save("mine", "text", expected_revision=None, wake_after=0.0)
    check_transaction_store(lambda: store).raise_for_findings()
    assert [claimed.key for claimed in store.claim(9, 60.0).claimed] == ["mine"]


class Store:
    """A store that is right, for others to break."""

    def __init__(self, inner: MemoryStore | None = None) -> None:
        self.inner = inner or MemoryStore()

    def load(self, key: str, *, store_options: Any) -> StoredRecord | None:
        return self.inner.load(key)

    def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: Any,
    ) -> str:
        return self.inner.save(key, text, expected_revision=expected_revision, forget_at=forget_at)

    def remove(self, key: str, *, store_options: Any) -> None:
        self.inner.remove(key)

    def overwrite(self, key: str, text: str, forget_at: float | None) -> str:
        found = self.inner.load(key)
        expected = None if found is None else found.revision
        return self.inner.save(key, text, expected_revision=expected, forget_at=forget_at)


class Remembers(Store):
    """Has a record before anybody saved one."""

    def load(self, key: str, **options: Any) -> StoredRecord | None:
        return super().load(key, **options) or StoredRecord("made up", "0")


class MakesOnRemove(Store):
    def remove(self, key: str, **options: Any) -> None:
        super().remove(key, **options)
        self.overwrite(key, "removed", None)


class Truncates(Store):
    """As a database does whose column is too short."""

    def save(self, key: str, text: str, **options: Any) -> str:
        return super().save(key, text[:4096], **options)


class Forgets(Store):
    def save(self, key: str, text: str, **options: Any) -> str:
        revision = super().save(key, text, **options)
        self.inner.remove(key)
        return revision


class OtherRevision(Store):
    def save(self, key: str, text: str, **options: Any) -> str:
        return super().save(key, text, **options) + "-"


class NoRevision(Store):
    def save(self, key: str, text: str, **options: Any) -> str:
        super().save(key, text, **options)
        return ""


class NumberedRevision(Store):
    def save(self, key: str, text: str, **options: Any) -> Any:
        super().save(key, text, **options)
        return 1


class Caches(Store):
    """Keeps what a process has seen once."""

    def __init__(self, inner: MemoryStore | None = None) -> None:
        super().__init__(inner)
        self.seen: dict[str, StoredRecord] = {}

    def load(self, key: str, **options: Any) -> StoredRecord | None:
        found = self.seen.get(key) or super().load(key, **options)
        if found is not None:
            self.seen[key] = found
        return found

    def save(self, key: str, text: str, **options: Any) -> str:
        revision = super().save(key, text, **options)
        self.seen[key] = StoredRecord(text, revision)
        return revision

    def remove(self, key: str, **options: Any) -> None:
        self.seen.pop(key, None)
        super().remove(key, **options)


class CachesUntilChanged(Caches):
    """Looks whether a record was changed, but not whether it is still there."""

    def load(self, key: str, **options: Any) -> StoredRecord | None:
        return Store.load(self, key, **options) or self.seen.get(key)


class Upserts(Store):
    def save(self, key: str, text: str, **options: Any) -> str:
        if options["expected_revision"] is None:
            return self.overwrite(key, text, options["forget_at"])
        return super().save(key, text, **options)


class LastOneWins(Store):
    def save(self, key: str, text: str, **options: Any) -> str:
        found = self.inner.load(key)
        if found is not None and options["expected_revision"] is not None:
            return self.overwrite(key, text, options["forget_at"])
        return super().save(key, text, **options)


class RefusesTooLate(Store):
    """Writes first and looks then."""

    def save(self, key: str, text: str, **options: Any) -> str:
        try:
            return super().save(key, text, **options)
        except StoreConflict:
            self.overwrite(key, text, options["forget_at"])
            raise


class BringsBack(Store):
    def save(self, key: str, text: str, **options: Any) -> str:
        if self.inner.load(key) is None:
            return self.overwrite(key, text, options["forget_at"])
        return super().save(key, text, **options)


class KeepsRemoved(Store):
    def remove(self, key: str, **options: Any) -> None:
        pass


class Counts(Store):
    """Numbers the revisions of a record from one on, and begins again with a new record."""

    def __init__(self, inner: MemoryStore | None = None) -> None:
        super().__init__(inner)
        self.numbers: dict[str, int] = {}
        self.lock = threading.Lock()

    def load(self, key: str, **options: Any) -> StoredRecord | None:
        found = self.inner.load(key)
        return None if found is None else StoredRecord(found.text, str(self.numbers[key]))

    def save(self, key: str, text: str, **options: Any) -> str:
        with self.lock:
            found = self.inner.load(key)
            if (None if found is None else str(self.numbers[key])) != options["expected_revision"]:
                raise StoreConflict("changed")
            self.overwrite(key, text, options["forget_at"])
            self.numbers[key] = self.numbers.get(key, 0) + 1
            return str(self.numbers[key])

    def remove(self, key: str, **options: Any) -> None:
        with self.lock:
            super().remove(key, **options)
            self.numbers.pop(key, None)


class SameKey(Store):
    """Takes keys without regard to case, as some databases compare text."""

    def load(self, key: str, **options: Any) -> StoredRecord | None:
        return super().load(key.lower(), **options)

    def save(self, key: str, text: str, **options: Any) -> str:
        return super().save(key.lower(), text, **options)

    def remove(self, key: str, **options: Any) -> None:
        super().remove(key.lower(), **options)


class Impatient(Store):
    """Takes the instant for a number of seconds, or drops what is to stay."""

    def save(self, key: str, text: str, **options: Any) -> str:
        options["forget_at"] = 0.0
        return super().save(key, text, **options)


class DropsWhatStays(Store):
    def save(self, key: str, text: str, **options: Any) -> str:
        if options["forget_at"] is None and text == "second":
            options["forget_at"] = 0.0
        return super().save(key, text, **options)


class LooksThenWrites(Store):
    """Compares and stores in two steps, between which another one can come."""

    def __init__(self, inner: MemoryStore | None = None) -> None:
        super().__init__(inner)
        self.gate = threading.Barrier(4)

    def save(self, key: str, text: str, **options: Any) -> str:
        found = self.inner.load(key)
        if (None if found is None else found.revision) != options["expected_revision"]:
            raise StoreConflict("changed")
        if threading.current_thread() is not threading.main_thread():
            self.gate.wait()
        while True:
            try:
                return self.overwrite(key, text, options["forget_at"])
            except StoreConflict:
                continue


class LateRefusal(Store):
    """Lets one of several through, and then stores what another one wanted."""

    def save(self, key: str, text: str, **options: Any) -> str:
        try:
            return super().save(key, text, **options)
        except StoreConflict:
            if threading.current_thread() is not threading.main_thread():
                self.overwrite(key, text, options["forget_at"])
            raise


class Breaks(Store):
    def load(self, key: str, **options: Any) -> StoredRecord | None:
        raise OSError("no connection")


class BreaksInThreads(Store):
    def save(self, key: str, text: str, **options: Any) -> str:
        if threading.current_thread() is not threading.main_thread():
            raise OSError("no connection")
        return super().save(key, text, **options)


@every_check
@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (Remembers, "nothing there: load returned a record that nobody saved"),
        (MakesOnRemove, "nothing there: remove made a record"),
        (Truncates, "saved: a text of 50000 printable ASCII characters came back as another one"),
        (Forgets, "saved: what was saved was not there"),
        (OtherRevision, "saved: load returned another revision than save"),
        (NoRevision, "saved: save did not return a revision: a str that is not empty"),
        (NumberedRevision, "saved: save did not return a revision: a str that is not empty"),
        (Caches, "another process: a process did not see what another one saved since it looked last"),
        (CachesUntilChanged, "another process: a process still saw what another one had removed"),
        (Upserts, "made twice: a record that was there already was made anew: expected_revision=None did not count"),
        (RefusesTooLate, "made twice: a save that was refused changed the record"),
        (LastOneWins, "changed meanwhile: what another process saved was overwritten: expected_revision did not count"),
        (RefusesTooLate, "changed meanwhile: a save that was refused changed the record"),
        (KeepsRemoved, "removed meanwhile: a record that was removed was still there"),
        (BringsBack, "removed meanwhile: a record that another process had removed came back by a save"),
        (RefusesTooLate, "removed meanwhile: a save that was refused made a record"),
        (Counts, "revisions: a revision was used twice for one key"),
        (Impatient, "kept: a record was dropped before forget_at"),
        (DropsWhatStays, "kept: a record without forget_at was dropped"),
        (LooksThenWrites, "race: of 4 callers that expected the same revision, 4 got through"),
        (LateRefusal, "race: a save that was refused changed the record"),
        (Breaks, "nothing there: the store raised OSError"),
        (BreaksInThreads, "race: the store raised OSError"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(check: Check, broken: type[Store], finding: str) -> None:
    """Each way to be wrong has its finding, and the report raises it."""
    inner = MemoryStore()
    shared = broken(inner)
    # A cache is each process's own; what else is broken, all see.
    report = check((lambda: broken(inner)) if issubclass(broken, Caches) else lambda: shared)
    assert finding in [str(found) for found in report.findings]
    assert not report.ok
    with pytest.raises(AssertionError, match="10 scenarios, ") as caught:
        report.raise_for_findings()
    raised = [found.error for found in report.findings if found.error is not None]
    assert caught.value.__cause__ is (raised[0] if raised else None)


def test_keys_that_are_taken_for_others_are_found() -> None:
    """A store whose keys are compared without regard to case is found."""
    shared = SameKey()
    report = check_transaction_store(lambda: shared)
    assert [(found.scenario, str(found.error or "")[:16]) for found in report.findings] == [
        ("keys apart", "somebody else ch")
    ]


class Mixes(Store):
    """Keeps the first 39 characters of a key, as a column that is too narrow does."""

    def load(self, key: str, **options: Any) -> StoredRecord | None:
        return super().load(key[:39], **options)

    def save(self, key: str, text: str, **options: Any) -> str:
        return self.overwrite(key[:39], text, options["forget_at"])


def test_keys_that_are_cut_are_found() -> None:
    """A store that mixes up long keys is found."""
    shared = Mixes()
    report = check_transaction_store(lambda: shared)
    assert any("a key was taken for another one, or not kept" in str(found) for found in report.findings)


def test_nothing_is_shared() -> None:
    """Stores that each have their own memory are no store for several processes."""
    report = check_transaction_store(MemoryStore)
    assert "another process: what one process saved, another one did not find" in map(str, report.findings)


class AsyncStore:
    """A store whose methods wait."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self.options: set[object] = set()

    async def load(self, key: str, *, store_options: Any) -> StoredRecord | None:
        self.options.add(store_options)
        await anyio.lowlevel.checkpoint()
        return self.inner.load(key)

    async def save(
        self,
        key: str,
        text: str,
        *,
        expected_revision: str | None,
        forget_at: float | None,
        store_options: Any,
    ) -> str:
        self.options.add(store_options)
        await anyio.lowlevel.checkpoint()
        return self.inner.save(key, text, expected_revision=expected_revision, forget_at=forget_at)

    async def remove(self, key: str, *, store_options: Any) -> None:
        self.options.add(store_options)
        await anyio.lowlevel.checkpoint()
        self.inner.remove(key)


@every_check
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_stores_whose_methods_are_awaited(check: Check, backend: str) -> None:
    """An async store is checked under any event loop, and gets the options that were given."""

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        return anyio.run(main, backend=backend)

    store, options = AsyncStore(MemoryStore()), object()
    check(lambda: store, run=run, store_options=options).raise_for_findings()
    assert store.options == {options}
    assert not check(lambda: AsyncStore(MemoryStore()), run=run).ok


def test_a_loop_that_cannot_run_in_several_threads_is_found() -> None:
    """A `run` that is not fit for the check ends in a finding and not in a wait without end."""
    memory, loop = MemoryStore(), threading.Lock()

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        if not loop.acquire(blocking=False):
            raise RuntimeError("this event loop is already running")
        try:
            return anyio.run(main)
        finally:
            loop.release()

    assert not check_transaction_store(lambda: AsyncStore(memory), run=run).ok


def test_an_event_loop_is_needed_for_an_async_store() -> None:
    """Without `run`, a store whose methods wait is refused by the name of what lacks."""
    with pytest.raises(TypeError, match="run: needed"):
        check_transaction_store(lambda: AsyncStore(MemoryStore()))


class Promises(Store):
    """Returns something to await that is no coroutine."""

    def load(self, key: str, **options: Any) -> Any:
        class Promise:
            def __await__(self) -> Any:
                raise NotImplementedError

        return Promise()


def test_whatever_is_awaited_needs_an_event_loop() -> None:
    """A future is to be awaited as a coroutine is."""
    with pytest.raises(TypeError, match="run: needed"):
        check_session_store(Promises)


# Stores that can claim


def having(options: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return what a method was called with, and something else instead."""
    return options | changes


class HandsOutTwice(MemoryStore):
    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        return super().claim(limit, 0.0, **options)


class KeepsTheRevision(MemoryStore):
    """Claims, and leaves the one who had the record before in possession."""

    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        claims = super().claim(limit, lease, **options)
        for claimed in claims.claimed:
            self._entries[claimed.key].revision = self.before[claimed.key]
        return claims

    def save(self, key: str, text: str, **options: Any) -> str:
        revision = super().save(key, text, **options)
        self.before[key] = revision
        return revision

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, str] = {}


class TellsNoAge(MemoryStore):
    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        claims = super().claim(limit, lease, **options)
        return Claims(
            claims.now, tuple(evolve(one, record=evolve(one.record, age=None)) for one in claims.claimed)
        )


class HandsOutEarly(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        if options.get("wake_after"):
            options["wake_after"] = 0.0
        return super().save(key, text, **options)


class HandsOutAll(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        options["wake_after"] = options.get("wake_after") or 0.0
        return super().save(key, text, **options)


class ForgetsTheLease(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        return super().save(key, text, **having(options, lease=0.0))


class KeepsForGood(MemoryStore):
    """Loses what a claimer that has died had in its hands."""

    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        return super().claim(limit, lease or 3600.0, **options)


class NeverRenews(MemoryStore):
    def renew(self, key: str, revision: str, lease: float, **options: Any) -> bool:
        return True


class ReleasesNothing(MemoryStore):
    def release(self, key: str, revision: str, *, wake_after: float | None, **options: Any) -> bool:
        return True


class ReleasesAtOnce(MemoryStore):
    def release(self, key: str, revision: str, *, wake_after: float | None, **options: Any) -> bool:
        return super().release(key, revision, wake_after=0.0, **options)


class ForgetsTries(MemoryStore):
    """Takes a try that is repeated for somebody else's."""

    def save(self, key: str, text: str, **options: Any) -> str:
        found = self._entries.get(key)
        if found is not None and found.revision == options.get("revision"):
            raise StoreConflict("changed")
        return super().save(key, text, **options)


class ForgivesTries(MemoryStore):
    """Takes any try that is repeated for saved, whatever came after it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str | None] = set()

    def save(self, key: str, text: str, **options: Any) -> str:
        revision: str | None = options.get("revision")
        if revision is not None and revision in self.seen:
            return revision
        self.seen.add(revision)
        return super().save(key, text, **options)


class LosesCallbacks(MemoryStore):
    def deliver(self, key: str, text: str, **options: Any) -> bool:
        return self.load(key) is not None


class KeepsCallbacks(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        return super().save(key, text, **having(options, taken=()))


class DropsCallbacks(MemoryStore):
    """Takes all callbacks with a save, also those that came after the text was made."""

    def save(self, key: str, text: str, **options: Any) -> str:
        found = self._entries.get(key)
        taken = [] if found is None else [callback.id for callback in found.callbacks]
        return super().save(key, text, **having(options, taken=taken))


class CallbacksEndLeases(MemoryStore):
    def deliver(self, key: str, text: str, **options: Any) -> bool:
        if key in self._entries:
            self._entries[key].lease_until = 0.0
        return super().deliver(key, text, **options)


class NeverForgets(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        return super().save(key, text, **having(options, forget_after=None))


class HandsOutTooMany(MemoryStore):
    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        return super().claim(limit + 1, lease, **options)


def changed(claims: Claims, **changes: Any) -> Claims:
    """The claims with records that are otherwise."""
    return Claims(
        claims.now, tuple(evolve(one, record=evolve(one.record, **changes)) for one in claims.claimed)
    )


class HandsOutNothing(MemoryStore):
    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        return Claims(0.0, ())


class HandsOutAnotherText(MemoryStore):
    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        return changed(super().claim(limit, lease, **options), text="another")


class ListsFromTheStart(MemoryStore):
    def pending(self, limit: int = 1000, **options: Any) -> list[str]:
        return super().pending(limit)


class ListsAll(MemoryStore):
    def pending(self, limit: int = 1000, *, after: str = "", **options: Any) -> list[str]:
        return [key for key in self.keys() if key > after]


class StableRevision(MemoryStore):
    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        before = {key: entry.revision for key, entry in self._entries.items()}
        claims = super().claim(limit, lease, **options)
        for one in claims.claimed:
            self._entries[one.key].revision = before[one.key]
        return Claims(
            claims.now,
            tuple(evolve(one, record=evolve(one.record, revision=before[one.key])) for one in claims.claimed),
        )


class NeverParks(MemoryStore):
    def release(self, key: str, revision: str, *, wake_after: float | None, **options: Any) -> bool:
        return wake_after is not None and super().release(key, revision, wake_after=wake_after)


class SaysItParks(MemoryStore):
    def release(self, key: str, revision: str, *, wake_after: float | None, **options: Any) -> bool:
        return wake_after is None or super().release(key, revision, wake_after=wake_after)


class OwnRevisions(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        return super().save(key, text, **having(options, revision=None))


class LastNameWins(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        found = self._entries.get(key)
        if text == "late" and found is not None:
            options["expected_revision"] = found.revision
        return super().save(key, text, **options)


class RefusesLate(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        try:
            return super().save(key, text, **options)
        except StoreConflict:
            self._entries[key].text = text
            raise


class DeliversToNobody(MemoryStore):
    def deliver(self, key: str, text: str, **options: Any) -> bool:
        super().deliver(key, text, **options)
        return True


class DeliveryRevises(MemoryStore):
    def deliver(self, key: str, text: str, **options: Any) -> bool:
        taken = super().deliver(key, text, **options)
        if taken:
            self._entries[key].revision += "-"
        return taken


class DeliveryWakesNobody(MemoryStore):
    def deliver(self, key: str, text: str, **options: Any) -> bool:
        taken = super().deliver(key, text, **options)
        if taken:
            entry = self._entries[key]
            self._due.put(key, entry.wake_at + 3600)
        return taken


class ClaimsWithoutCallbacks(MemoryStore):
    def claim(self, limit: int, lease: float, **options: Any) -> Claims:
        return changed(super().claim(limit, lease, **options), callbacks=())


class DropsDuringALease(MemoryStore):
    def deliver(self, key: str, text: str, **options: Any) -> bool:
        return text == "third" or super().deliver(key, text, **options)


class KeepsCallbacksOfTheDead(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        return super().save(
            key, text, **(options if options.get("wake_after") else having(options, taken=()))
        )


class TellsAnotherAge(MemoryStore):
    def load(self, key: str, **options: Any) -> StoredRecord | None:
        found = super().load(key, **options)
        return None if found is None else evolve(found, age=1e6)


class SavesNothingAnew(MemoryStore):
    def save(self, key: str, text: str, **options: Any) -> str:
        return "1" if text == "anew" else super().save(key, text, **options)


@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (HandsOutNothing, "claimed once: a record that is due was not handed out"),
        (HandsOutAnotherText, "claimed once: a record was handed out with another text"),
        (ListsFromTheStart, "not due: pending returned a key that is not behind `after`"),
        (ListsAll, "not due: a record that is not to be gone on with was among those that are pending"),
        (StableRevision, "expired lease: whoever lost the lease could still save the record"),
        (NeverParks, "released: a record could not be parked"),
        (SaysItParks, "released: release without wake_after did not take the record off the list"),
        (OwnRevisions, "lost commit: a save did not give the record the revision that it named"),
        (LastNameWins, "lost commit: a save got through that expected an older revision"),
        (RefusesLate, "lost commit: a save that was refused changed the record"),
        (DeliversToNobody, "called back: a callback was taken for a record that is not there"),
        (DeliveryRevises, "called back: a callback changed the revision of its record"),
        (DeliveryWakesNobody, "called back: a record was not due when a callback had come for it"),
        (ClaimsWithoutCallbacks, "called back: claim did not return the callbacks in the order in which they came, each once"),
        (DropsDuringALease, "called back: a callback that came after the record was claimed was lost"),
        (KeepsCallbacksOfTheDead, "called back: callbacks that a save has taken were still there"),
        (TellsAnotherAge, "spans: load told another age than the record has"),
        (SavesNothingAnew, "spans: a record that is over was in the way of a new one"),
        (HandsOutTwice, "claimed once: a record was handed out to two claimers"),
        (KeepsTheRevision, "claimed once: whoever had the record before it was claimed could still save it"),
        (TellsNoAge, "claimed once: a claim did not tell how long ago the record was saved, and was due"),
        (HandsOutEarly, "not due: a record was handed out before its time"),
        (HandsOutAll, "not due: a record that is not to be gone on with was handed out"),
        (ForgetsTheLease, "not due: a record was handed out while its lease lasts"),
        (KeepsForGood, "expired lease: a record whose lease is over was not handed out again"),
        (NeverRenews, "expired lease: whoever lost the lease could renew it"),
        (NeverRenews, "renewed: a record was handed out though its lease was renewed"),
        (ReleasesNothing, "released: a record that was given back was not handed out again"),
        (ReleasesAtOnce, "released: a record was handed out before the time that it was given back for"),
        (ForgetsTries, "lost commit: the store raised StoreConflict"),
        (ForgivesTries, "lost commit: a try that was repeated after another save counted as saved"),
        (LosesCallbacks, "called back: load did not return the callbacks in the order in which they came, each once"),
        (KeepsCallbacks, "called back: a callback that no save has taken did not make the record due"),
        (DropsCallbacks, "called back: a callback that no save has taken did not make the record due"),
        (CallbacksEndLeases, "called back: a callback ended the lease of a record"),
        (NeverForgets, "spans: a record was there after forget_after"),
        (HandsOutTooMany, "claimers: claim handed out more than `limit`"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_claims_is_found(broken: type[MemoryStore], finding: str) -> None:
    """Each way to hand out wrongly has its finding."""
    store = broken()
    report = check_transaction_store(lambda: store)
    assert finding in [str(found) for found in report.findings]


def test_a_store_by_the_clock_of_its_callers_is_found() -> None:
    """A store that claims to have a clock of its own, and reads that of whoever calls, is found."""
    store = MemoryStore(time=lambda: time.time())  # noqa: PLW0108  # looked up at each call
    report = check_transaction_store(lambda: store, own_clock=True)
    assert [found.scenario for found in report.findings] == ["clocks that differ"]
    assert len(report.scenarios) == 20


class AgesByTheCaller(MemoryStore):
    def __init__(self) -> None:
        super().__init__(time=time.monotonic)
        self.since = time.time()

    def load(self, key: str, **options: Any) -> StoredRecord | None:
        found = super().load(key, **options)
        return None if found is None else evolve(found, age=time.time() - self.since)


class AgesByItself(AgesByTheCaller):
    def load(self, key: str, **options: Any) -> StoredRecord | None:
        found = super().load(key, **options)
        return None if found is None else evolve(found, age=0.0)


def test_a_store_with_a_clock_of_its_own() -> None:
    """What a store says of ages and times is by its own clock throughout."""
    store = AgesByTheCaller()
    report = check_transaction_store(lambda: store, own_clock=True)
    finding = "the clock of a process decided how old a record is, and not that of the store"
    assert f"clocks that differ: {finding}" in [str(found) for found in report.findings]
    good = AgesByItself()
    scenarios = [found.scenario for found in check_transaction_store(lambda: good, own_clock=True).findings]
    assert "clocks that differ" not in scenarios
