"""Hints that say which user is meant (CIBA Core 7.1), built so that nothing can be smuggled into them.

A provider parses a hint; whoever chooses part of one, a telephone number or a user name, must not be able to
change the rest. So each kind of hint has a function that checks its parts and returns the finished `Secret`::

    AuthenticationRequest(scope="openid", login_hint=hints.phone("+491701234567"))

Which kinds a provider takes is its own matter; profiles say what is known. None of the checks changes a
value: what is not in the right form is refused.

Tokens as hints: `LoginHintSigning` makes a ``login_hint_token`` in the client's own name, and `id_token_hint`
takes the ID Token of earlier tokens.
"""

from ciba_core.client.hints import (
    HintFormat,
    LoginHintSigning,
    SubjectIdentifier,
    email,
    has_format,
    id_token_hint,
    ip_port,
    iss_sub,
    json_object,
    operator_token,
    phone,
    plain,
)

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
