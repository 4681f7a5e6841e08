from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciba_core import (
    AuthenticationRequest,
    DecryptionKey,
    IdTokenPolicy,
    RemoteSigner,
    Secret,
    TokenResponse,
    hints,
)
from ciba_core.hints import HintFormat, LoginHintSigning, SubjectIdentifier, has_format
from tests.jwt_samples import CORE_SIGNER, FAPI_KEY, FAPI_SIGNER, bad_signers, counter, opened, verified
from tests.samples import CLIENT, NOW, id_token, untrusted

INJECTED = ['a"b', '","sub":"mallory', "a\\b", "a\nb", "a\rb", "a\x00b", "a\x7fb", "\ud800"]
INVISIBLE = ["a\u202eb", "a\u200bb", "a\u2028b", "a\u0085b", "a\xa0b", "\ue000", " a", "a "]
BAD = [*INJECTED, *INVISIBLE, ""]
BUILDERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "plain": (hints.plain, "name"),
    "email": (hints.email, "address"),
    "phone": (hints.phone, "number"),
    "ip_port": (hints.ip_port, "address"),
    "operator_token": (hints.operator_token, "token"),
    "iss": (lambda iss: hints.iss_sub(iss, "x"), "iss"),
    "sub": (lambda sub: hints.iss_sub("x", sub), "sub"),
    "json name": (lambda name: hints.json_object({name: "x"}), "members: a name"),
    "json nested": (lambda text: hints.json_object({"a": [{"b": text}]}), "members: a: b"),
    "account": (SubjectIdentifier.account, "uri"),
    "opaque": (SubjectIdentifier.opaque, "identifier"),
    "phone_number": (SubjectIdentifier.phone_number, "number"),
    "subject email": (SubjectIdentifier.email, "address"),
    "did": (SubjectIdentifier.did, "url"),
    "uri": (SubjectIdentifier.uri, "uri"),
    "id_token": (hints.id_token_hint, "tokens"),
}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("bad", BAD, ids=ascii)
def test_nothing_is_smuggled_in(builder: str, bad: str) -> None:
    """CIBA-7.1-17, -21: quotes, backslashes, controls and what does not show are refused; the value is not told."""
    build, name = BUILDERS[builder]
    with pytest.raises(ValueError, match=rf"^{name} must ") as caught:
        build(bad)
    assert len(bad) < 4 or bad not in str(caught.value)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("bad", [7, b"x", ["x"]], ids=repr)
def test_hints_are_text(builder: str, bad: Any) -> None:
    """What is no string is a TypeError that names the parameter."""
    build, name = BUILDERS[builder]
    if builder.startswith("json") and not isinstance(bad, bytes):
        # A JSON object may have other parts than strings, and a list is no name of a member to begin with.
        return
    with pytest.raises(TypeError, match=rf"^{name} must be "):
        build(bad)


def test_a_hint_is_what_a_request_takes() -> None:
    """CIBA-7.1-15, -21: each hint goes into a request as it is, and does not show."""
    hint = hints.phone("+34666666666")
    made = AuthenticationRequest(scope="openid", login_hint=hint)
    assert dict(made.parameters())["login_hint"] == "tel:+34666666666"
    assert "666" not in repr(made) + repr(hint)


@pytest.mark.parametrize("name", ["alice", "o'brien", "DE89 3704 0044", "łukasz", "auth0|1", "a/b@c"])
def test_plain(name: str) -> None:
    """CIBA-7.1-21: a user name, subject or account number is sent as it is."""
    assert hints.plain(name).reveal() == name


@pytest.mark.parametrize(
    "address",
    ["alice@example.com", "a.b+c@sub.example.com", "o'b_r@x-y.example", "żółć@przykład.pl", "a@localhost"],
)
def test_email(address: str) -> None:
    """CIBA-7.1-21: an email address is sent as it is."""
    assert hints.email(address).reveal() == address
    assert SubjectIdentifier.email(address).members == {"format": "email", "email": address}


@pytest.mark.parametrize(
    "address",
    ["alice", "@example.com", "alice@", "a b@example.com", "a@b@c", ".a@b.c", "a..b@c.d", "a@-b.c", "a@b-.c", "a@b..c",
     "a@b.c.", "<a@b.c>", "a@[1.2.3.4]", "a,b@c.d", "a@_b.c", "mailto:a@b.c", "a" * 251 + "@b.c"],
)  # fmt: skip
def test_no_email(address: str) -> None:
    """What is not one plain address is refused."""
    with pytest.raises(ValueError, match=r"^address must "):
        hints.email(address)


@pytest.mark.parametrize("number", ["+34666666666", "+1", "+123456789012345"])
def test_phone(number: str) -> None:
    """CAM-05, CAM-06: `tel:` and the global number."""
    assert hints.phone(number).reveal() == f"tel:{number}"
    assert SubjectIdentifier.phone_number(number).members == {
        "format": "phone_number",
        "phone_number": number,
    }


@pytest.mark.parametrize(
    "number",
    [
        "34666666666",
        "+",
        "+0123",
        "+1234567890123456",
        "+34 666",
        "+34-666",
        "+34(0)6",
        "tel:+34",
        "+٣٤",
        "+34;ext=1",
        "++34",
    ],
)
def test_no_phone(number: str) -> None:
    """CAM-05, CAM-06: no separators, no leading 0, 15 digits at most, ASCII digits only."""
    with pytest.raises(ValueError, match=r"^number must be a number as in E\.164"):
        hints.phone(number)


@pytest.mark.parametrize(
    ("address", "port", "hint"),
    [
        ("80.90.34.2", 16790, "ipport:80.90.34.2:16790"),
        ("80.90.34.2", None, "ipport:80.90.34.2"),
        ("2001:db8::1", 8080, "ipport:[2001:db8::1]:8080"),
        ("2001:db8::1", None, "ipport:[2001:db8::1]"),
        ("2001:0DB8:0::1", 1, "ipport:[2001:db8::1]:1"),
        ("::", 65535, "ipport:[::]:65535"),
    ],
)
def test_ip_port(address: str, port: int | None, hint: str) -> None:
    """CAM-05: IPv4, or IPv6 in brackets; the port is optional."""
    assert hints.ip_port(address, port).reveal() == hint


@pytest.mark.parametrize(
    ("address", "port", "error", "name"),
    [
        ("80.90.34", None, ValueError, "address"),
        ("80.90.34.2:80", None, ValueError, "address"),
        ("[2001:db8::1]", None, ValueError, "address"),
        ("fe80::1%eth0", None, ValueError, "address"),
        ("example.com", None, ValueError, "address"),
        ("80.90.34.2", 0, ValueError, "port"),
        ("80.90.34.2", 65536, ValueError, "port"),
        ("80.90.34.2", "80", TypeError, "port"),
        ("80.90.34.2", True, TypeError, "port"),
    ],
)
def test_no_ip_port(address: str, port: Any, error: type[Exception], name: str) -> None:
    """CAM-05: what is no address, has a zone, or a port out of range is refused."""
    with pytest.raises(error, match=rf"^{name} must be"):
        hints.ip_port(address, port)


def test_operator_token() -> None:
    """CAM-05: an opaque token with its prefix, plain or wrapped."""
    for token in ("eyJ.a-b_c=", Secret("eyJ.a-b_c=")):
        assert hints.operator_token(token).reveal() == "operatortoken:eyJ.a-b_c="
    for bad in ("a b", "ä"):
        with pytest.raises(ValueError, match=r"^token must be printable ASCII without spaces$"):
            hints.operator_token(bad)


def test_iss_sub() -> None:
    """V-AUTH0-03: the JSON of RFC 9493 3.2.3, compact, in the order of the documentation."""
    hint = hints.iss_sub("https://tenant.auth0.com/", "auth0|5f7c8ec7c33c6c004bbafe82")
    assert hint.reveal() == (
        '{"format":"iss_sub","iss":"https://tenant.auth0.com/","sub":"auth0|5f7c8ec7c33c6c004bbafe82"}'
    )


@given(st.text(), st.text())
def test_iss_sub_has_three_members(iss: str, sub: str) -> None:
    """CIBA-7.1-21: whatever goes in, what comes out names that issuer and that subject, or nothing comes out."""
    try:
        hint = hints.iss_sub(iss, sub)
    except ValueError:
        return
    assert json.loads(hint.reveal()) == {"format": "iss_sub", "iss": iss, "sub": sub}


FORMS = {
    HintFormat.EMAIL: ["alice@example.com"],
    HintFormat.PHONE: ["tel:+34666666666"],
    HintFormat.IP_PORT: [
        "ipport:80.90.34.2",
        "ipport:80.90.34.2:1",
        "ipport:[2001:DB8::1]:8080",
        "ipport:[::1]",
    ],
    HintFormat.OPERATOR_TOKEN: ["operatortoken:x"],
    HintFormat.ISS_SUB: [
        '{"format":"iss_sub","iss":"x","sub":"y"}',
        '{"sub": "y", "iss": "x", "format": "iss_sub"}',
    ],
    HintFormat.JSON_OBJECT: ['{"username":"alice"}', '{"sub": "x", "of": [1, true, {"a": "b"}]}'],
}


@pytest.mark.parametrize("form", HintFormat)
def test_forms_are_told_apart(form: HintFormat) -> None:
    """CAM-05, V-AUTH0-03: each form is recognised, whoever wrote it, and taken for no other.

    Issuer and subject are a JSON object as well.
    """
    forms = {form, HintFormat.ISS_SUB} if form is HintFormat.JSON_OBJECT else {form}
    for own, examples in FORMS.items():
        for example in examples:
            assert has_format(example, form) is (own in forms)


@pytest.mark.parametrize(
    "hint",
    ["alice", "", "tel:34", "fax:+34", "xtel:+34", "+34", "ipport:", "ipport:1.2.3", "ipport:[1.2.3.4]", "ipport:::1", "ipport:1.2.3.4:0",
     "ipport:1.2.3.4:65536", "ipport:1.2.3.4:", "ipport:[::1%1]", "operatortoken:", "operatortoken:a b", "xperatortoken:a",
     "{}", "[]", '{"a":null}', '{"a":1.5}', '{"":"x"}', '{"a":"b\\"c"}', '{"a":' * 9 + "1" + "}" * 9,
     '{"format":"iss_sub","iss":"x","sub":"y","sub":"z"}',
     '{"format":"iss_sub","iss":"x","sub":""}', '{"format":"iss_sub","iss":"x","sub":"\\n"}', "\ud800@example.com", "tel:\ud800"],
    ids=ascii,
)  # fmt: skip
def test_what_is_in_no_form(hint: str) -> None:
    """A hint that no function here would have made is in none of the forms."""
    assert [form for form in HintFormat if has_format(hint, form)] == []


@pytest.mark.parametrize(
    "hint",
    [
        '{"format":"iss_sub","iss":"x"}',
        '{"format":"email","iss":"x","sub":"y"}',
        '{"format":"iss_sub","iss":"x","sub":7}',
        '{"format":"iss_sub","iss":"x","sub":"y","a":1}',
    ],
)
def test_what_is_nothing_but_a_json_object(hint: str) -> None:
    """An object that is not exactly issuer and subject is a JSON object like any other."""
    assert [form for form in HintFormat if has_format(hint, form)] == [HintFormat.JSON_OBJECT]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"username": "alice"}, '{"username":"alice"}'),
        ({"username": "łukasz o'brien"}, '{"username":"łukasz o\'brien"}'),
        ({"sub": "1", "n": -7, "b": True, "of": ("x", {"y": "z"})},
         '{"sub":"1","n":-7,"b":true,"of":["x",{"y":"z"}]}'),
    ],
)  # fmt: skip
def test_json_objects(members: dict[str, Any], text: str) -> None:
    """A hint can be a JSON object, whose parts stay where they were put (CIBA Core 7.1: login_hint)."""
    assert hints.json_object(members).reveal() == text
    assert has_format(text, HintFormat.JSON_OBJECT)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_nobody_breaks_out_of_a_json_object(members: dict[str, Any]) -> None:
    """Whatever goes in is refused, or comes out as it was, and the text has no other quotes than its own."""
    try:
        hint = hints.json_object(members).reveal()
    except ValueError:
        return
    assert json.loads(hint) == members
    assert "\\" not in hint


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ([("a", "b")], TypeError),
        ("alice", TypeError),
        ({}, ValueError),
        ({"a": None}, TypeError),
        ({"a": 1.5}, TypeError),
        ({"a": b"x"}, TypeError),
        ({1: "x"}, TypeError),
        ({"a": 10**64}, ValueError),
        ({"a": [[[[[[[[["deep"]]]]]]]]]}, ValueError),
    ],
)
def test_no_json_object(members: Any, error: type[Exception]) -> None:
    """What is no object of strings, whole numbers, booleans, objects and arrays is refused."""
    with pytest.raises(error):
        hints.json_object(members)


@pytest.mark.parametrize(
    ("subject", "members"),
    [
        (SubjectIdentifier.account("acct:a@b.example"), {"format": "account", "uri": "acct:a@b.example"}),
        (SubjectIdentifier.iss_sub("i", "s"), {"format": "iss_sub", "iss": "i", "sub": "s"}),
        (SubjectIdentifier.opaque("11 22"), {"format": "opaque", "id": "11 22"}),
        (SubjectIdentifier.did("did:web:a.example"), {"format": "did", "url": "did:web:a.example"}),
        (SubjectIdentifier.uri("urn:uuid:1"), {"format": "uri", "uri": "urn:uuid:1"}),
        (
            SubjectIdentifier({"format": "phone", "phone": "+13302818004"}),
            {"format": "phone", "phone": "+13302818004"},
        ),
        (
            SubjectIdentifier.aliases(SubjectIdentifier.opaque("1"), SubjectIdentifier.email("a@b.c")),
            {
                "format": "aliases",
                "identifiers": ({"format": "opaque", "id": "1"}, {"format": "email", "email": "a@b.c"}),
            },
        ),
    ],
)
def test_subject_identifiers(subject: SubjectIdentifier, members: dict[str, Any]) -> None:
    """CIBA-7.1-33: the formats of RFC 9493 with their members; others as they are given; nothing shows."""
    assert subject.members == members
    assert repr(subject) == "SubjectIdentifier()"


def test_no_subject_identifiers() -> None:
    """CIBA-7.1-33: an object without format, aliases of aliases or of nobody, and wrong forms are refused."""
    one = SubjectIdentifier.aliases(SubjectIdentifier.opaque("1"))
    for nested in ((), (one,), (SubjectIdentifier.opaque("1"), one)):
        with pytest.raises(ValueError, match=r"^identifiers must be"):
            SubjectIdentifier.aliases(*nested)
    for members in ({}, {"format": 1}):
        with pytest.raises(ValueError, match=r"^members must have a string member 'format'"):
            SubjectIdentifier(members)
    bad: Any = ["format"]
    with pytest.raises(TypeError, match=r"^members must be a mapping"):
        SubjectIdentifier(bad)
    for build, value in (
        (SubjectIdentifier.account, "acct:alice"),
        (SubjectIdentifier.account, "alice@example.com"),
        (SubjectIdentifier.did, "web:example"),
        (SubjectIdentifier.uri, "no uri"),
    ):
        with pytest.raises(ValueError, match=r"^ur[il] must be"):
            build(value)


SIGNING = LoginHintSigning(FAPI_SIGNER, client_id="s6BhdRkqt3", audience="https://server.example.com")
SUBJECT = SubjectIdentifier.phone_number("+13302818004")


def test_login_hint_token() -> None:
    """CIBA-7.1-16, -17, -33: a JWT in the client's name, with the user in `sub_id`, signed."""
    entropy = counter()
    jwt = SIGNING.token(SUBJECT, now=NOW + 0.9, entropy=entropy)
    header, claims = opened(jwt)
    assert header == {"alg": "ES256", "kid": "thrwqnuer"}
    jti = claims.pop("jti")
    assert claims == {
        "iss": "s6BhdRkqt3",
        "aud": "https://server.example.com",
        "iat": int(NOW),
        "exp": int(NOW) + 300,
        "sub_id": {"format": "phone_number", "phone_number": "+13302818004"},
    }
    assert len(jti) == 22
    assert opened(SIGNING.token(SUBJECT, now=NOW, entropy=entropy))[1]["jti"] != jti
    token = jwt.sign()
    assert verified(token, FAPI_KEY, "ES256")
    assert (
        dict(AuthenticationRequest(scope="openid", login_hint_token=token).parameters())["login_hint_token"]
        == token
    )


def test_login_hint_token_of_the_standard() -> None:
    """VEC-CORE-02, CIBA-7.1-33: the subject of Core's example, for a key that is out of reach."""
    subject = SubjectIdentifier({"format": "phone", "phone": "+13302818004"})
    signing = LoginHintSigning(CORE_SIGNER, client_id="x", audience="y", lifetime=60, typ="hint+jwt")
    jwt = signing.token(subject, now=NOW, entropy=bytes)
    header, claims = opened(jwt)
    assert header == {"alg": "ES256", "typ": "hint+jwt", "kid": "ltacesbw"}
    assert claims["sub_id"] == {"format": "phone", "phone": "+13302818004"}
    assert claims["exp"] - claims["iat"] == 60
    assert isinstance(jwt.signer, RemoteSigner)
    assert jwt.signed(bytes(64)).rpartition(".")[2] == "A" * 86


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": ""}, ValueError),
        ({"client_id": None}, TypeError),
        ({"audience": "a\nb"}, ValueError),
        ({"audience": ["x"]}, TypeError),
        ({"lifetime": 0}, ValueError),
        ({"lifetime": 3601}, ValueError),
        ({"lifetime": 1.5}, TypeError),
        ({"typ": ""}, ValueError),
        *(({"signer": signer}, error) for signer, error in bad_signers()),
    ],
)
def test_bad_signing_of_hints(changes: dict[str, Any], error: type[Exception]) -> None:
    """A mistake shows when the value is made; the message names the parameter."""
    arguments: dict[str, Any] = {"signer": FAPI_SIGNER, "client_id": "x", "audience": "y"}
    with pytest.raises(error, match=rf"^{next(iter(changes))} must "):
        LoginHintSigning(**(arguments | changes))


def tokens(value: str | None) -> TokenResponse:
    made = untrusted().reveal_untrusted()
    return TokenResponse(
        access_token=made.access_token,
        token_type="Bearer",
        expires_at=None,
        refresh_token=None,
        id_token=None if value is None else Secret(value),
        scope="openid",
        authorization_details=None,
        extra={},
    )


def test_id_token_hint() -> None:
    """CIBA-7.1-18, -20: the ID Token of earlier tokens, expired or not, as tokens, secret or text."""
    old = id_token(exp=1)
    for given_as in (tokens(old), Secret(old), old):
        assert hints.id_token_hint(given_as).reveal() == old
        assert hints.id_token_hint(given_as, policy=CLIENT.id_token).reveal() == old


JWE_KEY: dict[str, Any] = {
    "kty": "EC",
    "crv": "P-256",
    "x": "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
    "y": "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
    "d": "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw",
}
"""RFC 7518 C: Bob's key."""


def encrypted(text: str, *, alg: str = "ECDH-ES", enc: str = "A128GCM") -> str:
    from joserfc import jwe, jwk

    return jwe.encrypt_compact({"alg": alg, "enc": enc}, text, jwk.import_key(JWE_KEY), algorithms=[alg, enc])


def policy(**changes: Any) -> IdTokenPolicy:
    return IdTokenPolicy(
        encrypted_response_alg="ECDH-ES",
        encrypted_response_enc="A128GCM",
        decryption_keys=(DecryptionKey.from_jwk(JWE_KEY),),
        **changes,
    )


def test_an_encrypted_id_token_is_decrypted_first() -> None:
    """CIBA-7.1-19: what is sent of an encrypted ID Token is the signed JWT inside."""
    inner = id_token()
    assert hints.id_token_hint(tokens(encrypted(inner)), policy=policy()).reveal() == inner


@pytest.mark.parametrize(
    ("value", "settings"),
    [
        (encrypted(id_token()), None),
        (encrypted(id_token()), CLIENT.id_token),
        (encrypted(id_token(), enc="A256GCM"), policy()),
        (encrypted(encrypted(id_token())), policy()),
        (encrypted("text"), policy()),
        ("opaque", None),
        ("a.b", policy()),
    ],
    ids=range(7),
)
def test_an_encrypted_id_token_is_never_sent(value: str, settings: IdTokenPolicy | None) -> None:
    """CIBA-7.1-19: an ID Token that stays encrypted, or is none, is refused and does not show."""
    with pytest.raises(ValueError, match=r"^tokens must have a signed ID Token") as caught:
        hints.id_token_hint(tokens(value), policy=settings)
    assert value not in str(caught.value)


def test_no_id_token_to_hint_with() -> None:
    """CIBA-7.1-18: tokens without an ID Token are no hint."""
    with pytest.raises(ValueError, match=r"^tokens must have an ID Token$"):
        hints.id_token_hint(tokens(None))


def test_policies_by_secret_do_not_decrypt() -> None:
    """CIBA-7.1-19: the rule is about key pairs; a symmetrically encrypted ID Token is refused."""
    symmetric = IdTokenPolicy(encrypted_response_alg="dir", encrypted_response_enc="A128GCM")
    with pytest.raises(ValueError, match=r"^tokens must have a signed ID Token"):
        hints.id_token_hint(tokens(encrypted(id_token())), policy=symmetric)
