"""States as versioned JSON, and back.

The format, version 2: an object with ``version``, ``client_id``, ``issuer``,
``backchannel_token_delivery_mode``, ``requests``, ``polls``, ``state`` (the name) and ``data`` (what the
state holds); what is secret stands in the member ``secrets``, which can be kept apart. Times are POSIX
seconds. Members that came later are optional: ``dpop_nonces``, ``original`` of tokens,
``acknowledgement_extra``, and ``claims``, ``token_parameters`` and ``headers`` of what was requested.

Version 1 is read as well: it has no state ``awaiting_callback`` and no ``requested_expiry``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, assert_never, cast

from attrs import asdict, frozen

from ciba_core.callbacks.notification import Notification
from ciba_core.client.headers import HeaderFields, to_fields
from ciba_core.client.request import Requested
from ciba_core.jose.dpop import DpopKey, valid_nonce
from ciba_core.provider.terms import CIBA
from ciba_core.tokens import errors as token_errors
from ciba_core.tokens import issued
from ciba_core.tokens.grant_audit import GrantAudit, GrantedItem, Verdict
from ciba_core.tokens.issued import OriginalGrant, TokenResponse
from ciba_core.transaction.key_search import KeySearch
from ciba_core.transaction.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Cancelled,
    Course,
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
    State,
    TerminalState,
)
from ciba_core.values import errors as plain_errors
from ciba_core.values.errors import (
    CibaError,
    Endpoint,
    ErrorResponse,
    SnapshotError,
)
from ciba_core.values.json import (
    NO_MEMBERS,
    JsonFault,
    dumps,
    freeze,
    freeze_object,
    is_array_of,
    parse_object,
)
from ciba_core.values.secret import Guarded, Secret

__all__ = ["Restored", "dump", "join", "load"]

VERSION: Final = 2
_READ: Final = (1, VERSION)

_ERRORS: Final[dict[str, type[CibaError]]] = {
    name: found
    for module in (plain_errors, token_errors, issued)
    for name in module.__all__
    if isinstance(found := getattr(module, name), type) and issubclass(found, CibaError)
}
_STATES: Final[dict[str, type[State]]] = {
    "new": New,
    "signing_authentication": SigningAuthentication,
    "signing_poll": SigningPoll,
    "awaiting_acknowledgement": AwaitingAcknowledgement,
    "awaiting_callback": AwaitingCallback,
    "pending": Pending,
    "polling": Polling,
    "fetching_keys": FetchingKeys,
    "awaiting_keys": AwaitingKeys,
    "authenticated": Authenticated,
    "denied": Denied,
    "expired": Expired,
    "refused": Refused,
    "failed": Failed,
    "cancelled": Cancelled,
}
_NAMES: Final = {cls: name for name, cls in _STATES.items()}
# The provider writes these texts, and may repeat in them what it was sent.
_ERROR_TEXTS: Final = ("error_description", "error_uri")
_SECRET_ERROR_MEMBERS: Final = (*_ERROR_TEXTS, "answer_headers")


@frozen
class Restored:
    """What a snapshot holds."""

    state: State
    requests: int
    polls: int
    dpop_key: DpopKey | None
    client_notification_token: Secret | None
    dpop_nonces: Mapping[str, str]
    acknowledgement_extra: Mapping[str, Any]


def dump(
    state: State,
    *,
    client_id: str,
    issuer: str,
    requests: int,
    polls: int,
    dpop_key: DpopKey | None,
    client_notification_token: Secret | None,
    dpop_nonces: Mapping[str, str],
    acknowledgement_extra: Mapping[str, Any],
    mode: str,
) -> tuple[str, str]:
    """Return the public and the secret part."""
    data, secrets = _dump_state(state)
    if dpop_key is not None:
        secrets["dpop_key"] = dpop_key.to_secret().reveal()
    if client_notification_token is not None:
        secrets["client_notification_token"] = client_notification_token.reveal()
    if acknowledgement_extra:
        secrets["acknowledgement_extra"] = acknowledgement_extra
    public = {
        "version": VERSION,
        "client_id": client_id,
        "issuer": issuer,
        "backchannel_token_delivery_mode": mode,
        "requests": requests,
        "polls": polls,
        "state": _NAMES[type(state)],
        "data": data,
    } | ({"dpop_nonces": dpop_nonces} if dpop_nonces else {})
    return dumps(public), dumps({"version": VERSION, **secrets})


def join(public: str, secrets: str) -> str:
    """Put the two parts into one object."""
    # `dump` made both objects. The public one is never empty, so that a comma can follow its members.
    return f'{public[:-1]},"secrets":{secrets}}}'


def load(text: str, secrets: str | None, *, client_id: str, issuer: str, mode: str) -> Restored:
    """Read a snapshot.

    Raises:
        SnapshotError: it is not one, not of a known version, of another client or issuer, or incomplete.

    """
    public = _object(text, "the snapshot")
    if secrets is not None:
        hidden: Mapping[str, Any] = _object(secrets, "the secrets of the snapshot")
    else:
        hidden = _member(public, "secrets", dict) if "secrets" in public else {"version": VERSION}
    for part in (public, hidden):
        version = part.get("version")
        if type(version) is not int or version not in _READ:
            known = " or ".join(map(str, _READ))
            raise SnapshotError(f"this snapshot is not of version {known}, which this release reads")
    cls = _STATES.get(_member(public, "state", str))
    if cls is None:
        raise SnapshotError("the snapshot names an unknown state")
    owner = {"client_id": client_id, "issuer": issuer, "backchannel_token_delivery_mode": mode}
    for name, expected in owner.items():
        other = _member(public, name, str) != expected
        # A transaction under way needs its delivery mode. A finished one does not: the mode may have changed.
        if other and not (name == "backchannel_token_delivery_mode" and issubclass(cls, TerminalState)):
            raise SnapshotError(f"the snapshot belongs to another {name}")
    return Restored(
        state=_load_state(cls, _member(public, "data", dict), hidden),
        requests=_member(public, "requests", int),
        polls=_member(public, "polls", int),
        dpop_key=_optional_dpop_key(hidden),
        client_notification_token=_optional_secret(hidden, "client_notification_token"),
        dpop_nonces=_load_nonces(public),
        acknowledgement_extra=_optional_members(hidden, "acknowledgement_extra"),
    )


def _optional_members(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return freeze_object(_member(members, name, dict)) if name in members else NO_MEMBERS


def _load_nonces(public: Mapping[str, Any]) -> Mapping[str, str]:
    nonces: dict[str, Any] = _member(public, "dpop_nonces", dict) if "dpop_nonces" in public else {}
    if not all(isinstance(nonce, str) and valid_nonce(nonce) for nonce in nonces.values()):
        raise SnapshotError("the snapshot has wrong dpop_nonces")
    return freeze_object(nonces)


def _optional_dpop_key(secrets: Mapping[str, Any]) -> DpopKey | None:
    if "dpop_key" not in secrets:
        return None
    try:
        return DpopKey.from_secret(_secret(secrets, "dpop_key"))
    except ValueError:
        pass
    raise SnapshotError("the snapshot has a wrong dpop_key")


def _object(text: str, what: str) -> dict[str, Any]:
    members = parse_object(text.encode("utf-8", "surrogatepass"), depth_limit=160, mutable=True)
    if isinstance(members, JsonFault):
        raise SnapshotError(f"{what} is {members.value}")
    return members


def _member(members: Mapping[str, Any], name: str, *types: type) -> Any:
    value = members.get(name)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        missing = "has no" if name not in members else "has a wrong"
        raise SnapshotError(f"the snapshot {missing} {name}")
    return value


def _strings(members: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = _member(members, name, list)
    if not is_array_of(values, str):
        raise SnapshotError(f"the snapshot has a wrong {name}")
    return tuple(values)


def _secret(members: Mapping[str, Any], name: str) -> Secret:
    if name not in members:
        raise SnapshotError(f"the snapshot needs its secrets: {name} is missing")
    return Secret(_member(members, name, str))


def _optional(value: Secret | None) -> str | None:
    return None if value is None else value.reveal()


def _dump_state(state: State) -> tuple[dict[str, Any], dict[str, Any]]:
    match state:
        case New():
            return {}, {}
        case SigningAuthentication():
            data, secrets = _dump_requested(state.requested)
            return data | {"sign_by": state.sign_by}, secrets
        case AwaitingAcknowledgement():
            data, secrets = _dump_requested(state.requested)
            return data, secrets | {"held": None if state.held is None else state.held.members}
        case AwaitingCallback():
            data, secrets = _dump_requested(state.requested)
            return data | {"give_up_at": state.give_up_at, "reason": state.reason}, secrets
        case Pending() | Polling() | SigningPoll():
            data, secrets = _dump_requested(state.requested)
            data |= {
                "expires_at": state.expires_at,
                "interval": state.interval,
                "faults": state.faults,
                "answer_lost": state.answer_lost,
                "pinged": state.pinged,
                "course": state.course.told(),
            }
            if state.intercepted:
                data["intercepted"] = state.intercepted
            if isinstance(state, Pending):
                data["next_poll_at"] = state.next_poll_at
            if isinstance(state, SigningPoll):
                data["sign_by"] = state.sign_by
            if isinstance(state, Polling):
                data["poll_again"] = state.poll_again
            return data, secrets | {"auth_req_id": state.auth_req_id.reveal()}
        case FetchingKeys() | AwaitingKeys():
            data, secrets = _dump_requested(state.requested)
            tokens, token_secrets = _dump_tokens(state.untrusted.reveal_untrusted())
            data |= {"untrusted": tokens, "search": asdict(state.search)}
            if isinstance(state, AwaitingKeys):
                data["next_try_at"] = state.next_try_at
            if state.back_to is not None:
                # The secrets of `back_to` are those of this state, and are stored once.
                data["back_to"], _ = _dump_state(state.back_to)
            return data, secrets | {"auth_req_id": state.auth_req_id.reveal(), "untrusted": token_secrets}
        case Authenticated():
            return _dump_tokens(state.tokens)
        case Denied() | Expired() | Refused() | Failed() | Cancelled():
            attributes = vars(state.error).copy()
            texts: dict[str, Any] = {
                name: attributes.pop(name) for name in _SECRET_ERROR_MEMBERS if name in attributes
            }
            untrusted: Guarded[TokenResponse] | None = attributes.pop("untrusted", None)
            if untrusted is not None:
                attributes["untrusted"], texts["untrusted"] = _dump_tokens(untrusted.reveal_untrusted())
            if type(state.error) is ErrorResponse:
                # An unregistered error code is a text of the provider, and may contain secrets.
                texts["error"] = attributes.pop("error")
            if isinstance(attributes.get("endpoint"), Endpoint):
                attributes["endpoint"] = attributes["endpoint"].name
            # Somebody may have added notes to the raised exception; they are not stored.
            attributes.pop("__notes__", None)
            return {
                "class": type(state.error).__name__,
                "args": list(state.error.args),
                "attributes": attributes,
            }, texts
        case _:
            assert_never(state)


def _dump_requested(requested: Requested) -> tuple[dict[str, Any], dict[str, Any]]:
    return {
        "scope": requested.scope,
        "authorization_details": requested.authorization_details,
        "acr": requested.acr,
        "acr_values": requested.acr_values,
        "acr_wanted": requested.acr_wanted,
        "max_age": requested.max_age,
        "auth_time": requested.auth_time,
        "requested_expiry": requested.requested_expiry,
    }, {
        "nonce": _optional(requested.nonce),
        "subject": _optional(requested.subject),
        # What came later is left out where there is nothing to say.
        **({} if requested.claims is None else {"claims": requested.claims}),
        **({"token_parameters": requested.token_parameters} if requested.token_parameters else {}),
        **({"headers": _revealed(requested.headers)} if requested.headers else {}),
    }


def _revealed(headers: HeaderFields) -> dict[str, str]:
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in headers.items()}


def _load_requested(data: Mapping[str, Any], secrets: Mapping[str, Any]) -> Requested:
    acr_values = _strings(data, "acr_values")
    return Requested(
        scope=_member(data, "scope", str),
        authorization_details=freeze(_member(data, "authorization_details", list, type(None))),
        # Older snapshots lack `acr`: there it was essential exactly if it had values.
        acr=_member({"acr": bool(acr_values), **data}, "acr", bool),
        acr_values=acr_values,
        acr_wanted=_strings(data, "acr_wanted"),
        max_age=_member(data, "max_age", int, type(None)),
        auth_time=_member(data, "auth_time", bool),
        nonce=_optional_secret(secrets, "nonce"),
        subject=_optional_secret(secrets, "subject"),
        claims=_optional_members(secrets, "claims") or None,
        token_parameters=_pairs(secrets, "token_parameters") if "token_parameters" in secrets else (),
        headers=_headers(secrets),
        requested_expiry=_member({"requested_expiry": None, **data}, "requested_expiry", int, type(None)),
    )


def _headers(secrets: Mapping[str, Any]) -> HeaderFields:
    return to_fields(_strings_by_name(secrets, "headers") if "headers" in secrets else {})


def _strings_by_name(members: Mapping[str, Any], name: str) -> dict[str, str]:
    found: dict[str, Any] = _member(members, name, dict)
    if not all(isinstance(value, str) for value in found.values()):
        raise SnapshotError(f"the snapshot has wrong {name}")
    return found


def _pairs(members: Mapping[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    pairs = _member(members, name, list)
    if not all(is_array_of(pair, str) and len(pair) == 2 for pair in pairs):
        raise SnapshotError(f"the snapshot has wrong {name}")
    return tuple((first, second) for first, second in pairs)


def _dump_tokens(tokens: TokenResponse) -> tuple[dict[str, Any], dict[str, Any]]:
    data: dict[str, Any] = {
        "token_type": tokens.token_type,
        "expires_at": tokens.expires_at,
        "scope": tokens.scope,
        "authorization_details": tokens.authorization_details,
        "grant": [
            {
                "name": item.name,
                "requested": item.requested,
                "granted": item.granted,
                "verdict": item.verdict.value,
            }
            for item in tokens.grant.items
        ],
    }
    secrets: dict[str, Any] = {
        "access_token": tokens.access_token.reveal(),
        "refresh_token": _optional(tokens.refresh_token),
        "id_token": _optional(tokens.id_token),
        "id_token_claims": tokens.id_token_claims,
        "extra": tokens.extra,
    }
    if tokens.dpop_key is not None:
        secrets["dpop_key"] = tokens.dpop_key.to_secret().reveal()
    if tokens.original is not None:
        original = tokens.original
        data["original"] = {
            "scope": original.scope,
            "authorization_details": original.authorization_details,
        }
        secrets["original_id_token_claims"] = original.id_token_claims
    return data, secrets


def _load_state(cls: type[State], data: Mapping[str, Any], secrets: Mapping[str, Any]) -> State:
    if cls is New:
        return New()
    if cls is SigningAuthentication:
        return SigningAuthentication(
            _load_requested(data, secrets), sign_by=_optional_instant(data, "sign_by")
        )
    if cls is AwaitingAcknowledgement:
        return AwaitingAcknowledgement(_load_requested(data, secrets), _load_held(secrets))
    if cls is AwaitingCallback:
        return AwaitingCallback(
            _load_requested(data, secrets),
            float(_member(data, "give_up_at", int, float)),
            _member(data, "reason", str),
        )
    if cls is Pending or cls is Polling or cls is SigningPoll:
        common: dict[str, Any] = {
            "auth_req_id": _secret(secrets, "auth_req_id"),
            "requested": _load_requested(data, secrets),
            "expires_at": float(_member(data, "expires_at", int, float)),
            "interval": float(_member(data, "interval", int, float)),
            "faults": _member(data, "faults", int),
            "answer_lost": _member(data, "answer_lost", bool),
            "pinged": _member(data, "pinged", bool),
            "intercepted": _member({"intercepted": 0, **data}, "intercepted", int),
            "course": _load_course(_member({"course": {}, **data}, "course", dict)),
        }
        if cls is Pending:
            return Pending(**common, next_poll_at=_optional_instant(data, "next_poll_at"))
        if cls is SigningPoll:
            return SigningPoll(**common, sign_by=_optional_instant(data, "sign_by"))
        return Polling(**common, poll_again=_member(data, "poll_again", bool))
    if cls is FetchingKeys or cls is AwaitingKeys:
        waiting: dict[str, Any] = {
            "auth_req_id": _secret(secrets, "auth_req_id"),
            "requested": _load_requested(data, secrets),
            "untrusted": _load_untrusted(data, secrets),
            "search": _load_search(_member(data, "search", dict)),
            "back_to": _load_state(Pending, _member(data, "back_to", dict), secrets)
            if "back_to" in data
            else None,
        }
        # Tokens in this state wait for the key of their ID Token: a snapshot without one is refused.
        _secret(_member(secrets, "untrusted", dict), "id_token")
        if cls is AwaitingKeys:
            return AwaitingKeys(**waiting, next_try_at=float(_member(data, "next_try_at", int, float)))
        return FetchingKeys(**waiting)
    if cls is Authenticated:
        return Authenticated(_load_tokens(data, secrets))
    ended: Any = cls
    state: State = ended(_load_error(data, secrets))
    return state


def _optional_instant(data: Mapping[str, Any], name: str) -> float | None:
    instant = _member(data, name, int, float, type(None))
    return None if instant is None else float(instant)


def _load_search(data: Mapping[str, Any]) -> KeySearch:
    return KeySearch(
        since=float(_member(data, "since", int, float)),
        as_of=float(_member(data, "as_of", int, float)),
        give_up_at=float(_member(data, "give_up_at", int, float)),
        faults=_member(data, "faults", int),
        has_waited=_member(data, "has_waited", bool),
    )


def _load_held(secrets: Mapping[str, Any]) -> Notification | None:
    members = _member(secrets, "held", dict, type(None))
    return None if members is None else Notification(_secret(members, CIBA.handle), members)


def _load_untrusted(data: Mapping[str, Any], secrets: Mapping[str, Any]) -> Guarded[TokenResponse]:
    if "untrusted" not in secrets:
        raise SnapshotError("the snapshot needs its secrets: untrusted is missing")
    return Guarded(_load_tokens(_member(data, "untrusted", dict), _member(secrets, "untrusted", dict)))


def _optional_secret(secrets: Mapping[str, Any], name: str) -> Secret | None:
    return None if secrets.get(name) is None else _secret(secrets, name)


def _load_tokens(data: Mapping[str, Any], secrets: Mapping[str, Any]) -> TokenResponse:
    expires_at = data.get("expires_at")
    return TokenResponse(
        access_token=_secret(secrets, "access_token"),
        token_type=_member(data, "token_type", str),
        expires_at=None if expires_at is None else float(_member(data, "expires_at", int, float)),
        refresh_token=_optional_secret(secrets, "refresh_token"),
        id_token=_optional_secret(secrets, "id_token"),
        scope=_member(data, "scope", str),
        authorization_details=freeze(_member(data, "authorization_details", list, type(None))),
        id_token_claims=freeze(_member(secrets, "id_token_claims", dict, type(None))),
        extra=freeze(_member(secrets, "extra", dict)),
        grant=_load_grant(_member(data, "grant", list)),
        dpop_key=_optional_dpop_key(secrets),
        original=_load_original(data, secrets) if "original" in data else None,
    )


def _load_original(data: Mapping[str, Any], secrets: Mapping[str, Any]) -> OriginalGrant:
    original = _member(data, "original", dict)
    return OriginalGrant(
        scope=_member(original, "scope", str),
        authorization_details=freeze(_member(original, "authorization_details", list, type(None))),
        id_token_claims=freeze(_member(secrets, "original_id_token_claims", dict, type(None))),
    )


def _load_grant(items: list[Any]) -> GrantAudit:
    loaded: list[GrantedItem] = []
    for item in items:
        members = cast("Mapping[str, Any]", item if isinstance(item, dict) else {})
        verdict = next((each for each in Verdict if each.value == members.get("verdict")), None)
        if verdict is None:
            raise SnapshotError("the snapshot has a wrong grant")
        loaded.append(
            GrantedItem(
                name=_member(members, "name", str),
                requested=freeze(_member(members, "requested", list)),
                granted=freeze(_member(members, "granted", list)),
                verdict=verdict,
            )
        )
    return GrantAudit(tuple(loaded))


def _load_course(course: Mapping[str, Any]) -> Course:
    if not course:
        return Course()  # it came later
    return Course(
        faults=_member(course, "faults", int),
        last_polls=_strings(course, "last_polls"),
        push_rejected=_member(course, "push_rejected", str, type(None)),
    )


def _load_error(data: Mapping[str, Any], secrets: Mapping[str, Any]) -> CibaError:
    name = _member(data, "class", str)
    cls = _ERRORS.get(name)
    if cls is None:
        raise SnapshotError("the snapshot names an unknown error")
    attributes = dict(_member(data, "attributes", dict))
    if "endpoint" in attributes:
        endpoint = Endpoint.__members__.get(str(attributes["endpoint"]))
        if endpoint is None:
            raise SnapshotError("the snapshot names an unknown endpoint")
        attributes["endpoint"] = endpoint
    if "last_polls" in attributes:
        attributes["last_polls"] = _strings(attributes, "last_polls")
    if "untrusted" in attributes:
        attributes["untrusted"] = _load_untrusted(data["attributes"], secrets)
    if cls is ErrorResponse:
        attributes["error"] = _secret(secrets, "error").reveal()
    if issubclass(cls, ErrorResponse):
        attributes |= {member: secrets.get(member) for member in _ERROR_TEXTS}
    try:
        error = cls(*_member(data, "args", list), **attributes)
    except TypeError:
        pass
    else:
        if "answer_headers" in secrets:
            error.answer_headers = _strings_by_name(secrets, "answer_headers")
        return error
    raise SnapshotError(f"the snapshot does not hold what a {name} needs")
