"""The client, from a file with the metadata of its registration and its private keys."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast, get_args
from urllib.parse import quote, quote_plus, urlsplit

from attrs import evolve, field, fields, frozen

from ciba_adapters.cli.arguments import is_loopback, read_json
from ciba_adapters.cli.naming import named
from ciba_adapters.cli.text import Unusable
from ciba_core import (
    Audience,
    ClientAuthentication,
    ClientConfig,
    ClientSecretBasic,
    ClientSecretJwt,
    ClientSecretPost,
    DecryptionKey,
    IdTokenPolicy,
    Limits,
    NoClientAuthentication,
    PollingPolicy,
    PrivateKeyJwt,
    RequestSigning,
    SelfSignedTlsClientAuth,
    SigningKey,
    TlsClientAuth,
    profiles,
)
from ciba_core.client.config import DeliveryMode
from ciba_core.client.profile import Profile
from ciba_core.jose.algorithms import HMAC_ALGORITHMS, KEY_MANAGEMENT_ALGORITHMS

__all__ = ["AUTHENTICATION_METHODS", "DELIVERY_MODES", "PROFILES", "ClientFile", "read_client_file"]

PROFILES: Final[Mapping[str, Profile]] = {
    name.lower().replace("_", "-"): getattr(profiles, name) for name in profiles.__all__
}
"""The profiles of providers, by their names on the command line."""

DELIVERY_MODES: Final[tuple[DeliveryMode, ...]] = get_args(DeliveryMode)
_MODES: Final[Mapping[str, DeliveryMode]] = {mode: mode for mode in DELIVERY_MODES}

_SECRET_METHODS: Final[dict[str, Callable[[str], ClientAuthentication]]] = {
    "client_secret_basic": ClientSecretBasic,
    "client_secret_post": ClientSecretPost,
}
_OTHER_METHODS: Final[dict[str, Callable[[], ClientAuthentication]]] = {
    "tls_client_auth": TlsClientAuth,
    "self_signed_tls_client_auth": SelfSignedTlsClientAuth,
    "none": NoClientAuthentication,
}
AUTHENTICATION_METHODS: Final = (
    *_SECRET_METHODS,
    "client_secret_jwt",
    "private_key_jwt",
    *_OTHER_METHODS,
)
"""Values of ``token_endpoint_auth_method`` that a client file can have."""

_Members = Mapping[str, Any]
_Key = TypeVar("_Key", SigningKey, DecryptionKey)


@frozen
class ClientFile:
    """The contents of a client file."""

    config: ClientConfig
    notification_endpoint: str | None
    """URL of the registered ``backchannel_client_notification_endpoint``, in ping and push mode."""
    secrets: frozenset[str] = field(repr=False)
    """The secret values in the file, in each form in which a request can contain them."""


def read_client_file(
    path: str, *, profile: Profile = profiles.GENERIC, first_poll_after: float | None = None
) -> ClientFile:
    """Read the client from a JSON object with the member names of OpenID Connect registration.

    The keys in its ``jwks`` are private ones. Members that are of no use here are ignored. The member
    ``settings`` has everything that is not metadata of a registration.

    Args:
        path: the file.
        profile: of the provider.
        first_poll_after: seconds; ``None`` for what the file or the profile says.

    Raises:
        Unusable: the file cannot be read, or a member is missing or wrong. Nothing secret is in the message.

    """
    try:
        return _client(_members(path), profile, first_poll_after)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise Unusable(f"--client {path}: {problem}")


def _members(path: str) -> _Members:
    members = read_json(Path(path).read_text(encoding="utf-8-sig"))
    if not isinstance(members, dict):
        raise TypeError("not a JSON object")
    return _known(cast("dict[str, Any]", members))


READ: Final = (
    "backchannel_authentication_request_signing_alg",
    "backchannel_client_notification_endpoint",
    "backchannel_token_delivery_mode",
    "client_id",
    "client_secret",
    "dpop_bound_access_tokens",
    "id_token_encrypted_response_alg",
    "id_token_encrypted_response_enc",
    "id_token_signed_response_alg",
    "jwks",
    "settings",
    "subject_type",
    "tls_client_certificate_bound_access_tokens",
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
)
"""The members that count."""
_OF_NO_USE_HERE: Final = frozenset(
    {
        "client_name", "client_secret_expires_at", "client_uri", "introspection_signed_response_alg",
        "jwks_uri", "request_object_signing_alg", "backchannel_user_code_parameter", "client_id_issued_at",
        "userinfo_encrypted_response_alg", "userinfo_encrypted_response_enc", "userinfo_signed_response_alg",
        "authorization_signed_response_alg", "authorization_encrypted_response_alg",
        "authorization_encrypted_response_enc", "introspection_encrypted_response_alg",
        "introspection_encrypted_response_enc", "request_object_encryption_alg",
        "request_object_encryption_enc",
    }
)  # fmt: skip
"""Registered members with names similar to other ones (IANA, OAuth Dynamic Client Registration)."""


def _known(members: dict[str, Any]) -> _Members:
    """Refuse a member that is spelled almost like a known one: it would have no effect."""
    plain = {_plain(name): name for name in READ}
    for name in members.keys() - {*READ} - _OF_NO_USE_HERE:
        near = get_close_matches(_plain(name), plain, 1, cutoff=0.85)
        if near:
            raise ValueError(f"{name}: did you mean {plain[near[0]]}?")
    return members


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "polling": tuple(each.name for each in fields(PollingPolicy)),
    "client_assertion": ("audience", "lifetime", "typ", "backdate"),
    "client_secret_basic": ("raw",),
    "request_object": ("audience", "lifetime", "typ", "backdate"),
    "id_token": tuple(
        each.name
        for each in fields(IdTokenPolicy)
        if not each.name.startswith(("signed_", "encrypted_", "decryption_"))
    ),
    "limits": tuple(each.name for each in fields(Limits)),
    "profile": tuple(
        each.name
        for each in fields(Profile)
        if each.name not in ("name", "polling", "login_hint_formats", "binding_message")
    ),
}
"""The groups in the member ``settings``; the members of a group are the fields of its value."""
PLAIN_SETTINGS: Final = ("headers", "headers_to", "answer_headers", "connect_timeout", "timeout")
"""The members of ``settings`` outside of the groups: fields of `ClientConfig`."""
_AUDIENCES: Final = {each.name.lower(): each for each in Audience}


class _Settings:
    """The member ``settings``: everything that is not in a registration."""

    def __init__(self, members: _Members) -> None:
        settings: Any = members.get("settings", {})
        if not isinstance(settings, dict):
            raise TypeError("settings is not an object")
        self._members = cast("dict[str, Any]", settings)
        self._refuse_others("settings", self._members, (*SETTINGS, *PLAIN_SETTINGS))

    def plain(self) -> dict[str, Any]:
        """Return the arguments of `ClientConfig`."""
        return {name: self._members[name] for name in PLAIN_SETTINGS if name in self._members}

    def group(self, name: str) -> dict[str, Any]:
        """Return the arguments for the value of a group."""
        group: Any = self._members.get(name, {})
        if not isinstance(group, dict):
            raise TypeError(f"settings: {name} is not an object")
        members = cast("dict[str, Any]", group)
        self._refuse_others(f"settings: {name}", members, SETTINGS[name])
        audiences = ("audience", "assertion_audience", "request_audience")
        return {
            member: _audience(value) if member in audiences else value for member, value in members.items()
        }

    def applied(self, name: str, value: Any) -> Any:
        """Return a value with the settings of a group."""
        group = self.group(name)
        try:
            return evolve(value, **group) if group else value
        except (TypeError, ValueError) as error:
            kind, problem = type(error), f"settings: {name}: {error}"
        raise kind(problem)

    @staticmethod
    def _refuse_others(where: str, members: _Members, known: Collection[str]) -> None:
        for name in members:
            if name not in known:
                raise ValueError(f"{where} has no member {name}; known: {', '.join(known)}")


def _audience(value: Any) -> Any:
    """Return the value for an audience: a named one that depends on the provider, or the text as it is."""
    if isinstance(value, list):
        return [_audience(each) for each in cast("list[object]", value)]
    return _AUDIENCES.get(value, value) if isinstance(value, str) else value


def _client(members: _Members, profile: Profile, first_poll_after: float | None) -> ClientFile:
    settings = _Settings(members)
    profile = cast("Profile", settings.applied("profile", profile))
    polling: PollingPolicy = settings.applied("polling", profile.polling)
    if first_poll_after is not None:
        polling = evolve(polling, first_poll_after=first_poll_after)
    authentication = _authentication(members)
    if isinstance(authentication, (PrivateKeyJwt, ClientSecretJwt)):
        authentication = settings.applied("client_assertion", authentication)
    elif settings.group("client_assertion"):
        raise ValueError(f"settings: client_assertion: {authentication.method} has none")
    if isinstance(authentication, ClientSecretBasic):
        authentication = settings.applied("client_secret_basic", authentication)
    elif settings.group("client_secret_basic"):
        raise ValueError(f"settings: client_secret_basic: the method is {authentication.method}")
    request_signing = _request_signing(members)
    if request_signing is not None:
        request_signing = settings.applied("request_object", request_signing)
    elif settings.group("request_object"):
        raise ValueError("settings: request_object: requests are not signed")
    named = _string(members, "backchannel_token_delivery_mode") or "poll"
    mode = _MODES.get(named)
    if mode is None:
        raise ValueError(f"backchannel_token_delivery_mode: {named!r} is none of {', '.join(_MODES)}")
    client_id = _string(members, "client_id")
    if client_id is None:
        raise ValueError("client_id is missing")
    config = _config(
        client_id=client_id,
        authentication=authentication,
        backchannel_token_delivery_mode=mode,
        id_token=settings.applied("id_token", _id_token(members)),
        request_signing=request_signing,
        subject_type=_string(members, "subject_type"),
        limits=settings.applied("limits", Limits()),
        dpop_bound_access_tokens=_dpop(members),
        tls_client_certificate_bound_access_tokens=_flag(
            members, "tls_client_certificate_bound_access_tokens"
        ),
        profile=profile,
        polling=polling,
        **settings.plain(),
    )
    endpoint = None if mode == "poll" else _notification_endpoint(members, mode)
    own: dict[str, str] = settings.plain().get("headers", {})
    return ClientFile(config, endpoint, frozenset((*_secrets(members, client_id), *own.values())))


def _config(**settings: Any) -> ClientConfig:
    try:
        return ClientConfig(**settings)
    except (TypeError, ValueError) as error:
        problem = named(str(error))
    raise ValueError(problem)


_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "k")
"""Members of a private or symmetric key (RFC 7518 6)."""


def _secrets(members: _Members, client_id: str) -> Iterator[str]:
    secret = _string(members, "client_secret")
    if secret is not None:
        encoded = quote_plus(secret)
        yield from (secret, encoded, quote(secret, safe=""))
        yield b64encode(f"{quote_plus(client_id)}:{encoded}".encode()).decode()  # RFC 6749 2.3.1
    for key in _keys(members):
        if isinstance(key, dict):
            values = (key.get(name) for name in _PRIVATE)
            yield from (value for value in values if isinstance(value, str))


def _notification_endpoint(members: _Members, mode: str) -> str:
    name = "backchannel_client_notification_endpoint"
    url = _string(members, name)
    if url is None:
        raise ValueError(f"{name} is missing, which a client in {mode} mode needs")
    parts = urlsplit(url)
    host = parts.hostname
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        raise ValueError(f"{name} is neither an https URL nor, on loopback, an http URL")
    return url


def _authentication(members: _Members) -> ClientAuthentication:
    secret = _string(members, "client_secret")
    method = _string(members, "token_endpoint_auth_method")
    alg = _string(members, "token_endpoint_auth_signing_alg")
    if method is None:
        method = "none" if secret is None else "client_secret_basic"
    if method not in AUTHENTICATION_METHODS:
        supported = ", ".join(AUTHENTICATION_METHODS)
        raise ValueError(f"token_endpoint_auth_method: {method!r} is not supported; supported: {supported}")
    if method in _OTHER_METHODS:
        return _OTHER_METHODS[method]()
    if method == "private_key_jwt":
        return PrivateKeyJwt(_signing_key(members, "token_endpoint_auth_signing_alg", alg))
    if secret is None:
        raise ValueError(f"client_secret is missing, which {method} needs")
    if method in _SECRET_METHODS:
        return _SECRET_METHODS[method](secret)
    if alg is None:
        return ClientSecretJwt(secret)
    if alg not in HMAC_ALGORITHMS:
        raise ValueError(f"token_endpoint_auth_signing_alg: {alg!r} does not go with client_secret_jwt")
    return ClientSecretJwt(secret, alg=alg)


def _request_signing(members: _Members) -> RequestSigning | None:
    name = "backchannel_authentication_request_signing_alg"
    alg = _string(members, name)
    return None if alg is None else RequestSigning(_signing_key(members, name, alg))


_ARGUMENTS: Final = re.compile(r"\b(?:signed|encrypted)_response_(?:alg|enc)\b")


def _id_token(members: _Members) -> IdTokenPolicy:
    encryption = _string(members, "id_token_encrypted_response_alg")
    keys: list[DecryptionKey] = []
    if encryption in KEY_MANAGEMENT_ALGORITHMS and encryption.startswith(("RSA", "ECDH")):
        usable, faults = _usable(members, DecryptionKey.from_jwk)
        keys = [key for key in usable if key.fits(encryption)]
        if not keys:
            raise _no_key(f"id_token_encrypted_response_alg {encryption!r}", faults)
    try:
        return IdTokenPolicy(
            signed_response_alg=_string(members, "id_token_signed_response_alg") or "RS256",
            encrypted_response_alg=encryption,
            encrypted_response_enc=_string(members, "id_token_encrypted_response_enc"),
            decryption_keys=tuple(keys),
        )
    except ValueError as error:
        # These arguments are named as the members without their prefixes.
        problem = _ARGUMENTS.sub(lambda found: f"id_token_{found[0]}", str(error))
    raise ValueError(problem)


# --- keys ------------------------------------------------------------------------------------------------


def _signing_key(members: _Members, member: str, alg: str | None) -> SigningKey:
    """Return the first key for signing with the algorithm; if that is ``None``, with the key's own."""
    found, faults = _usable(members, lambda jwk: SigningKey.from_jwk(jwk, alg=alg))
    if found:
        return found[0]
    wanted = f"{member} {alg!r}" if alg is not None else f"signing; {member} can name the algorithm"
    raise _no_key(wanted, faults)


def _no_key(wanted: str, faults: list[str]) -> ValueError:
    told = "".join(f"; {fault}" for fault in faults)
    return ValueError(f"jwks has no private key for {wanted}{told}")


def _usable(members: _Members, make: Callable[[_Members], _Key]) -> tuple[list[_Key], list[str]]:
    """Return the signing values of the usable keys, and the faults of the others for this purpose.

    Keys for other purposes may be among them (RFC 7517 5), so that a fault counts only where no key fits.
    """
    found: list[_Key] = []
    faults: list[str] = []
    for number, key in enumerate(_keys(members), 1):
        try:
            found.append(make(key))
        except (TypeError, ValueError) as error:
            faults.append(f"key {number}: {error}")
    return found, faults


def _keys(members: _Members) -> list[_Members]:
    jwks: Any = members.get("jwks", {"keys": []})
    keys: Any = cast("_Members", jwks).get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list):
        raise TypeError("jwks is not an object with an array of keys")
    return cast("list[_Members]", keys)


# --- members ---------------------------------------------------------------------------------------------


def _string(members: _Members, name: str) -> str | None:
    value = members.get(name)
    if name in members and not isinstance(value, str):
        raise TypeError(f"{name} is not a string")
    return value


def _dpop(members: _Members) -> bool | Literal["if_supported"]:
    if members.get("dpop_bound_access_tokens") == "if_supported":
        return "if_supported"  # our parameter takes a word; the registered member is true or false
    return _flag(members, "dpop_bound_access_tokens")


def _flag(members: _Members, name: str) -> bool:
    value = members.get(name, False)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is neither true nor false")
    return value
