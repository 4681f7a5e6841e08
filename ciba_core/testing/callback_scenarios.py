"""What `check_notified_driver` puts a driver through."""

from __future__ import annotations

from typing import Final

from ciba_core.errors import AccessDenied, AuthenticationExpired
from ciba_core.states import Authenticated

from .scenarios import Duty, Scenario
from .script import (
    Approve,
    BadIdToken,
    BeforeAcknowledgement,
    Busy,
    CallbackFault,
    Deny,
    DropBefore,
    Forge,
    Ignore,
    Repeat,
)

__all__ = ["CALLBACK_SCENARIOS"]

_APPROVING: Final = Approve(after=42)
_FORGED: Final[tuple[CallbackFault, ...]] = (
    Forge("repeated_member"),
    Forge("numeric_auth_req_id"),
    Forge("unknown_auth_req_id"),
    Forge("two_tokens"),
    Forge("no_token"),
    Forge("wrong_token"),
)
"""The last one comes first."""

CALLBACK_SCENARIOS: Final = (
    Scenario(
        name="ping",
        about="The user approves, and a ping comes.",
        mode="ping",
        user=_APPROVING,
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(42,),
        waits_duty=Duty.WAKE,
        answers=(204,),
    ),
    Scenario(
        name="ping_denied",
        about="The user denies, and a ping comes.",
        mode="ping",
        user=Deny(after=42),
        ends=AccessDenied,
        duty=Duty.FINISH,
        waits=(42,),
        waits_duty=Duty.WAKE,
        answers=(204,),
    ),
    Scenario(
        name="ping_ahead",
        about="The ping comes before the acknowledgement.",
        mode="ping",
        user=_APPROVING,
        callback_faults=(BeforeAcknowledgement(),),
        ends=Authenticated,
        duty=Duty.ROUTE,
        waits=(0,),
        waits_duty=Duty.ROUTE,
        answers=(204,),
    ),
    Scenario(
        name="ping_twice",
        about="A second ping comes while the client has to wait, since the provider is busy.",
        mode="ping",
        user=_APPROVING,
        faults=(("token", Busy(retry_after=20)),),
        callback_faults=(Repeat(every=5),),
        ends=Authenticated,
        duty=Duty.FINISH,
        waits=(42, 20),
        answers=(204, 204),
    ),
    Scenario(
        name="ping_lost",
        about="No ping comes; there is one poll shortly before the end.",
        mode="ping",
        user=_APPROVING,
        callback_faults=(DropBefore(),),
        ends=Authenticated,
        duty=Duty.WAIT,
        waits=(570,),
    ),
    Scenario(
        name="ping_forged",
        about="Pings that are not right come before the right one.",
        mode="ping",
        user=_APPROVING,
        callback_faults=(*_FORGED, Forge("other_mode")),
        ends=Authenticated,
        duty=Duty.CALLBACKS,
        waits=(42,),
        waits_duty=Duty.CALLBACKS,
        answers=(400, 401, 401, 401, 401, 400, 400, 204),
    ),
    Scenario(
        name="push",
        about="The user approves, and the tokens come.",
        mode="push",
        user=_APPROVING,
        ends=Authenticated,
        duty=Duty.WAKE,
        ends_after=42,
        answers=(204,),
    ),
    Scenario(
        name="push_denied",
        about="The user denies, and an error comes.",
        mode="push",
        user=Deny(after=42),
        ends=AccessDenied,
        duty=Duty.FINISH,
        ends_after=42,
        answers=(204,),
    ),
    Scenario(
        name="push_ahead",
        about="The tokens come before the acknowledgement, and are answered after it.",
        mode="push",
        user=_APPROVING,
        callback_faults=(BeforeAcknowledgement(),),
        ends=Authenticated,
        duty=Duty.ROUTE,
        ends_after=0,
        answers=(204,),
    ),
    Scenario(
        name="push_forged",
        about="Pushes that are not right come before the right one.",
        mode="push",
        user=_APPROVING,
        callback_faults=(*_FORGED, BadIdToken(without=("at_hash",)), Forge("other_mode")),
        ends=Authenticated,
        duty=Duty.CALLBACKS,
        ends_after=42,
        answers=(400, 400, 401, 401, 401, 401, 400, 400, 204),
    ),
    Scenario(
        name="push_without_keys",
        about="The tokens come, and the keys are not to be had just then; the client asks again by itself.",
        mode="push",
        user=_APPROVING,
        faults=(("jwks", Busy()),),
        ends=Authenticated,
        duty=Duty.FINISH,
        answers=(503,),
    ),
    Scenario(
        name="push_expired",
        about="The user does nothing.",
        mode="push",
        user=Ignore(),
        expires_in=60,
        ends=AuthenticationExpired,
        duty=Duty.FINISH,
        ends_after=60,
    ),
)
