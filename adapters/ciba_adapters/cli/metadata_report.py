"""The faults of a provider's metadata for a CIBA client, and the document as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

from attrs import frozen
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ciba_adapters.cli.client_file import AUTHENTICATION_METHODS, DELIVERY_MODES
from ciba_adapters.cli.naming import advised
from ciba_adapters.cli.text import printable
from ciba_adapters.cli.wrapping import print_hanging
from ciba_core import ProviderMetadata
from ciba_core.errors import RemoteProtocolError
from ciba_core.jose.algorithms import SIGNATURE_ALGORITHMS
from ciba_core.provider.terms import CIBA

__all__ = ["Finding", "findings", "print_report", "usable"]

Severity = Literal["error", "warning"]

_RELEVANT: Final = (
    "issuer",
    "backchannel_authentication_endpoint",
    "token_endpoint",
    "jwks_uri",
    "backchannel_token_delivery_modes_supported",
    "backchannel_user_code_parameter_supported",
    "backchannel_authentication_request_signing_alg_values_supported",
    "grant_types_supported",
    "token_endpoint_auth_methods_supported",
    "token_endpoint_auth_signing_alg_values_supported",
    "id_token_signing_alg_values_supported",
    "dpop_signing_alg_values_supported",
    "mtls_endpoint_aliases",
    "scopes_supported",
    "acr_values_supported",
    "claims_parameter_supported",
    "authorization_details_types_supported",
)
"""Members that a CIBA client looks at, the most important ones first."""


@frozen
class Finding:
    """Something that a CIBA client misses. With an ``error`` the client cannot work at all."""

    severity: Severity
    member: str
    message: str


def findings(document: Mapping[str, Any], *, allow_loopback_http: bool = False) -> list[Finding]:
    """Return the faults of a metadata document for a CIBA client, errors first."""
    found = [*_errors(document)]
    if not found:
        # Other faults that the core does not accept: wrong types, endpoints without https.
        try:
            ProviderMetadata.from_document(document, allow_loopback_http=allow_loopback_http)
        except RemoteProtocolError as error:
            message = str(error.args[0])
            member, _, rest = message.partition(" ")
            url = document.get(member)
            found.append(
                Finding("error", member, advised(rest, url, allow_loopback_http=allow_loopback_http))
            )
    return [*found, *_warnings(document)]


def usable(found: Sequence[Finding]) -> bool:
    """Tell whether a CIBA client can work with such a provider."""
    return all(finding.severity != "error" for finding in found)


def _strings(document: Mapping[str, Any], member: str) -> list[str] | None:
    """Return a member that is an array of strings; ``None`` if it is missing or of another type."""
    value = document.get(member)
    if not isinstance(value, (list, tuple)):
        return None
    items = cast("Sequence[object]", value)
    return [item for item in items if isinstance(item, str)]


def _errors(document: Mapping[str, Any]) -> Iterator[Finding]:
    if document.get("backchannel_authentication_endpoint") is None:
        member = "backchannel_authentication_endpoint"
        yield Finding("error", member, "is missing: the provider does not offer CIBA (CIBA Core 4)")
    if document.get("token_endpoint") is None:
        yield Finding("error", "token_endpoint", "is missing (RFC 8414 2)")
    modes = _strings(document, "backchannel_token_delivery_modes_supported")
    if modes is not None and not set(modes) & set(DELIVERY_MODES):
        member = "backchannel_token_delivery_modes_supported"
        yield Finding("error", member, f"has none of {', '.join(DELIVERY_MODES)} (CIBA Core 4)")
    methods = _strings(document, "token_endpoint_auth_methods_supported")
    if methods is not None and not set(methods) & set(AUTHENTICATION_METHODS):
        supported = ", ".join(AUTHENTICATION_METHODS)
        member = "token_endpoint_auth_methods_supported"
        yield Finding("error", member, f"has none of those that this version supports: {supported}")


def _warnings(document: Mapping[str, Any]) -> Iterator[Finding]:
    if document.get("backchannel_token_delivery_modes_supported") is None:
        member = "backchannel_token_delivery_modes_supported"
        yield Finding("warning", member, "is missing, though it is required (CIBA Core 4); poll is tried")
    if CIBA.grant_type not in (_strings(document, "grant_types_supported") or ()):
        yield Finding("warning", "grant_types_supported", f"does not name {CIBA.grant_type} (CIBA Core 4)")
    if document.get("jwks_uri") is None:
        yield Finding("warning", "jwks_uri", "is missing: no ID Token but one with HS* can be validated")
    algorithms = _strings(document, "id_token_signing_alg_values_supported")
    if algorithms is not None and not set(algorithms) & set(SIGNATURE_ALGORITHMS):
        member, supported = "id_token_signing_alg_values_supported", ", ".join(SIGNATURE_ALGORITHMS)
        yield Finding("warning", member, f"has none of those that ID Tokens are validated with: {supported}")
    scopes = _strings(document, "scopes_supported")
    if scopes is not None and "openid" not in scopes:
        yield Finding("warning", "scopes_supported", "has no openid, which CIBA requests ask for")


def print_report(console: Console, document: Mapping[str, Any], found: Sequence[Finding]) -> None:
    """Write the document and the findings for people."""
    table = Table(
        title=Text(printable(str(document["issuer"]))), title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD, header_style="bold", border_style="dim",
    )  # fmt: skip
    # Wide enough for all names but the longest; the rest of a narrow terminal is for the values.
    longest = max(len(printable(name)) for name in document)
    table.add_column("Member", overflow="fold", width=min(longest, max(42, console.width // 2)))
    table.add_column("Value", overflow="fold")
    relevant = [name for name in _RELEVANT if name in document]
    for name in relevant:
        table.add_row(Text(name, "cyan"), _cell(document[name], "\n"), end_section=name == relevant[-1])
    for name in sorted(document.keys() - set(_RELEVANT)):
        table.add_row(Text(printable(name), "dim"), _cell(document[name], ", "))
    console.print(table)
    for finding in found:
        style = "bold red" if finding.severity == "error" else "yellow"
        told = Text(printable(f"{finding.member} {finding.message}"))
        print_hanging(console, Text(f"{finding.severity:<8}", style), told)
    verdict = (
        Text("✓ a CIBA client can work with this provider", "bold green")
        if usable(found)
        else Text("✗ a CIBA client cannot work with this provider", "bold red")
    )
    console.print(verdict, soft_wrap=True)


def _cell(value: Any, separator: str) -> Text:
    if isinstance(value, (list, tuple)) and all(
        isinstance(item, str) for item in cast("list[object]", value)
    ):
        return Text(separator.join(printable(item) for item in cast("list[str]", value)))
    return Text(printable(value if isinstance(value, str) else json.dumps(value, default=dict)))
