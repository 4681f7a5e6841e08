"""Moving on whatever a step belongs to, so that one loop drives all that this package has."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from ciba_core.operations.operation import OperationStep
from ciba_core.provider.shared import Shared
from ciba_core.transaction.inputs import Input
from ciba_core.transaction.step import step
from ciba_core.transaction.transaction import Step

__all__ = ["proceed"]

ResultT = TypeVar("ResultT")


@overload
def proceed(current: Step, input: Input, now: float, shared: Shared | None = None) -> Step: ...
@overload
def proceed(
    current: OperationStep[ResultT], input: Input, now: float, shared: Shared | None = None
) -> OperationStep[ResultT]: ...


def proceed(
    current: Step | OperationStep[Any],
    input: Input,  # noqa: A002  # the word of the design
    now: float,
    shared: Shared | None = None,
) -> Step | OperationStep[Any]:
    """Return the step after this one.

    Input that is late or comes twice changes nothing: the next step then has nothing to send, and what was in
    flight still is.

    Args:
        current: the last step of a transaction, a `Refresh`, `Revocation`, `UserInfo` or `Discovery`.
        input: what happened.
        now: POSIX seconds.
        shared: what is known of the provider; ``None`` for what this step knew.

    Raises:
        LocalProtocolError: the input is not possible here.

    """
    known = current.shared if shared is None else shared
    if isinstance(current, Step):
        return step(current.transaction, input, now, known)
    return current.operation.proceed(input, now, known)
