from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from ciba_core import Guarded, Secret, TokenResponse
from ciba_core.client.polling import LONGEST
from ciba_core.errors import Endpoint, RemoteProtocolError, TokensRejected
from ciba_core.events import ProviderDeviation
from ciba_core.jose.dpop import DpopKey
from ciba_core.tokens.response import parse_token_response
from ciba_core.values.json import freeze
from tests.jwt_samples import counter
from tests.samples import NO_NUMBERS, NOW, TOKENS, Json, without

KEY = DpopKey.generate(counter())


def parsed(
    members: Json,
    *,
    scope: str = "openid email",
    limit: int = 1000,
    dpop_key: DpopKey | None = None,
    noted: list[ProviderDeviation] | None = None,
) -> Guarded[TokenResponse] | RemoteProtocolError:
    return parse_token_response(
        freeze(members),
        endpoint=Endpoint.TOKEN,
        requested_scope=scope,
        dpop_key=dpop_key,
        string_limit=limit,
        now=NOW,
        noted=[] if noted is None else noted,
    )


def parse(members: Json, *, scope: str = "openid email", dpop_key: DpopKey | None = None) -> TokenResponse:
    tokens = parsed(members, scope=scope, dpop_key=dpop_key)
    assert isinstance(tokens, Guarded)
    return tokens.reveal_untrusted()


def refused(members: Json, *, dpop_key: DpopKey | None = None) -> RemoteProtocolError:
    error = parsed(members, dpop_key=dpop_key)
    assert isinstance(error, RemoteProtocolError)
    assert error.endpoint is Endpoint.TOKEN
    # Nothing leads from it to where the tokens were read.
    assert (error.__context__, error.__traceback__) == (None, None)
    return error


def test_response_of_the_standard() -> None:
    """VEC-CORE-06, CIBA-10.1.1-01, -03: the tokens of Core 10.1.1's example."""
    assert parse(TOKENS) == TokenResponse(
        access_token=Secret("G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN"),
        token_type="Bearer",
        expires_at=NOW + 120,
        refresh_token=Secret("4bwc0ESC_IAhflf-ACC_vjD_ltc11ne-8gFPfA2Kx16"),
        id_token=Secret(str(TOKENS["id_token"])),
        scope="openid email",
        authorization_details=None,
        extra={},
    )


def test_the_least_response() -> None:
    """TOK-02, -03, -05, -07: what is optional may be absent; without ``openid`` the ID Token, too."""
    tokens = parse({"access_token": "a", "token_type": "bearer"}, scope="email")
    assert (tokens.id_token, tokens.refresh_token, tokens.expires_at) == (None, None, None)
    assert tokens.scope == "email"
    assert parse({"access_token": "a", "token_type": "bearer"}, scope="openid2 email").id_token is None


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_token_type_without_case(token_type: str) -> None:
    """TOK-04: the token type is compared without case and kept as it came."""
    assert parse({**TOKENS, "token_type": token_type}).token_type == token_type


@pytest.mark.parametrize("token_type", ["DPoP", "dpop", "DPOP"])
def test_tokens_that_are_bound_to_a_key(token_type: str) -> None:
    """DPOP-10, RFC 9449 5: where DPoP was asked for, that is the type, and nothing else is."""
    tokens = parse({**TOKENS, "token_type": token_type}, dpop_key=KEY)
    assert (tokens.token_type, tokens.dpop_key) == (token_type, KEY)
    error = refused(TOKENS, dpop_key=KEY)
    assert (error.args, error.rule) == (("token_type is not DPoP",), "RFC 6749 7.1, RFC 9449 5")
    assert isinstance(error, TokensRejected)
    assert error.untrusted.reveal_untrusted().dpop_key == KEY


@pytest.mark.parametrize(
    ("expires_in", "lifetime"), [(0, 0), (86400, 86400), (120.0, 120), (0.5, 0.5), (10**60, LONGEST)]
)
def test_lifetimes(expires_in: float, lifetime: float) -> None:
    """TOK-05, -11: a number of seconds from the arrival of the answer, bounded by a year."""
    assert parse({**TOKENS, "expires_in": expires_in}).expires_at == NOW + lifetime


@pytest.mark.parametrize("scope", ["openid", "", "openid email more"])
def test_granted_scope_counts(scope: str) -> None:
    """TOK-06: what the answer names goes before what was asked for, more or less of it."""
    assert parse({**TOKENS, "scope": scope}).scope == scope


def test_granted_authorization_details() -> None:
    """RAR-06: the granted details are there, read-only; an empty array is not the same as none."""
    tokens = parse({**TOKENS, "authorization_details": [{"type": "a", "b": [1]}]})
    assert tokens.authorization_details == ({"type": "a", "b": (1,)},)
    assert parse({**TOKENS, "authorization_details": []}).authorization_details == ()
    assert parse({**TOKENS, "authorization_details": None}).authorization_details is None


def test_unknown_members_are_kept() -> None:
    """TOK-08: members that are not known do no harm and are there for who knows them."""
    tokens = parse({**TOKENS, "grant_id": "g", "nested": {"a": [1]}, "refresh_expires_in": 5})
    assert tokens.extra == {"grant_id": "g", "nested": {"a": (1,)}, "refresh_expires_in": 5}
    with pytest.raises(TypeError):
        tokens.extra["grant_id"] = "x"  # type: ignore[index]


def test_content_does_not_show() -> None:
    """Neither tokens nor unknown members nor granted details are in the repr."""
    shown = repr(
        parse(
            {**TOKENS, "device_secret": "marker", "authorization_details": [{"type": "a", "iban": "marker"}]}
        )
    )
    for name in ("access_token", "refresh_token", "id_token"):
        assert str(TOKENS[name]) not in shown
    assert "marker" not in shown


WRONG: list[Any] = [None, "", 5, True, ["a"], {}]
WRONG_LIFETIMES: list[Any] = [True, -1, -0.5, [120], {}, *NO_NUMBERS[1:]]
WRONG_SCOPES: list[Any] = [5, True, {}, ["openid email"], ["openid", ""], ["openid", 5], "x" * 1001]
WRONG_DETAILS: list[Any] = ["", "x", 5, {}, ["x"], [{}, 1], '[{"type":"a"}]']
BAD: list[tuple[Json, str, str]] = [
    (without(TOKENS, "access_token"), "access_token is missing", "RFC 6749 5.1"),
    (without(TOKENS, "token_type"), "token_type is missing", "RFC 6749 5.1"),
    (without(TOKENS, "id_token"), "id_token is missing", "OpenID Connect Core 3.1.3.3"),
    ({**TOKENS, "token_type": "DPoP"}, "token_type is not Bearer", "RFC 6749 7.1, RFC 9449 5"),
    ({**TOKENS, "token_type": "mac"}, "token_type is not Bearer", "RFC 6749 7.1, RFC 9449 5"),
    *(
        ({**TOKENS, name: value}, f"{name} is not a non-empty string", rule)
        for name, rule in (
            ("access_token", "RFC 6749 5.1"),
            ("token_type", "RFC 6749 5.1"),
        )
        for value in WRONG
    ),
    *(
        ({**TOKENS, name: value}, f"{name} is not a non-empty string", rule)
        for name, rule in (
            ("refresh_token", "RFC 6749 5.1"),
            ("id_token", "OpenID Connect Core 3.1.3.3"),
        )
        for value in WRONG
        if value not in (None, "")
    ),
    *(
        ({**TOKENS, "id_token": value}, "id_token is missing", "OpenID Connect Core 3.1.3.3")
        for value in (None, "")
    ),
    *(
        (
            {**TOKENS, name: f"x{odd}y"},
            f"{name} has characters outside of printable ASCII",
            f"RFC 6749 {syntax}",
        )
        for name, syntax in (("access_token", "A.12"), ("refresh_token", "A.17"))
        for odd in ("\r\nX-Evil: 1", "\n", "\0", "\t", "\x7f", "é", "€")
    ),
    *(
        ({**TOKENS, name: "x" * 1001}, f"{name} is longer than 1000 characters", "size limit")
        for name in ("access_token", "token_type", "refresh_token", "id_token")
    ),
    *(
        ({**TOKENS, "expires_in": value}, "expires_in is not a number of seconds", "RFC 6749 5.1")
        for value in WRONG_LIFETIMES
    ),
    *(({**TOKENS, "scope": value}, "scope is not a string", "RFC 6749 5.1") for value in WRONG_SCOPES),
    *(
        (
            {**TOKENS, "authorization_details": value},
            "authorization_details is not an array of objects",
            "RFC 9396 7",
        )
        for value in WRONG_DETAILS
    ),
]


def tail(value: object) -> str:
    return str(value)[-60:]


@pytest.mark.parametrize(("members", "message", "rule"), BAD, ids=tail)
def test_bad_responses(members: Json, message: str, rule: str) -> None:
    """TOK-02..06, -11: a member that is missing or of the wrong type is named, with its rule."""
    error = refused(members)
    assert (error.args, error.rule) == ((message,), rule)


@pytest.mark.parametrize(("members", "message", "rule"), BAD, ids=tail)
def test_tokens_of_bad_responses(members: Json, message: str, rule: str) -> None:
    """SM-14, RT-07: tokens that are strings were issued: they are kept under guard, to be revoked."""
    error = refused(members)
    assert isinstance(error, TokensRejected)
    untrusted = error.untrusted.reveal_untrusted()

    def there(name: str) -> Secret | None:
        value = members.get(name)
        return Secret(value) if isinstance(value, str) and value else None

    assert untrusted.access_token == (there("access_token") or Secret(""))
    assert (untrusted.refresh_token, untrusted.id_token) == (there("refresh_token"), there("id_token"))
    assert untrusted.token_type in ("", "Bearer", "DPoP")
    assert untrusted.expires_at is None
    assert "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN" not in f"{error!r} {error} {untrusted!r}"


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"token_type": "Bearer"},
        {"access_token": 5, "refresh_token": None, "token_type": "Bearer"},
        {"access_token": "", "refresh_token": "", "id_token": "a.b.c", "token_type": "Bearer"},
    ],
)
def test_no_tokens_to_keep(members: Json) -> None:
    """TOK-02: where nothing came that could be revoked, there is nothing under guard."""
    assert type(refused(members)) is RemoteProtocolError


def test_what_is_kept_of_a_bad_response() -> None:
    """SM-14: beside the tokens, what could be read; what was asked for stands in for the rest."""
    kept = refused({**TOKENS, "scope": "a b", "expires_in": -1, "device_secret": "marker"})
    assert isinstance(kept, TokensRejected)
    tokens = kept.untrusted.reveal_untrusted()
    assert (tokens.scope, tokens.token_type, tokens.extra) == ("a b", "Bearer", {"device_secret": "marker"})
    kept = refused({"refresh_token": "r", "scope": None, "token_type": str(TOKENS["access_token"])})
    assert isinstance(kept, TokensRejected)
    tokens = kept.untrusted.reveal_untrusted()
    assert (tokens.access_token, tokens.refresh_token) == (Secret(""), Secret("r"))
    assert (tokens.scope, tokens.token_type) == ("openid email", "")


def test_tokens_with_spaces() -> None:
    """RFC 6749 A.12 and A.17 have all printable characters of ASCII, the space among them."""
    printable = "".join(map(chr, range(0x20, 0x7F)))
    tokens = parse({**TOKENS, "access_token": printable, "refresh_token": printable})
    assert tokens.access_token == tokens.refresh_token == Secret(printable)


@pytest.mark.parametrize(
    "token", ["opaque", "a.b.c", "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.", '{"exp": 1}', "%41+b=&c", '"\\']
)
def test_access_tokens_are_opaque(token: str) -> None:
    """TOK-12: not read, decoded or judged, be it an unsigned JWT that has expired."""
    tokens = parse({**TOKENS, "access_token": token, "refresh_token": token})
    assert tokens.access_token.reveal() == token
    assert tokens.refresh_token == Secret(token)
    assert tokens.expires_at == NOW + 120


def test_the_first_grant() -> None:
    """RT-01: tokens that were not refreshed are the measure of their refreshes themselves."""
    tokens = parse({**TOKENS, "authorization_details": [{"type": "a"}]})
    original = tokens.original_grant
    assert (original.scope, original.authorization_details) == ("openid email", ({"type": "a"},))
    assert original.id_token_claims is None
    later = evolve(tokens, scope="email", original=original)
    assert later.original_grant is original


def test_strings_of_just_the_limit_pass() -> None:
    """HTTP-05: the limit on strings is inclusive."""
    parse({**TOKENS, "access_token": "x" * 1000, "scope": "x" * 1000})
