"""Hints that say which user is meant (CIBA Core 7.1), built so that nothing can be smuggled into them.

A provider parses a hint; whoever chooses part of one, a telephone number or a user name, must not be able to
change the rest. So each kind of hint has a function that checks its parts and returns the finished `Secret`::

    AuthenticationRequest(scope="openid", login_hint=hints.phone("+491701234567"))

Which kinds a provider takes is its own matter; profiles say what is known. None of the checks changes a
value: what is not in the right form is refused.

Tokens as hints: `LoginHintSigning` makes a ``login_hint_token`` in the client's own name, and `id_token_hint`
takes the ID Token of earlier tokens.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, Protocol, assert_never, cast

from attrs import field, frozen

from ciba_core.client.registered import IdTokenPolicy
from ciba_core.jose.encryption import NotDecrypted, decrypt
from ciba_core.jose.unsigned_jwt import (
    AnySigner,
    UnsignedJwt,
    check_signer,
    numeric_date,
    unique_id,
    unsigned_jwt,
)
from ciba_core.values import check
from ciba_core.values.json import JsonFault, dumps, freeze, parse_object
from ciba_core.values.secret import Secret

__all__ = [
    "HintFormat",
    "LoginHintSigning",
    "SubjectIdentifier",
    "email",
    "has_format",
    "id_token_hint",
    "ip_port",
    "iss_sub",
    "json_object",
    "operator_token",
    "phone",
    "plain",
]

# E.164: a country code, which never begins with 0, and 15 digits at most in all.
_NUMBER: Final = re.compile(r"\+[1-9][0-9]{0,14}")
# RFC 5322 3.4.1 without quoted local parts, comments and literal addresses; RFC 6531 for other scripts.
_EMAIL: Final = re.compile(
    r"[^\s@()<>,;:\[\].]+(?:\.[^\s@()<>,;:\[\].]+)*@[^\W_][\w-]*(?<![-_])(?:\.[^\W_][\w-]*(?<![-_]))*"
)
_EMAIL_LENGTH: Final = 254
_ACCOUNT: Final = re.compile(r"acct:[^\s@]+@[^\s@]+")
_DID: Final = re.compile(r"did:[a-z0-9]+:\S+")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_TOKEN: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
_IP_PORT: Final = re.compile(
    r"ipport:(?:\[(?P<six>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|(?P<four>[0-9.]+))(?::(?P<port>[1-9][0-9]{0,4}))?"
)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    problem = check.text_problem(value)
    if problem is None and '"' in value:
        problem = "must not contain double quotes"
    if problem is None and "\\" in value:
        problem = "must not contain backslashes"
    if problem is None and not value.isprintable():
        # Controls that reorder text, separators of lines, blanks that look like something else.
        problem = "must not contain invisible characters"
    if problem is None and value != value.strip():
        problem = "must not begin or end with a space"
    if problem is not None:
        raise ValueError(f"{name} {problem}")
    return value


def _form(name: str, value: object, pattern: re.Pattern[str], form: str) -> str:
    text = _text(name, value)
    if not pattern.fullmatch(text):
        raise ValueError(f"{name} must be {form}")
    return text


def _number(name: str, value: object) -> str:
    form = "a number as in E.164: a plus sign and up to 15 digits, the first not 0, without separators"
    return _form(name, value, _NUMBER, form)


def _address(name: str, value: object) -> str:
    text = _form(name, value, _EMAIL, "an email address: local part, @, domain")
    if len(text) > _EMAIL_LENGTH:
        raise ValueError(f"{name} must not be longer than {_EMAIL_LENGTH} characters")
    return text


def plain(name: str) -> Secret:
    """Return a hint of no particular form: a user name, an account number.

    Raises:
        TypeError, ValueError: `name` is empty, or has quotes, backslashes, or characters that do not show.

    """
    return Secret(_text("name", name))


def email(address: str) -> Secret:
    """Return an email address as a hint.

    Raises:
        TypeError, ValueError: `address` is none, or has a quoted local part.

    """
    return Secret(_address("address", address))


def phone(number: str) -> Secret:
    """Return a telephone number as a hint in the form of RFC 3966: ``tel:+491701234567`` (CAMARA).

    Raises:
        TypeError, ValueError: `number` is not in the form of E.164: with the plus sign, without separators.

    """
    return Secret(f"tel:{_number('number', number)}")


def ip_port(address: str, port: int | None = None) -> Secret:
    """Return the public address of the user's device as a hint: ``ipport:[2001:db8::1]:8080`` (CAMARA).

    Args:
        address: an IPv4 or IPv6 address, without brackets and without zone.
        port: the source port, where one is known.

    Raises:
        TypeError, ValueError: `address` or `port` is none; the message names it.

    """
    text = _text("address", address)
    try:
        ip = ip_address(text)
    except ValueError:
        ip = None
    if ip is None or "%" in text:
        raise ValueError("address must be an IPv4 or IPv6 address without zone")
    if port is not None:
        if isinstance(port, bool) or not isinstance(port, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"port must be int, not {type(port).__name__}")
        if not 1 <= port <= 65535:
            raise ValueError("port must be from 1 to 65535")
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    return Secret(f"ipport:{host}" if port is None else f"ipport:{host}:{port}")


def operator_token(token: Secret | str) -> Secret:
    """Return a temporary token of a mobile operator (GSMA TS.43) as a hint: ``operatortoken:...`` (CAMARA).

    Raises:
        TypeError, ValueError: `token` is not printable ASCII without spaces, quotes and backslashes.

    """
    text = token.reveal() if isinstance(token, Secret) else token
    form = "printable ASCII without spaces"
    return Secret(f"operatortoken:{_form('token', text, _TOKEN, form)}")


def iss_sub(iss: str, sub: str) -> Secret:
    """Return issuer and subject as a hint: the JSON of a subject identifier (RFC 9493 3.2.3).

    Args:
        iss: the issuer, in its exact spelling: where the provider's has a slash at the end, this has it, too.
        sub: the user's identifier there.

    Raises:
        TypeError, ValueError: `iss` or `sub` is empty, or has quotes, backslashes, or characters that do not
            show; the message names it.

    """
    return Secret(dumps(SubjectIdentifier.iss_sub(iss, sub).members))


def json_object(members: Mapping[str, Any]) -> Secret:
    """Return a JSON object as a hint, such as ``{"username":"alice"}``, for providers that want one.

    For the objects of RFC 9493 there are `iss_sub` and `SubjectIdentifier`. What goes into an object is held
    to the same rules as any other part of a hint, at every level, so that it stays inside of the quotes even
    where a provider takes the text apart by means of its own.

    Args:
        members: one member at least; strings, whole numbers, booleans, and objects and arrays of them.

    Raises:
        TypeError, ValueError: `members` is empty or no such object, or a name or a string in it is empty, or
            has quotes, backslashes, or characters that do not show; the message names the member.

    """
    if not isinstance(members, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"members must be a mapping, not {type(members).__name__}")
    if not members:
        raise ValueError("members must have one at least")
    _check_part("members", members, levels=_LEVELS)
    return Secret(dumps(members))


_LEVELS: Final = 8


def _check_part(name: str, value: object, *, levels: int) -> None:
    """Check a part of a JSON object, and all that is in it."""
    if isinstance(value, (bool, int)):
        freeze(value)
        return
    if not isinstance(value, (Mapping, list, tuple)):
        _text(name, value)
        return
    if not levels:
        raise ValueError(f"{name} must not have more than {_LEVELS} levels")
    if isinstance(value, Mapping):
        for member, content in cast("Mapping[object, object]", value).items():
            text = _text(f"{name}: a name", member)
            _check_part(f"{name}: {text}", content, levels=levels - 1)
        return
    for content in cast("Sequence[object]", value):
        _check_part(name, content, levels=levels - 1)


class HintFormat(enum.Enum):
    """The forms of a ``login_hint`` that can be told by looking."""

    EMAIL = "email address"
    PHONE = "tel:"
    IP_PORT = "ipport:"
    OPERATOR_TOKEN = "operatortoken:"  # noqa: S105  # a prefix, not a credential
    ISS_SUB = "iss_sub JSON"
    JSON_OBJECT = "JSON object"


def has_format(hint: str, form: HintFormat) -> bool:
    """Tell whether a ``login_hint`` is in a form: whether its parts would pass the checks of its function."""
    try:
        match form:
            case HintFormat.EMAIL:
                email(hint)
            case HintFormat.PHONE:
                phone(hint[4:])
                return hint.startswith("tel:")
            case HintFormat.IP_PORT:
                found = _IP_PORT.fullmatch(hint)
                if found is None:
                    return False
                ip_port(found["six"] or found["four"], None if found["port"] is None else int(found["port"]))
            case HintFormat.OPERATOR_TOKEN:
                operator_token(hint[14:])
                return hint.startswith("operatortoken:")
            case HintFormat.ISS_SUB:
                members = parse_object(hint.encode("utf-8", "surrogatepass"), depth_limit=1)
                if isinstance(members, JsonFault) or members.keys() != {"format", "iss", "sub"}:
                    return False
                iss_sub(members["iss"], members["sub"])
                return bool(members["format"] == "iss_sub")
            case HintFormat.JSON_OBJECT:
                members = parse_object(hint.encode("utf-8", "surrogatepass"), depth_limit=_LEVELS)
                if isinstance(members, JsonFault):
                    return False
                json_object(members)
            case _:
                assert_never(form)
    except (TypeError, ValueError):
        return False
    return True


def _frozen(members: Mapping[str, Any]) -> Mapping[str, Any]:
    frozen: Mapping[str, Any] = freeze(members)
    return frozen


def _check_members(_instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping")
    if not isinstance(value.get("format"), str):  # pyright: ignore[reportUnknownMemberType]
        raise ValueError(f"{attribute.name} must have a string member 'format' (RFC 9493 3)")  # noqa: TRY004  # not the type of the argument


@frozen
class SubjectIdentifier:
    """Who is meant, as an object of a registered format (RFC 9493 3.2).

    There is a function for each format of the RFC; for any other, give the members yourself.

    Raises:
        TypeError, ValueError: the members are not a JSON object with a ``format``, or a part is not in the
            form that its format asks for; the message names it.

    """

    members: Mapping[str, Any] = field(converter=_frozen, validator=_check_members, repr=False)
    """The object, ``format`` included."""

    @classmethod
    def account(cls, uri: str) -> SubjectIdentifier:
        """Return format ``account``: an ``acct:`` URI (RFC 7565)."""
        return cls(
            {"format": "account", "uri": _form("uri", uri, _ACCOUNT, "an acct: URI with user and host")}
        )

    @classmethod
    def email(cls, address: str) -> SubjectIdentifier:
        """Return format ``email``."""
        return cls({"format": "email", "email": _address("address", address)})

    @classmethod
    def iss_sub(cls, iss: str, sub: str) -> SubjectIdentifier:
        """Return format ``iss_sub``: issuer and subject, as in an ID Token."""
        return cls({"format": "iss_sub", "iss": _text("iss", iss), "sub": _text("sub", sub)})

    @classmethod
    def opaque(cls, identifier: str) -> SubjectIdentifier:
        """Return format ``opaque``: an identifier that only the two parties understand."""
        return cls({"format": "opaque", "id": _text("identifier", identifier)})

    @classmethod
    def phone_number(cls, number: str) -> SubjectIdentifier:
        """Return format ``phone_number``: a number as in E.164, with the plus sign."""
        return cls({"format": "phone_number", "phone_number": _number("number", number)})

    @classmethod
    def did(cls, url: str) -> SubjectIdentifier:
        """Return format ``did``: a decentralized identifier."""
        return cls({"format": "did", "url": _form("url", url, _DID, "a DID URL")})

    @classmethod
    def uri(cls, uri: str) -> SubjectIdentifier:
        """Return format ``uri``."""
        return cls({"format": "uri", "uri": _form("uri", uri, _URI, "an absolute URI")})

    @classmethod
    def aliases(cls, *identifiers: SubjectIdentifier) -> SubjectIdentifier:
        """Return format ``aliases``: several identifiers of one user, none of which is of this format."""
        if not identifiers or any(each.members["format"] == "aliases" for each in identifiers):
            raise ValueError("identifiers must be one or several, and no aliases themselves (RFC 9493 3.2.8)")
        return cls({"format": "aliases", "identifiers": [each.members for each in identifiers]})


@frozen
class LoginHintSigning:
    """How a client signs a ``login_hint_token`` of its own (CIBA Core 7.1 and 14).

    What is in such a token is agreed with the provider; this makes a JWT with the user in ``sub_id``
    (RFC 9493 4.1).

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range; the message names it.

    """

    signer: AnySigner = field(validator=check_signer)
    client_id: str = field(kw_only=True, validator=[check.a(str), check.text])
    """Becomes ``iss``."""
    audience: str = field(kw_only=True, validator=[check.a(str), check.text])
    """Becomes ``aud``: the provider's issuer identifier, unless it was agreed otherwise."""
    lifetime: int = field(default=300, kw_only=True, validator=check.whole_number(1, 3600))
    """Seconds from now to ``exp``."""
    typ: str | None = field(default=None, kw_only=True, validator=check.text)
    """The ``typ`` header."""

    def token(
        self, subject: SubjectIdentifier, *, now: float, entropy: Callable[[int], bytes]
    ) -> UnsignedJwt:
        """Return the token but for its signature; every call makes a new ``jti``.

        A hint is made before a transaction begins, so that nothing has to go through its steps: call
        ``sign``, or for a `RemoteSigner` have the key's service sign ``octets`` and call ``signed``.

        Args:
            subject: the user.
            now: POSIX seconds.
            entropy: returns that many random octets, as `ClientConfig.entropy` does.

        """
        issued_at = numeric_date(now)
        claims = {
            "iss": self.client_id,
            "aud": self.audience,
            "iat": issued_at,
            "exp": issued_at + self.lifetime,
            "jti": unique_id(entropy),
            "sub_id": subject.members,
        }
        return unsigned_jwt(claims, signer=self.signer, typ=self.typ)


class HasIdToken(Protocol):
    """The forms of earlier tokens from which a hint can be made, such as a `TokenResponse`."""

    @property
    def id_token(self) -> Secret | None:
        """The ID Token as it came."""
        ...


def id_token_hint(tokens: HasIdToken | Secret | str, *, policy: IdTokenPolicy | None = None) -> Secret:
    """Return the ID Token of earlier tokens as a hint. An expired one is still a hint (CIBA Core 14).

    Args:
        tokens: the tokens, or the ID Token itself.
        policy: `ClientConfig.id_token`; needed where ID Tokens come encrypted, since what is sent is the
            signed JWT inside (CIBA Core 7.1).

    Raises:
        TypeError, ValueError: `tokens` has no ID Token, or one that is encrypted for a key that `policy` does
            not have.

    """
    id_token: object = getattr(tokens, "id_token", tokens)
    text = id_token.reveal() if isinstance(id_token, Secret) else id_token
    if text is None:
        raise ValueError("tokens must have an ID Token")
    if not isinstance(text, str):
        raise TypeError(f"tokens must be TokenResponse, Secret or str, not {type(tokens).__name__}")
    if text.count(".") == 4 and policy is not None:
        text = _decrypted(text, policy)
    if text.count(".") != 2:
        raise ValueError("tokens must have a signed ID Token, decrypted if it came encrypted (CIBA Core 7.1)")
    return Secret(_form("tokens", text, _TOKEN, "a JWT"))


def _decrypted(text: str, policy: IdTokenPolicy) -> str:
    alg, enc = policy.encrypted_response_alg, policy.encrypted_response_enc
    keys = [candidate.key for candidate in policy.decryption_keys]
    if alg is None or enc is None or not keys:
        return text
    plain = decrypt(text, keys, alg=alg, enc=enc, limit=len(text))
    return text if isinstance(plain, NotDecrypted) else plain
