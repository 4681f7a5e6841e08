"""Translates the core's names of parameters and settings to those of options and the client file."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from ciba_adapters.cli.arguments import is_loopback

__all__ = ["advised", "named"]

_REQUEST_SIGNING_ALG: Final = "backchannel_authentication_request_signing_alg"
_MEMBERS: Final = (
    ("authentication must be signed with", "token_endpoint_auth_signing_alg must be"),
    (r"authentication(?=: .*\(token_endpoint_auth_signing_alg)", "token_endpoint_auth_signing_alg"),
    ("authentication(?=[: ])", "token_endpoint_auth_method"),
    ("request_signing must be signed with", f"{_REQUEST_SIGNING_ALG} must be"),
    ("request_signing(?=[: ])", _REQUEST_SIGNING_ALG),
    ("id_token must be signed with", "id_token_signed_response_alg must be"),
    (
        "id_token: its algorithms need a client secret, and there is none",
        "client_secret is missing, which the algorithms that are registered for ID Tokens need",
    ),
    ("id_token(?=[: ])", "id_token_signed_response_alg"),
    ("issuer(?=[: ])", "--issuer"),
    ("metadata_url(?=[: ])", "--metadata-url"),
    ("extra(?=[: ])", "--param"),
    ("token_parameters(?=[: ])", "--token-param"),
)
"""Beginnings of the core's messages, and the beginnings to show instead."""
_OPTIONS: Final = re.compile(
    # A message about a name in --param is not about the option of that name.
    r"(?<!contain )\b(?:scope|login_hint|login_hint_token|id_token_hint|binding_message|acr_values|user_code|"
    r"requested_expiry|expected_subject)\b"
)
_PARAMETERS: Final = re.compile(r"(?<!contain )\b(?:resource|authorization_details|claims)\b")


def named(problem: str) -> str:
    """Return the core's message about a client or a request, with the names that the user knows."""
    for beginning, here in _MEMBERS:
        problem, found = re.subn(f"^{beginning}", here, problem)
        if found:
            break
    problem = _OPTIONS.sub(lambda found: f"--{found[0].replace('_', '-')}", problem)
    return _PARAMETERS.sub(lambda found: f"--param {found[0]}", problem)


def advised(problem: str, *urls: object, allow_loopback_http: bool) -> str:
    """Name the option that permits plain http in a message about a URL of this machine."""
    if allow_loopback_http or "must use https" not in problem or not any(map(_is_local, urls)):
        return problem
    return f"{problem}; for a provider on this machine give --allow-loopback-http"


def _is_local(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return False
    return parts is not None and parts.scheme == "http" and is_loopback(parts.hostname or "")
