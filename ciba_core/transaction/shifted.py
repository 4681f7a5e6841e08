"""A transaction as a clock sees it that goes differently: all its instants moved by one span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from attrs import evolve, fields

from ciba_core.transaction.key_search import KeySearch
from ciba_core.transaction.states import Pending
from ciba_core.transaction.transaction import Transaction

if TYPE_CHECKING:
    from attrs import AttrsInstance

__all__ = ["shifted"]

_INSTANTS: Final = frozenset(
    ("expires_at", "next_poll_at", "next_try_at", "sign_by", "since", "as_of", "give_up_at")
)
"""The fields of states that hold POSIX instants; the tests look for others in every state's snapshot."""


def shifted(transaction: Transaction, seconds: float) -> Transaction:
    """Return the transaction with the instants of its state that many seconds later.

    For a process whose clock differs from the one that stored it: what is left of every wait stays the same.
    The times of tokens are the provider's and stay as they are.
    """
    return evolve(transaction, state=_moved(transaction.state, seconds))


def _moved(value: Any, seconds: float) -> Any:
    changes: dict[str, Any] = {}
    for attribute in fields(cast("type[AttrsInstance]", type(value))):
        found = getattr(value, attribute.name)
        if attribute.name in _INSTANTS and found is not None:
            changes[attribute.name] = found + seconds
        elif isinstance(found, (KeySearch, Pending)):
            changes[attribute.name] = _moved(found, seconds)
    return evolve(value, **changes)
