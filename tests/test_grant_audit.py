from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from ciba_core import AuthenticationRequest, GrantAudit, GrantedItem, TokenResponse, Transaction, Verdict
from ciba_core._json import freeze
from ciba_core.authentication_request import Requested
from ciba_core.errors import GrantDiffers
from ciba_core.grant_audit import NOT_AUDITED, audit_grant

from .samples import (
    ACKNOWLEDGEMENT,
    CLIENT,
    PROVIDER,
    TOKENS,
    answer,
    awaiting,
    fire,
    id_token,
    reply,
    untrusted,
)

PAYMENT = {"type": "payment_initiation", "amount": "25.00"}
OTHER = {"type": "account_information"}


def item(audit: GrantAudit, name: str) -> GrantedItem:
    found = audit.item(name)
    assert found is not None
    return found


def audited(
    asked: dict[str, Any] | None = None, granted: dict[str, Any] | None = None, token_type: str = "Bearer"
) -> GrantAudit:
    wanted: dict[str, Any] = {"scope": "openid"}
    wanted |= {name: freeze(value) for name, value in (asked or {}).items()}
    requested = Requested(**wanted)
    changes = {name: freeze(value) for name, value in (granted or {}).items()}
    return audit_grant(evolve(untrusted().reveal_untrusted(), **changes), requested, token_type=token_type)


@pytest.mark.parametrize(
    ("asked", "granted", "verdict", "missing", "added"),
    [
        ("openid payments", "openid payments", Verdict.AS_ASKED, (), ()),
        ("openid payments", "payments  openid openid", Verdict.AS_ASKED, (), ()),
        ("openid payments", "openid", Verdict.LESS, ("payments",), ()),
        ("openid payments", "", Verdict.LESS, ("openid", "payments"), ()),
        ("openid", "openid admin", Verdict.MORE, (), ("admin",)),
        ("openid payments", "openid Payments", Verdict.DIFFERENT, ("payments",), ("Payments",)),
    ],
)
def test_scope(asked: str, granted: str, verdict: Verdict, missing: Any, added: Any) -> None:
    """TOK-06, CAM-26: the values count, with their case, and neither their order nor how often they come."""
    found = item(audited({"scope": asked}, {"scope": granted}), "scope")
    assert (found.verdict, found.missing, found.added) == (verdict, missing, added)
    assert found.asked == tuple(asked.split())


@pytest.mark.parametrize(
    ("asked", "granted", "verdict"),
    [
        ([PAYMENT], [PAYMENT], Verdict.AS_ASKED),
        ([PAYMENT, OTHER], [OTHER, PAYMENT], Verdict.AS_ASKED),
        ([PAYMENT, OTHER], [OTHER], Verdict.LESS),
        ([PAYMENT], None, Verdict.LESS),
        ([PAYMENT], [], Verdict.LESS),
        ([PAYMENT, PAYMENT], [PAYMENT], Verdict.LESS),
        ([PAYMENT], [PAYMENT, OTHER], Verdict.MORE),
        (None, [PAYMENT], Verdict.MORE),
        ([PAYMENT], [PAYMENT | {"amount": "2500.00"}], Verdict.DIFFERENT),
        ([PAYMENT], [PAYMENT | {"account": "DE1"}], Verdict.DIFFERENT),
        ([PAYMENT], [OTHER], Verdict.DIFFERENT),
        # JOSE-04: true is not 1, at any depth.
        ([{"type": "x", "at": [{"once": True}]}], [{"type": "x", "at": [{"once": 1}]}], Verdict.DIFFERENT),
        ([{"type": "x", "n": 0}], [{"type": "x", "n": False}], Verdict.DIFFERENT),
        ([{"type": "x", "n": 1, "b": True}], [{"b": True, "n": 1.0, "type": "x"}], Verdict.AS_ASKED),
        ([PAYMENT, PAYMENT], [PAYMENT, PAYMENT], Verdict.AS_ASKED),
    ],
)
def test_authorization_details(asked: Any, granted: Any, verdict: Verdict) -> None:
    """RAR-06, RAR-10: details that were left out, added, changed or enriched are told from those asked for."""
    audit = audited({"authorization_details": asked}, {"authorization_details": granted})
    found = item(audit, "authorization_details")
    assert found.verdict is verdict
    assert found.asked == freeze(asked or [])
    assert found.granted == freeze(granted or [])
    if verdict is Verdict.DIFFERENT:
        assert (found.missing, found.added) == (found.asked, found.granted)


@pytest.mark.parametrize(
    ("asked", "claims", "verdict", "granted", "missing"),
    [
        (("a", "b"), {"acr": "b"}, Verdict.AS_ASKED, ("b",), ()),
        (("a", "b"), {"acr": "c"}, Verdict.DIFFERENT, ("c",), ("a", "b")),
        (("a", "b"), {"acr": "0"}, Verdict.DIFFERENT, ("0",), ("a", "b")),
        (("a",), {"sub": "x"}, Verdict.LESS, (), ("a",)),
        (("a",), None, Verdict.LESS, (), ("a",)),
    ],
)
def test_acr(asked: Any, claims: Any, verdict: Verdict, granted: Any, missing: Any) -> None:
    """CLM-07, FAPI-04, CIBA-7.1-14: any of the acceptable classes will do; none, or another, is a difference."""
    found = item(audited({"acr_values": asked}, {"id_token_claims": claims}), "acr")
    assert (found.verdict, found.granted, found.missing) == (verdict, granted, missing)


@pytest.mark.parametrize(
    ("asked", "granted", "verdict"),
    [
        ("Bearer", "bearer", Verdict.AS_ASKED),
        ("DPoP", "dpop", Verdict.AS_ASKED),
        ("DPoP", "Bearer", Verdict.DIFFERENT),
    ],
)
def test_token_type(asked: str, granted: str, verdict: Verdict) -> None:
    """CAM-18: whether tokens are bound is part of what was asked for; case does not count."""
    assert item(audited({}, {"token_type": granted}, asked), "token_type").verdict is verdict


def test_differences_by_name() -> None:
    """TOK-06: one look says whether, and where, something else was granted; nothing of it shows."""
    audit = audited(
        {"authorization_details": [PAYMENT], "acr_values": ("a",)},
        {"scope": "openid x", "token_type": "Bearer"},
    )
    assert [item.name for item in audit.items] == ["scope", "token_type", "authorization_details", "acr"]
    assert audit.differs_in == ("scope", "authorization_details", "acr")
    assert "25.00" not in repr(audit)
    assert audited().differs_in == ()
    assert [item.name for item in audited().items] == ["scope", "token_type"]
    assert audited().item("acr") is None
    assert NOT_AUDITED.differs_in == ()


def test_a_class_that_was_wished_for_by_claims() -> None:
    """IDT-16, CLM-04: asked for as a claim of its own, it is audited like one of ``acr_values``."""
    request = AuthenticationRequest(
        scope="openid", login_hint="alice", claims={"id_token": {"acr": {"values": ["urn:a"]}}}
    )
    tx = answer(awaiting(request), reply(200, ACKNOWLEDGEMENT)).transaction
    tx = answer(fire(tx).transaction, reply(200, {**TOKENS, "id_token": id_token(acr="urn:c")})).transaction
    assert tx.tokens is not None
    assert tx.tokens.differs_in == ("acr",)


def issued(**granted: Any) -> tuple[TokenResponse, Transaction]:
    """The tokens of a transaction that asked for a scope and a class of authentication."""
    request = AuthenticationRequest(scope="openid payments", login_hint="alice", acr_values="urn:a urn:b")
    tx = answer(awaiting(request), reply(200, ACKNOWLEDGEMENT)).transaction
    tx = answer(fire(tx).transaction, reply(200, {**TOKENS, **granted})).transaction
    assert tx.tokens is not None
    return tx.tokens, tx


@pytest.mark.parametrize(
    ("granted", "differs_in"),
    [
        ({"id_token": id_token(acr="urn:b")}, ()),
        ({"id_token": id_token(acr="urn:c")}, ("acr",)),
        ({}, ("acr",)),
        ({"id_token": id_token(acr="urn:a"), "scope": "openid"}, ("scope",)),
        ({"scope": "openid", "authorization_details": [PAYMENT]}, ("scope", "authorization_details", "acr")),
    ],
)
def test_tokens_bring_the_audit_along(granted: dict[str, Any], differs_in: tuple[str, ...]) -> None:
    """TOK-06, RAR-10, CLM-07: tokens know what was asked for, after a restart, too."""
    tokens, tx = issued(**granted)
    assert tokens.differs_in == tokens.grant.differs_in == differs_in
    restored = Transaction.from_json(tx.to_json(), client=CLIENT, provider=PROVIDER)
    assert restored == tx
    assert restored.tokens is not None
    assert restored.tokens.grant == tokens.grant


def test_strict() -> None:
    """RAR-10: who insists gets an error that names the differences, and has the tokens to revoke them."""
    tokens, _ = issued(scope="openid", id_token=id_token(acr="urn:a"))
    with pytest.raises(GrantDiffers, match=r"^granted otherwise than asked: scope$") as caught:
        tokens.require_as_asked()
    assert caught.value.grant is tokens.grant
    assert caught.value.untrusted.reveal_untrusted() is tokens
    with pytest.raises(GrantDiffers):
        tokens.require_as_asked("acr", "scope")
    tokens.require_as_asked("acr", "authorization_details", "token_type")
    as_asked, _ = issued(id_token=id_token(acr="urn:a"))
    as_asked.require_as_asked()
