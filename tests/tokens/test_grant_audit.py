from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from ciba_core import AuthenticationRequest, GrantAudit, GrantedItem, TokenResponse, Transaction, Verdict
from ciba_core.client.request import Requested
from ciba_core.errors import GrantDiffers
from ciba_core.tokens.grant_audit import NOT_AUDITED, audit_grant
from ciba_core.values.json import freeze
from tests.samples import (
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
    requested: dict[str, Any] | None = None, granted: dict[str, Any] | None = None, token_type: str = "Bearer"
) -> GrantAudit:
    wanted: dict[str, Any] = {"scope": "openid"}
    wanted |= {name: freeze(value) for name, value in (requested or {}).items()}
    changes = {name: freeze(value) for name, value in (granted or {}).items()}
    return audit_grant(
        evolve(untrusted().reveal_untrusted(), **changes), Requested(**wanted), token_type=token_type
    )


@pytest.mark.parametrize(
    ("requested", "granted", "verdict", "missing", "added"),
    [
        ("openid payments", "openid payments", Verdict.AS_REQUESTED, (), ()),
        ("openid payments", "payments  openid openid", Verdict.AS_REQUESTED, (), ()),
        ("openid payments", "openid", Verdict.LESS, ("payments",), ()),
        ("openid payments", "", Verdict.NOT_TOLD, ("openid", "payments"), ()),
        ("openid payments", "  ", Verdict.NOT_TOLD, ("openid", "payments"), ()),
        # A refresh that asks for all of a scope that was not told.
        ("", "", Verdict.NOT_TOLD, (), ()),
        ("", "openid", Verdict.NOT_TOLD, (), ("openid",)),
        ("openid", "openid admin", Verdict.MORE, (), ("admin",)),
        ("openid payments", "openid Payments", Verdict.DIFFERENT, ("payments",), ("Payments",)),
    ],
)
def test_scope(requested: str, granted: str, verdict: Verdict, missing: Any, added: Any) -> None:
    """TOK-06, CAM-26: the values count, with their case, and neither their order nor how often they come."""
    found = item(audited({"scope": requested}, {"scope": granted}), "scope")
    assert (found.verdict, found.missing, found.added) == (verdict, missing, added)
    assert found.requested == tuple(requested.split())


@pytest.mark.parametrize(
    ("requested", "granted", "verdict"),
    [
        ([PAYMENT], [PAYMENT], Verdict.AS_REQUESTED),
        ([PAYMENT, OTHER], [OTHER, PAYMENT], Verdict.AS_REQUESTED),
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
        ([{"type": "x", "b": True}], [{"type": "x", "b": False}], Verdict.DIFFERENT),
        ([{"type": "x", "n": 1, "b": True}], [{"b": True, "n": 1.0, "type": "x"}], Verdict.AS_REQUESTED),
        ([PAYMENT, PAYMENT], [PAYMENT, PAYMENT], Verdict.AS_REQUESTED),
    ],
)
def test_authorization_details(requested: Any, granted: Any, verdict: Verdict) -> None:
    """RAR-06, RAR-10: details that were left out, added, changed or enriched are told from those requested for."""
    audit = audited({"authorization_details": requested}, {"authorization_details": granted})
    found = item(audit, "authorization_details")
    assert found.verdict is verdict
    assert found.requested == freeze(requested or [])
    assert found.granted == freeze(granted or [])
    if verdict is Verdict.DIFFERENT:
        assert (found.missing, found.added) == (found.requested, found.granted)


@pytest.mark.parametrize(
    ("requested", "claims", "verdict", "granted", "missing"),
    [
        (("a", "b"), {"acr": "b"}, Verdict.AS_REQUESTED, ("b",), ()),
        (("a", "b"), {"acr": "c"}, Verdict.DIFFERENT, ("c",), ("a", "b")),
        (("a", "b"), {"acr": "0"}, Verdict.DIFFERENT, ("0",), ("a", "b")),
        (("a",), {"sub": "x"}, Verdict.LESS, (), ("a",)),
        (("a",), None, Verdict.LESS, (), ("a",)),
    ],
)
def test_acr(requested: Any, claims: Any, verdict: Verdict, granted: Any, missing: Any) -> None:
    """CLM-07, FAPI-04, FAPI-21, CIBA-7.1-14: any of the acceptable classes will do; none, or another, is a difference."""
    found = item(audited({"acr_values": requested}, {"id_token_claims": claims}), "acr")
    assert (found.verdict, found.granted, found.missing) == (verdict, granted, missing)


@pytest.mark.parametrize(
    ("requested", "granted", "verdict"),
    [
        ("Bearer", "bearer", Verdict.AS_REQUESTED),
        ("DPoP", "dpop", Verdict.AS_REQUESTED),
        ("DPoP", "Bearer", Verdict.DIFFERENT),
    ],
)
def test_token_type(requested: str, granted: str, verdict: Verdict) -> None:
    """CAM-18: whether tokens are bound is part of what was requested for; case does not count."""
    assert item(audited({}, {"token_type": granted}, requested), "token_type").verdict is verdict


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
    """IDT-16, CLM-04: requested for as a claim of its own, it is audited like one of ``acr_values``."""
    request = AuthenticationRequest(
        scope="openid", login_hint="alice", claims={"id_token": {"acr": {"values": ["urn:a"]}}}
    )
    tx = answer(awaiting(request), reply(200, ACKNOWLEDGEMENT)).transaction
    tx = answer(fire(tx).transaction, reply(200, {**TOKENS, "id_token": id_token(acr="urn:c")})).transaction
    assert tx.tokens is not None
    assert tx.tokens.differs_in == ("acr",)


def issued(**granted: Any) -> tuple[TokenResponse, Transaction]:
    """The tokens of a transaction that requested for a scope and a class of authentication."""
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
    """TOK-06, RAR-10, CLM-07: tokens know what was requested for, after a restart, too."""
    tokens, tx = issued(**granted)
    assert tokens.differs_in == tokens.grant.differs_in == differs_in
    restored = Transaction.from_json(tx.to_json(), client=CLIENT, provider=PROVIDER)
    assert restored == tx
    assert restored.tokens is not None
    assert restored.tokens.grant == tokens.grant


def test_strict() -> None:
    """RAR-10: who insists gets an error that names the differences, and has the tokens to revoke them."""
    tokens, _ = issued(scope="openid", id_token=id_token(acr="urn:a"))
    with pytest.raises(GrantDiffers, match=r"^granted otherwise than requested: scope$") as caught:
        tokens.require_as_requested()
    assert caught.value.grant is tokens.grant
    assert caught.value.untrusted.reveal_untrusted() is tokens
    with pytest.raises(GrantDiffers):
        tokens.require_as_requested("acr", "scope")
    tokens.require_as_requested("acr", "authorization_details", "token_type")
    as_requested, _ = issued(id_token=id_token(acr="urn:a"))
    as_requested.require_as_requested()
