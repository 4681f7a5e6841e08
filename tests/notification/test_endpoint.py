"""Where callbacks meet the loops that wait for them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import anyio
import pytest
import trio
from attrs import evolve

from ciba_adapters._cancellation import Cancellation
from ciba_adapters.notification import Admission, Held, NotificationEndpoint, Reply
from ciba_adapters.notification._waiting import Bell
from ciba_core import HttpResponse, Notification, NotificationReceived, Routes, Step, Transaction, step
from ciba_core.errors import LocalProtocolError
from ciba_core.notification import read_body, token_hash
from ciba_core.provider.shared import NOTHING_SHARED
from ciba_core.states import Authenticated, FetchingKeys, Pending, Polling
from ciba_core.transaction.inputs import Cancel, ResponseReceived, TimerFired
from tests.samples import ACKNOWLEDGEMENT, JWKS, NOW, SHARED, answer, pending, reply

from .callbacks import (
    PATIENCE,
    PING,
    PUSH,
    Callback,
    Loop,
    World,
    acknowledged,
    callback,
    elsewhere,
    token_of,
    unacknowledged,
)

backends: Final = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ELSEWHERE: Final = HttpResponse(204, (), b"")


def fed(current: Transaction, notification: Notification | None, **changes: Any) -> Step:
    assert notification is not None
    return step(current, NotificationReceived(notification), NOW, changes.get("shared", SHARED))


def submit(world: World, sent: Callback) -> Reply:
    """Deliver a callback and do not wait for its answer."""
    admitted = world.endpoint.check_head(sent.method, sent.headers)
    assert isinstance(admitted, Admission)
    return admitted.submit(sent.body)


def status(reply: Reply) -> int | None:
    return None if reply.response is None else reply.response.status


# --- ping ---------------------------------------------------------------------------------------------------


def test_a_ping_is_answered_while_the_loop_polls() -> None:
    """CIBA-10.2-05: the answer goes out at once; the loop finds the ping when its poll is over."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)
    assert transaction.deadline is not None
    fallback = step(transaction, TimerFired(transaction.deadline), NOW, SHARED)
    assert isinstance(fallback.transaction.state, Polling)
    held.update(fallback)
    assert world.send(callback(transaction)).status == 204
    pinged = fed(fallback.transaction, held.take())
    assert isinstance(pinged.transaction.state, Polling)
    held.update(pinged)
    assert held.take() is None


def test_a_ping_before_the_acknowledgement() -> None:
    """SM-05: a callback that overtakes the acknowledgement is accepted, and used when that is there."""
    world = World()
    sent = unacknowledged()
    held = world.hold(sent)
    assert world.send(callback(sent)).status == 204
    acknowledgement = answer(sent, reply(200, ACKNOWLEDGEMENT))
    held.update(acknowledgement)
    pinged = fed(acknowledgement.transaction, held.wait(PATIENCE))
    assert pinged.transaction.deadline is not None
    assert pinged.transaction.deadline <= NOW


def test_repeated_pings_are_harmless() -> None:
    """CIBA-9-16, CIBA-10.2-06: however often it comes, 204; and no more than a few are kept."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)
    assert {world.send(callback(transaction)).status for _ in range(50)} == {204}
    taken = 0
    while held.take() is not None:
        taken += 1
    assert 1 <= taken <= 8


# --- push ---------------------------------------------------------------------------------------------------


def test_a_push_is_accepted_once_it_could_be_stored() -> None:
    """CIBA-10.3-12: no answer before the loop has fed the push, and its caller had the step."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)
    delivered = submit(world, callback(transaction, PUSH))
    assert delivered.response is None
    pushed = fed(transaction, held.wait(PATIENCE))
    assert isinstance(pushed.transaction.state, Authenticated)
    assert delivered.response is None
    held.update(pushed)
    assert status(delivered) == 204


def test_a_push_that_nobody_takes_in_time() -> None:
    """The provider is told to come back after the time limit, and the tokens are not lost."""
    world = World(answer_timeout=0.01)
    transaction = acknowledged("push")
    held = world.hold(transaction)
    assert world.send(callback(transaction, PUSH)).status == 503
    assert fed(transaction, held.take()).transaction.tokens is not None


def test_a_push_that_needs_keys() -> None:
    """CIBA-10.3-14: the push is answered by the later step that has the keys; a ping meanwhile is not."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction, shared=NOTHING_SHARED)
    delivered = submit(world, callback(transaction, PUSH))
    fetching = fed(transaction, held.take(), shared=NOTHING_SHARED)
    assert isinstance(fetching.transaction.state, FetchingKeys)
    held.update(fetching)
    assert delivered.response is None
    assert world.send(callback(transaction, PING)).status == 400
    held.update(fed(fetching.transaction, held.take()))
    assert delivered.response is None
    keys = ResponseReceived(fetching.transaction.requests, reply(200, JWKS), 0.0)
    held.update(step(fetching.transaction, keys, NOW, fetching.shared))
    assert status(delivered) == 204


def test_a_second_push_while_the_first_is_checked() -> None:
    """Each push gets the answer to itself."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)
    first = submit(world, callback(transaction, PUSH))
    fetching = fed(transaction, held.take(), shared=NOTHING_SHARED)
    held.update(fetching)
    second = submit(world, callback(transaction, PUSH))
    held.update(fed(fetching.transaction, held.take()))
    assert (status(first), status(second)) == (None, 503)


def test_a_push_twice_at_once() -> None:
    """CIBA-9-16: what is left over at the end is a repeated callback for a finished transaction."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)
    replies = [submit(world, callback(transaction, PUSH)) for _ in range(2)]
    held.update(fed(transaction, held.take()))
    held.close()
    assert [status(delivered) for delivered in replies] == [204, 204]


def test_more_pushes_than_are_kept() -> None:
    """A flood under the right token costs a bounded amount of memory."""
    world = World()
    transaction = acknowledged("push")
    world.hold(transaction)
    replies = [submit(world, callback(transaction, PUSH)) for _ in range(10)]
    assert [status(delivered) for delivered in replies] == [None] * 8 + [503] * 2


def test_a_loop_that_is_cancelled_answers() -> None:
    """A push that was taken, but not used, is not accepted."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)
    delivered = submit(world, callback(transaction, PUSH))
    held.take()
    held.update(step(transaction, Cancel(), NOW, SHARED))
    held.close()
    assert status(delivered) == 503


def test_an_answer_that_nobody_waits_for() -> None:
    """Steps may have answers for callbacks that came another way."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)
    held.update(Step(transaction, answer=ELSEWHERE, shared=SHARED))
    assert world.send(callback(transaction, PING)).status == 400


# --- routes -------------------------------------------------------------------------------------------------


def test_a_transaction_without_token() -> None:
    """A client in poll mode gets no callbacks; to hold its transaction is a mistake."""
    with pytest.raises(LocalProtocolError, match="poll mode"):
        World().hold(pending())


def test_after_the_end() -> None:
    """CIBA-9-16, CIBA-10.3-11: 204 for a while, and 401 afterwards, when the transaction is forgotten."""
    world = World(grace=60.0)
    transaction = acknowledged()
    held = world.hold(transaction)
    held.update(step(transaction, Cancel(), NOW, SHARED))
    held.close()
    held.close()
    world.clock.sleep(59.0)
    assert world.send(callback(transaction)).status == 204
    world.clock.sleep(1.0)
    assert world.send(callback(transaction)).status == 401
    assert not held.ready()


def test_a_transaction_that_lasts_long() -> None:
    """The route stays for as long as the provider gave the user, and the grace."""
    world = World(grace=60.0)
    sent = unacknowledged()
    held = world.hold(sent)
    held.update(answer(sent, reply(200, {**ACKNOWLEDGEMENT, "expires_in": 7200})))
    world.clock.sleep(7259.0)
    assert world.send(callback(sent)).status == 204
    world.clock.sleep(1.0)
    assert world.send(callback(sent)).status == 401


def test_a_route_stays_while_keys_are_fetched() -> None:
    """What was pushed at the last moment may take longer to check than the user had."""
    world = World(grace=0.0)
    transaction = acknowledged("push", expires_in=700)
    held = world.hold(transaction)
    world.clock.sleep(699.0)
    submit(world, callback(transaction, PUSH))
    notification = held.take()
    assert notification is not None
    received = NotificationReceived(notification)
    held.update(step(transaction, received, world.clock.time(), NOTHING_SHARED))
    world.clock.sleep(50.0)
    assert submit(world, callback(transaction, PUSH)).response is None


def test_what_is_over_is_forgotten() -> None:
    """Transactions that have ended do not pile up, tokens and all."""
    world = World(grace=60.0)

    def ended() -> weakref.ref[Held]:
        held = world.hold(acknowledged())
        held.close()
        return weakref.ref(held)

    references = [ended() for _ in range(3)]
    world.clock.sleep(1000.0)
    world.hold(acknowledged())
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


@pytest.mark.parametrize("left_again", [True, False])
def test_what_goes_on_is_not_forgotten(left_again: bool) -> None:
    """A transaction that was left, and resumed, is there for as long as it can last."""
    world = World(grace=0.0)
    transaction = acknowledged()
    world.hold(transaction).close()
    held = world.hold(evolve(transaction, state=acknowledged(expires_in=7200).state))
    if left_again:
        held.close()
    world.clock.sleep(1000.0)
    world.hold(acknowledged())
    assert world.send(callback(transaction)).status == 204
    assert held.ready()


def test_a_shared_store() -> None:
    """The embedder's store is asked, and told what to keep: hashes and names, no tokens."""
    routes = Routes()
    world = World(routes=routes)
    transaction = acknowledged()
    held = world.hold(transaction, key="order-17")
    assert transaction.client_notification_token is not None
    hashed = token_hash(transaction.client_notification_token)
    assert routes.find(hashed, NOW) == held.key == "order-17"
    assert world.send(callback(transaction)).status == 204
    assert World(routes=routes).send(callback(transaction)).status == 503


def test_the_default_key_is_the_hash() -> None:
    """Who stores snapshots can compute the name under which a callback is looked for."""
    transaction = acknowledged()
    assert transaction.client_notification_token is not None
    assert World().hold(transaction).key == token_hash(transaction.client_notification_token)


# --- transactions that are not held -------------------------------------------------------------------------


def test_not_held_is_asked() -> None:
    """A callback can be resolved by who has the snapshot."""
    transaction = acknowledged("push")
    stored: list[Transaction] = []

    def not_held(key: str, notification: Notification) -> HttpResponse | None:
        assert key == "order-17"
        current = fed(transaction, notification)
        stored.append(current.transaction)
        return current.answer

    world = World(routes=elsewhere(transaction), not_held=not_held)
    assert world.send(callback(transaction, PUSH)).status == 204
    assert stored[0].tokens is not None


@pytest.mark.parametrize("found", [None, ELSEWHERE])
@pytest.mark.parametrize("asynchronous", [True, False])
@backends
def test_not_held_under_an_event_loop(found: HttpResponse | None, asynchronous: bool, backend: str) -> None:
    """It may be asynchronous; when it knows no more than the endpoint, the provider may come back."""

    async def later(_key: str, _notification: Notification) -> HttpResponse | None:
        await anyio.lowlevel.checkpoint()
        return found

    def at_once(_key: str, _notification: Notification) -> HttpResponse | None:
        return found

    transaction = acknowledged()
    world = World(routes=elsewhere(transaction), not_held=later if asynchronous else at_once)
    sent = callback(transaction)

    async def main() -> HttpResponse:
        return await world.endpoint.answer(sent.method, sent.headers, sent.body)

    assert anyio.run(main, backend=backend).status == (503 if found is None else 204)


@pytest.mark.parametrize("coroutine", [True, False])
def test_not_held_cannot_be_awaited_without_event_loop(coroutine: bool) -> None:
    """An asynchronous function behind a synchronous server is a mistake, and said to be one."""

    async def later(_key: str, _notification: Notification) -> HttpResponse | None:
        raise NotImplementedError

    class Result(Awaitable[None]):
        def __await__(self) -> Any:
            raise NotImplementedError

    def other(_key: str, _notification: Notification) -> Awaitable[None]:
        return Result()

    transaction = acknowledged()
    world = World(routes=elsewhere(transaction), not_held=later if coroutine else other)
    with pytest.raises(LocalProtocolError, match="not_held"):
        world.send(callback(transaction))


# --- from one loop to the next ------------------------------------------------------------------------------


def test_a_callback_between_two_loops() -> None:
    """A transaction that was begun, left, and resumed in the same process loses nothing."""
    world = World()
    transaction = acknowledged()
    world.hold(transaction).close()
    assert world.send(callback(transaction)).status == 204
    assert world.hold(transaction).take() is not None


def test_a_callback_between_two_loops_is_resolved_elsewhere() -> None:
    """Where the embedder knows about other processes, one of them may have gone on."""
    asked: list[str] = []

    def not_held(key: str, _notification: Notification) -> HttpResponse | None:
        asked.append(key)
        return ELSEWHERE

    world = World(not_held=not_held)
    transaction = acknowledged()
    held = world.hold(transaction)
    assert world.send(callback(transaction)).status == 204
    assert asked == []
    held.close()
    assert world.send(callback(transaction)).status == 204
    assert asked == [held.key]
    assert world.hold(transaction).take() is not None


def test_what_a_loop_has_not_finished() -> None:
    """A loop that ends over a notification leaves it to the next one, before all others, and its answer too."""
    world = World()
    transaction = acknowledged("push")
    former = world.hold(transaction)
    first = submit(world, callback(transaction, PUSH))
    second = submit(world, callback(transaction, PUSH))
    former.take()
    former.close()
    held = world.hold(transaction)
    pushed = fed(transaction, held.take())
    assert first.response is None
    held.update(pushed)
    assert (status(first), status(second)) == (204, None)
    assert held.take() is not None
    assert held.take() is None


def test_two_loops_of_one_transaction() -> None:
    """The later one has it, with the callback that waits for keys; the end of the former changes nothing."""
    world = World()
    transaction = acknowledged("push")
    former = world.hold(transaction, shared=NOTHING_SHARED)
    waiting = submit(world, callback(transaction, PUSH))
    fetching = fed(transaction, former.take(), shared=NOTHING_SHARED)
    former.update(fetching)
    taken = submit(world, callback(transaction, PUSH))
    former.take()
    held = world.hold(fetching.transaction)
    former.close()
    held.update(fed(fetching.transaction, held.take()))
    assert (status(waiting), status(taken)) == (None, 503)
    keys = ResponseReceived(fetching.transaction.requests, reply(200, JWKS), 0.0)
    held.update(step(fetching.transaction, keys, NOW, NOTHING_SHARED))
    assert status(waiting) == 204


def test_a_callback_that_found_the_former_loop() -> None:
    """A callback that comes in just as a loop takes over reaches that one."""
    world = World()
    transaction = acknowledged()
    former = world.hold(transaction)
    held = world.hold(transaction)
    notification = read_body(callback(transaction).body)
    assert isinstance(notification, Notification)
    assert status(former.deliver(notification, 10)) == 204
    assert held.take() == notification


@pytest.mark.parametrize("released", ["taken", "ended", "taken over"])
def test_what_waits_is_bounded_over_all_transactions(released: str) -> None:
    """Bodies that wait for loops have so many octets together; what is above that has to come again."""
    first, second = acknowledged(), acknowledged()
    octets = len(callback(first).body)
    world = World(queue_limit=2 * octets + 1)
    held, other = world.hold(first), world.hold(second)
    assert [world.send(callback(first)).status for _ in range(3)] == [204, 204, 503]
    assert world.send(callback(second)).status == 503
    match released:
        case "taken":
            assert held.take() is not None
        case "ended":
            held.update(step(first, Cancel(), NOW, SHARED))
            held.close()
        case _:
            held = world.hold(first)
            assert world.send(callback(second)).status == 503
            assert held.take() is not None
    assert world.send(callback(second)).status == 204
    assert other.take() is not None


def test_two_lengths() -> None:
    """RFC 9112 6.1: a server that passes both on may have seen another request than the one before it."""
    world = World()
    transaction = acknowledged()
    world.hold(transaction)
    both = callback(transaction, more_headers=(("transfer-encoding", "chunked"), ("content-length", "22")))
    assert world.send(both).status == 400
    assert world.send(callback(transaction)).status == 204


# --- waiting ------------------------------------------------------------------------------------------------


def test_a_thread_is_woken() -> None:
    """A callback in one thread ends the wait in another."""
    world = World()
    transaction = acknowledged("push")
    loop = Loop(world.hold(transaction), transaction)
    assert world.send(callback(transaction, PUSH)).status == 204
    assert loop.end().tokens is not None


@backends
def test_a_task_is_woken_from_another_thread(backend: str) -> None:
    """A callback in any thread ends the wait of a task, and the task's answer ends that of the thread."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)

    async def main() -> Transaction:
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(world.send, callback(transaction, PUSH))
            with anyio.fail_after(PATIENCE):
                pushed = fed(transaction, await held.wait_async(PATIENCE))
            held.update(pushed)
            assert sent.result(PATIENCE).status == 204
        return pushed.transaction

    assert anyio.run(main, backend=backend).tokens is not None


@backends
@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_a_task_is_woken_from_another_event_loop(backend: str, other: str) -> None:
    """The web server's loop and the client's may be of different kinds."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)
    sent = callback(transaction, PUSH)

    async def client() -> None:
        pushed = fed(transaction, await held.wait_async(PATIENCE))
        held.update(pushed)

    async def server() -> HttpResponse:
        return await world.endpoint.answer(sent.method, sent.headers, sent.body)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: anyio.run(client, backend=backend))
        assert anyio.run(server, backend=other).status == 204
        waiting.result(PATIENCE)


@backends
def test_a_task_and_its_server_in_one_event_loop(backend: str) -> None:
    """Nothing blocks where both run in the same thread."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)
    sent = callback(transaction, PUSH)

    async def client() -> None:
        held.update(fed(transaction, await held.wait_async(PATIENCE)))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client)
            answered = await world.endpoint.answer(sent.method, sent.headers, sent.body)
            assert answered.status == 204

    anyio.run(main, backend=backend)


@backends
def test_a_wait_that_is_over(backend: str) -> None:
    """Without a callback a wait ends in time, and one of no time at all just looks."""
    held = World().hold(acknowledged())

    async def main() -> None:
        assert await held.wait_async(0.0) is None
        assert await held.wait_async(0.001) is None

    anyio.run(main, backend=backend)
    assert held.wait(0.0) is None
    assert held.wait(0.001) is None


@backends
def test_what_is_there_is_not_waited_for(backend: str) -> None:
    """A notification that came before the wait ends it at once."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)
    world.send(callback(transaction))
    world.send(callback(transaction))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(held.wait, 2 * PATIENCE).result(PATIENCE) is not None

    async def main() -> None:
        with anyio.fail_after(PATIENCE):
            assert await held.wait_async(2 * PATIENCE) is not None

    anyio.run(main, backend=backend)


@backends
def test_a_wait_is_cancelled(backend: str) -> None:
    """Cancellation passes through, and a callback afterwards finds nobody to wake."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)

    async def main() -> None:
        with anyio.move_on_after(0) as scope:
            await held.wait_async(PATIENCE)
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    assert world.send(callback(transaction)).status == 204


def test_an_event_loop_that_is_gone() -> None:
    """A callback for a task whose event loop was closed under it does no harm."""
    bell = Bell()
    loop = asyncio.new_event_loop()
    task = loop.create_task(bell.wait_async(PATIENCE, lambda: False))
    loop.run_until_complete(asyncio.sleep(0))
    wake = bell._wake  # pyright: ignore[reportPrivateUsage]
    assert wake is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    wake()

    async def main() -> Callable[[], None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bell.wait_async, PATIENCE, lambda: False)
            while (wake := bell._wake) is None:  # pyright: ignore[reportPrivateUsage]
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        return wake

    trio.run(main)()


def test_a_wait_that_is_cancelled_from_another_thread() -> None:
    """A thread that waits for callbacks is woken by those, and by its cancellation."""
    world = World()
    transaction = acknowledged()
    held = world.hold(transaction)
    cancellation = Cancellation()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(held.wait, PATIENCE, cancellation)
        world.send(callback(transaction))
        assert waiting.result(PATIENCE) is not None
        waiting = pool.submit(held.wait, PATIENCE, cancellation)
        cancellation.cancel()
        assert waiting.result(PATIENCE) is None


def test_in_virtual_time() -> None:
    """A callback out of the clock ends the wait there, and its answer can be seen afterwards."""
    world = World()
    transaction = acknowledged("push")
    held = world.hold(transaction)
    replies: list[Reply] = []
    world.clock.call_at(17.0, lambda: replies.append(submit(world, callback(transaction, PUSH))))
    world.clock.sleep(120.0, held.ready)
    assert world.clock.monotonic() == 17.0
    held.update(fed(transaction, held.take()))
    assert [status(delivered) for delivered in replies] == [204]


# --- what shows ---------------------------------------------------------------------------------------------


def test_without_anybody_to_tell() -> None:
    """Callbacks that are turned away are nobody's business but the embedder's, who may not care."""
    endpoint = NotificationEndpoint()
    assert endpoint.answer_sync("GET", [], b"").status == 405


def test_no_secret_shows() -> None:
    """Neither tokens nor identifiers are in what a debugger prints of these values."""
    world = World()
    transaction = acknowledged("push")
    held: Held = world.hold(transaction)
    sent = callback(transaction, PUSH)
    admitted = world.endpoint.check_head(sent.method, sent.headers)
    assert isinstance(admitted, Admission)
    delivered = admitted.submit(sent.body)
    shown = repr((admitted, delivered, vars(world.endpoint), vars(held), vars(delivered)))
    assert token_of(transaction) not in shown
    assert PUSH["access_token"] not in shown
    assert PUSH["auth_req_id"] not in shown


def test_pending_is_pending() -> None:
    """What the tests begin with waits for a callback, not for a poll."""
    for mode in ("ping", "push"):
        state = acknowledged(mode).state
        assert isinstance(state, Pending)
        assert state.next_poll_at is None or mode == "ping"
