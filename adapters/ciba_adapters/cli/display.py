"""Shows an authentication: a line for each event and, on a terminal, a live panel."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, assert_never

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ciba_adapters.cli.masking import Masking, only_secrets
from ciba_adapters.cli.text import printable
from ciba_adapters.cli.wrapping import print_hanging
from ciba_core import Step, Transaction
from ciba_core.events import (
    AnswerHeaders,
    AuthenticationRefused,
    AuthenticationRequestDrafted,
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthorizationPending,
    AuthReqIdExpired,
    AuthReqIdIssued,
    AuthReqIdRecovered,
    CallbackAwaited,
    CancelRequested,
    DpopNonceRequired,
    ErrorPushed,
    Event,
    KeyRequestFailed,
    KeyRequestSent,
    NotificationHeld,
    NotificationIgnored,
    PingReceived,
    PollDrafted,
    PollFailed,
    PollSent,
    ProviderDeviation,
    PushRejected,
    SlowDown,
    TokenRequestFailed,
    TokensHeld,
    TokensIssued,
    TokensReceived,
    TokensUntrusted,
    UserDenied,
)
from ciba_core.notification import NotificationRejected
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Cancelled,
    Denied,
    Expired,
    Failed,
    FetchingKeys,
    New,
    Pending,
    Polling,
    Refused,
    SigningAuthentication,
    SigningPoll,
)

__all__ = ["Display"]

_WIDTH: Final = 72
_REFRESHES: Final = 8  # per second: a bar that moves, and no more


class Display:
    """Shows the steps of one authentication; a context manager.

    Args:
        console: the console to write to. Without a terminal that can move its cursor there is no panel.
        title: the title of the panel.
        facts: names and values that do not change, such as the binding message.
        hint: a last line for the panel, such as the keys that can be pressed.
        masking: masks secrets in texts of the provider.

    """

    def __init__(
        self,
        console: Console,
        *,
        title: str,
        facts: Sequence[tuple[str, str | None]] = (),
        hint: str | None = None,
        masking: Masking | None = None,
    ) -> None:
        self._console = console
        self._masking = Masking() if masking is None else masking
        self._title = title
        self._facts = [(name, printable(value)) for name, value in facts if value is not None]
        self._hint = hint
        self._started = time.monotonic()
        self._transaction: Transaction | None = None
        self._wait_from = 0.0
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(
                get_renderable=self._panel, console=console, refresh_per_second=_REFRESHES, transient=True
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, step: Step) -> None:
        """Show the events and the state of a step."""
        now = time.time()
        if self._live is None and self._transaction is None:
            for name, value in self._facts:
                self.say(f"{name.lower()}: {value}")
        self._wait_from = now
        self._transaction = step.transaction
        for event in step.events:
            self.show_event(event)

    def show_event(self, event: Event) -> None:
        """Write the line of an event."""
        line, style = _describe(event, time.time(), pings=_waits_for_ping(self._transaction))
        self.say(self._masking.masked(line), style)
        if isinstance(event, AuthReqIdIssued):
            # The user may need it now, such as the URL of a page to approve on.
            for name, value in event.extra.items():
                safe = self._masking.masked(only_secrets(name, value))
                self.say(f"{name}: {safe if isinstance(safe, str) else json.dumps(safe)}")

    def say(self, text: str, style: str = "") -> None:
        """Write a line."""
        elapsed = time.monotonic() - self._started
        print_hanging(self._console, Text(f"{elapsed:6.1f} s  ", "dim"), Text(printable(text), style))

    def _panel(self) -> RenderableType:  # noqa: PLR0915  # a case for each event
        transaction, now = self._transaction, time.time()
        state = transaction.state if transaction is not None else None
        rows: list[tuple[str, RenderableType]] = []
        match state:
            case Pending():
                rows.append(("State", Text("pending: waiting for the user", "yellow")))
                rows += self._facts
                if _waits_for_ping(transaction):
                    rows.append(("Next poll", "when the provider pings"))
                elif state.next_poll_at is None:
                    rows.append(("Next poll", "none planned: the provider calls back"))
                if state.next_poll_at is not None:
                    due = min(state.next_poll_at, state.expires_at)
                    name = "Without a ping" if _waits_for_ping(transaction) else "Next poll"
                    rows.append((name, _countdown(self._wait_from, now, due)))
                rows.append(("Time left", _clock(state.expires_at - now)))
            case Polling():
                rows.append(("State", Text("polling: asking the provider", "cyan")))
                rows += self._facts
                rows.append(("Next poll", Text("now", "cyan")))
                rows.append(("Time left", _clock(state.expires_at - now)))
            case FetchingKeys():
                rows.append(("State", Text("approved: fetching the provider's keys", "cyan")))
                rows += self._facts
                rows += [
                    ("Next try", Text("now", "cyan")),
                    ("Time left", _clock(state.search.give_up_at - now)),
                ]
            case AwaitingKeys():
                rows.append(("State", Text("approved: waiting for the provider's keys", "yellow")))
                rows += self._facts
                rows.append(("Next try", _countdown(self._wait_from, now, state.next_try_at)))
                rows.append(("Time left", _clock(state.search.give_up_at - now)))
            case SigningPoll():
                rows.append(("State", Text("polling: waiting for signatures", "cyan")))
                rows += self._facts
                rows += [("Next poll", ""), ("Time left", _clock(state.expires_at - now))]
            case AwaitingCallback():
                rows.append(("State", Text("acknowledgement lost: waiting for a callback", "yellow")))
                rows += self._facts
                rows += [("Next poll", ""), ("Time left", _clock(state.give_up_at - now))]
            case None | New() | SigningAuthentication() | AwaitingAcknowledgement():
                rows += self._without_waiting("sending the authentication request")
            case Authenticated() | Denied() | Expired() | Refused() | Failed() | Cancelled():
                # Shown for the moment before the panel goes.
                rows += self._without_waiting("done")
            case _:
                assert_never(state)
        rows.append(("Polls", str(transaction.polls) if transaction is not None else "0"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows:
            # Text, since a str would be read as markup.
            grid.add_row(name, Text(value) if isinstance(value, str) else value)
        if self._hint is not None:
            grid.add_row()
            grid.add_row("", Text(self._hint, "bold"))
        return Panel(grid, title=self._title, title_align="left", border_style="dim", width=self._width())

    def _without_waiting(self, doing: str) -> list[tuple[str, RenderableType]]:
        """Return the rows of a state without times; they do not move."""
        return [("State", Text(doing, "cyan")), *self._facts, ("Next poll", ""), ("Time left", "")]

    def _width(self) -> int:
        return min(_WIDTH, self._console.width)


def _countdown(start: float, now: float, end: float) -> RenderableType:
    total = max(end - start, 0.001)
    left = max(end - now, 0.0)
    line = Table.grid(padding=(0, 1))
    line.add_column(width=24)
    line.add_column()
    bar = ProgressBar(total=total, completed=total - left, width=24, finished_style="bar.complete")
    line.add_row(bar, f"in {left:.1f} s")
    return line


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _waits_for_ping(transaction: Transaction | None) -> bool:
    """Tell whether the client polls after a ping, and by itself only if no ping comes."""
    if transaction is None or transaction.client.backchannel_token_delivery_mode != "ping":  # noqa: S105  # a mode
        return False
    return not transaction.client.polling.beside_ping


def _describe(event: Event, now: float, *, pings: bool = False) -> tuple[str, str]:
    """Return a line for an event, and its style. Of the provider's texts it has only codes."""
    match event:
        case AuthenticationRequestDrafted() | PollDrafted():
            return "waiting for signatures", ""
        case AuthenticationRequestSent():
            return "authentication request sent", ""
        case AnswerHeaders():
            return "; ".join(f"{name}: {value}" for name, value in event.headers.items()), ""
        case AuthReqIdIssued():
            lifetime = _clock(event.expires_at - now + 0.5)
            polls = f"polls every {event.interval:g} s"
            then = "then the provider calls back" if event.next_poll_at is None else polls
            if pings and event.next_poll_at is not None:
                then = f"then the provider pings; without a ping, a poll {_wait(event.next_poll_at, now)}"
            return f"acknowledged: {lifetime} to decide, {then}", "cyan"
        case CallbackAwaited():
            lost = f"the acknowledgement was lost ({event.reason}); the user may have been asked"
            return f"{lost}: waiting for a callback, {_clock(event.give_up_at - now + 0.5)} at most", "red"
        case AuthReqIdRecovered():
            return "a callback stands in for the lost acknowledgement", "cyan"
        case PollSent():
            return f"poll {event.number}", ""
        case AuthorizationPending():
            return f"authorization_pending; next poll {_wait(event.next_poll_at, now)}", "yellow"
        case SlowDown():
            interval = f"polls every {event.interval:g} s from now on"
            return f"slow_down: {interval}; the next {_wait(event.next_poll_at, now)}", "yellow"
        case DpopNonceRequired():
            return f"use_dpop_nonce: the next poll, {_wait(event.next_poll_at, now)}, shows it", "yellow"
        case PollFailed():
            return f"no answer ({event.reason}); next try {_wait(event.next_poll_at, now)}", "red"
        case NotificationHeld():
            return "callback before the acknowledgement", "cyan"
        case PingReceived():
            return "ping: the user has decided", "cyan"
        case NotificationIgnored():
            return f"callback without effect: {event.reason}", ""
        case NotificationRejected():
            return f"callback turned away: {event.message} [{event.rule}]", "magenta"
        case PushRejected():
            return f"push turned away: {event.error}", "magenta"
        case TokensReceived():
            return "approved: tokens came; fetching the keys to validate them", "cyan"
        case TokensHeld():
            when = _wait(event.next_try_at, now)
            return f"approved: tokens came, signed with a new key; fetching the keys {when}", "cyan"
        case KeyRequestSent():
            return "fetching the keys again", ""
        case KeyRequestFailed():
            return f"no keys ({event.reason}); next try {_wait(event.next_try_at, now)}", "red"
        case TokensIssued():
            return "approved: tokens issued", "green"
        case UserDenied():
            return "denied", "red"
        case AuthReqIdExpired():
            return "expired", "red"
        case AuthenticationRefused():
            return f"refused: {event.error}", "red"
        case AuthenticationRequestFailed() | TokenRequestFailed() | TokensUntrusted() | ErrorPushed():
            return f"failed: {event.error}", "red"
        case CancelRequested():
            return "given up", "red"
        case ProviderDeviation():
            return f"the provider deviates: {event.message} [{event.rule}]", "magenta"


def _wait(until: float | None, now: float) -> str:
    return "when a ping comes" if until is None else f"in {max(until - now, 0.0):.1f} s"
