"""The commands and their options."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import click
from attrs import evolve
from rich.console import Console

from ciba_adapters.cli.arguments import (
    header_fields,
    issuer_url,
    request_parameters,
    seconds,
    token_parameters,
)
from ciba_adapters.cli.client_file import (
    AUTHENTICATION_METHODS,
    DELIVERY_MODES,
    PROFILES,
    SETTINGS,
    ClientFile,
    read_client_file,
)
from ciba_adapters.cli.demo import LOGIN_HINT, demonstrate
from ciba_adapters.cli.display import Display
from ciba_adapters.cli.group import complain, interrupted
from ciba_adapters.cli.key_report import key_findings
from ciba_adapters.cli.listening import Listening
from ciba_adapters.cli.login import authenticate
from ciba_adapters.cli.masking import Masking
from ciba_adapters.cli.metadata_report import findings, print_report, usable
from ciba_adapters.cli.naming import advised, named
from ciba_adapters.cli.outcome import CANCELLED, Result
from ciba_adapters.cli.stacks import ADAPTERS, Job, Network, fetch_metadata
from ciba_adapters.cli.text import Unusable, is_terminal
from ciba_adapters.cli.work import work_command
from ciba_core import AuthenticationRequest, Secret
from ciba_core.client.config import DeliveryMode
from ciba_core.errors import CibaError, LocalProtocolError
from ciba_core.notification import NotificationRejected

__all__ = ["COMMANDS"]

_WIDE: Final = 160  # columns


_Command = Callable[..., int]

_metadata_url = click.option(
    "--metadata-url", metavar="URL", help="Where the metadata lies; its issuer has to be the same."
)
_expected_issuer = click.option(
    "--expected-issuer", metavar="TEXT", help="The exact iss of ID Tokens, if it is not the issuer."
)


def _network_options(command: _Command) -> _Command:
    for option in (
        click.option("--cacert", metavar="FILE", help="PEM file with the certificate authorities to trust."),
        click.option(
            "--allow-loopback-http",
            is_flag=True,
            help="Accept plain http for 127.0.0.1, ::1 and localhost.",
        ),
    ):
        command = option(command)
    return command


@click.command("demo")
@click.option("--approve", is_flag=True, help="The user approves without being asked.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the phone's page; a free one by default.",
)
@click.option(
    "--mode",
    type=click.Choice(DELIVERY_MODES),
    default="poll",
    show_default=True,
    help="How the result comes to the client: it asks, is called to ask, or is told.",
)
@click.option("--allow-loopback-http", is_flag=True, help="Does nothing: the demo is on loopback anyway.")
def _demo(*, approve: bool, port: int, mode: DeliveryMode, allow_loopback_http: bool) -> int:  # noqa: ARG001  # as on the others
    """Watch an authentication against a provider that this command runs on a loopback port.

    Decide on the page that plays the user's phone, or by the keys a and d. Without a terminal the user
    approves by itself: after two polls or, in ping and push mode, after three seconds.
    """
    interactive = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    by_itself = approve or not interactive
    result = demonstrate(Console(stderr=True), by_itself=by_itself, mode=mode, port=port)
    return _finish(result, hint=LOGIN_HINT)


_SETTINGS_HELP: Final = "\n".join(
    textwrap.fill(", ".join(names), 58, initial_indent=f"  {group}: ", subsequent_indent="    ")
    for group, names in SETTINGS.items()
)
_METHODS: Final = "\n    ".join(AUTHENTICATION_METHODS)

_LOGIN_HELP: Final = f"""Authenticate a user at a provider.

Progress goes to standard error, the result to standard output. Tokens are handed out only after the ID Token
was validated; its claims are in the result.

These members of the client file count:

\b
  client_id
  client_secret
  jwks: the private keys of the client, as a JWK Set
  token_endpoint_auth_method: one of
    {_METHODS}
  token_endpoint_auth_signing_alg
  backchannel_token_delivery_mode: {", ".join(DELIVERY_MODES)}
  backchannel_client_notification_endpoint
  backchannel_authentication_request_signing_alg
  id_token_signed_response_alg: RS256 by default
  id_token_encrypted_response_alg
  id_token_encrypted_response_enc
  dpop_bound_access_tokens
  tls_client_certificate_bound_access_tokens
  subject_type: public or pairwise
  settings: an object; what is no metadata
    of a registration

These settings can be given, each with the name that it has in the library; an audience is issuer,
token_endpoint, called_endpoint, any other text, or an array:

\b
  headers, headers_to, answer_headers,
  connect_timeout, timeout
{_SETTINGS_HELP}

Keys are chosen by their kty, crv, use, key_ops and alg; of several that fit, the first signs. The methods
with tls in their names, and tokens that are bound to a certificate, need --cert.

--profile is one of {", ".join(PROFILES)}. It says how requests are
written, which audiences the client signs for, and how it polls; what it rules out is told before anything is
sent.

In ping and push mode the provider calls back, so --listen is needed; callbacks are taken at the path of
backchannel_client_notification_endpoint. A HOST that is not on loopback needs --listen-cert.
"""


@click.command("login", help=_LOGIN_HELP)
@click.option("--issuer", required=True, metavar="URL", callback=issuer_url, help="The provider.")
@_metadata_url
@_expected_issuer
@click.option(
    "--client", "client_file", required=True, metavar="FILE",
    help="JSON object with the member names of OpenID Connect registration; see above.",
)  # fmt: skip
@click.option(
    "--profile",
    type=click.Choice(tuple(PROFILES), case_sensitive=False),
    metavar="NAME",
    default="generic",
    show_default=True,
    help="What the provider asks for beyond the standard, or a profile of the standard.",
)
@click.option("--cert", metavar="FILE", help="PEM file with the client's certificate, for mutual TLS.")
@click.option("--key", metavar="FILE", help="PEM file with the key of --cert, if it is not in there.")
@click.option("--listen", metavar="HOST:PORT", help="Where to take callbacks, in ping and push mode.")
@click.option("--listen-cert", metavar="FILE", help="PEM file with the certificate to listen with.")
@click.option("--listen-key", metavar="FILE", help="PEM file with the key of --listen-cert, if not in there.")
@click.option("--login-hint", metavar="HINT", help="Whom to ask: an email address, a number, an account.")
@click.option("--login-hint-token", metavar="TOKEN", help="... or a token that names the user.")
@click.option("--id-token-hint", metavar="TOKEN", help="... or an ID Token issued before.")
@click.option(
    "--scope", metavar="VALUES", help="Space-separated scope values; openid, or what the profile says."
)
@click.option("--binding-message", metavar="TEXT", help="Short text to show on both devices.")
@click.option("--acr-values", metavar="VALUES", help="Space-separated authentication context classes.")
@click.option("--user-code", metavar="CODE", help="The user's code; - asks for it without showing it.")
@click.option("--requested-expiry", type=int, metavar="SEC", help="How long the request should be valid.")
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE",
    help="A further parameter; can be repeated. A value that begins with { or [ is JSON.",
)  # fmt: skip
@click.option(
    "--token-param", "token_params", multiple=True, metavar="NAME=VALUE",
    help="A parameter of the token requests; as --param.",
)  # fmt: skip
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE",
    help="A header field of each request; can be repeated. Those of the client stand in the client file.",
)  # fmt: skip
@click.option("--expected-subject", metavar="SUB", help="Refuse tokens about another user than this one.")
@click.option(
    "--adapter", type=click.Choice(ADAPTERS), default="httpx", show_default=True, help="HTTP stack."
)
@click.option("--timeout", type=float, callback=seconds, metavar="SEC", help="Give up after that time.")
@click.option(
    "--first-poll-after",
    type=float,
    callback=seconds,
    metavar="SEC",
    help="Wait before the first poll; one interval by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to standard output.")
@click.option("--show-tokens", is_flag=True, help="Do not mask the tokens.")
@_network_options
def _login(
    *,
    issuer: str,
    metadata_url: str | None,
    expected_issuer: str | None,
    client_file: str,
    profile: str,
    user_code: str | None,
    params: tuple[str, ...],
    token_params: tuple[str, ...],
    headers: tuple[str, ...],
    adapter: str,
    timeout: float | None,
    first_poll_after: float | None,
    as_json: bool,
    show_tokens: bool,
    cert: str | None,
    key: str | None,
    listen: str | None,
    listen_cert: str | None,
    listen_key: str | None,
    cacert: str | None,
    allow_loopback_http: bool,
    **request: Any,
) -> int:
    client = read_client_file(client_file, profile=PROFILES[profile], first_poll_after=first_poll_after)
    if client.config.mutual_tls and cert is None:
        raise Unusable(f"--cert is missing, which a client of --client {client_file} needs: mutual TLS")
    parameters = request_parameters(params)
    try:
        wanted = AuthenticationRequest(
            user_code=_user_code(user_code),
            token_parameters=token_parameters(token_params),
            headers=header_fields(headers),
            **request,
            **parameters,
        )
    except (TypeError, ValueError) as error:
        raise Unusable(named(str(error))) from None
    masking = Masking(client.secrets | frozenset(_hidden(wanted)))
    network = Network(ca_file=cacert, cert_file=cert, key_file=key, allow_loopback_http=allow_loopback_http)
    listening = _listening(client, listen, listen_cert, listen_key)
    job = Job(
        issuer,
        client.config,
        wanted,
        network,
        timeout,
        metadata_url=metadata_url,
        expected_issuer=expected_issuer,
    )
    if as_json:
        with _receiving(listening, job, lambda _event: None) as job:
            result = authenticate(adapter, job, lambda _step: None, masking)
        click.echo(result.to_json(show_tokens=show_tokens))
        return result.exit_status
    display = Display(
        Console(stderr=True),
        title="ciba login",
        facts=[("Provider", issuer), ("Binding message", wanted.binding_message)],
        masking=masking,
    )
    with display, _receiving(listening, job, display.show_event) as job:
        result = authenticate(adapter, job, display.show, masking)
    return _finish(result, show_tokens=show_tokens)


def _hidden(request: AuthenticationRequest) -> Iterator[str]:
    secrets = (request.login_hint_token, request.id_token_hint, request.user_code, *request.headers.values())
    for secret in secrets:
        if isinstance(secret, Secret):
            yield secret.reveal()


@contextlib.contextmanager
def _receiving(
    listening: Listening | None, job: Job, warn: Callable[[NotificationRejected], object]
) -> Generator[Job]:
    if listening is None:
        yield job
        return
    with listening.open(warn) as (endpoint, _):
        yield evolve(job, endpoint=endpoint)


def _listening(
    client: ClientFile, listen: str | None, listen_cert: str | None, listen_key: str | None
) -> Listening | None:
    url, mode = client.notification_endpoint, client.config.backchannel_token_delivery_mode
    if url is None:
        if listen is not None:
            raise Unusable("--listen: a client in poll mode is not called back")
        return None
    if listen is None:
        raise Unusable(f"--listen is missing, which a client in {mode} mode needs")
    return Listening.at(listen, url, listen_cert, listen_key)


def _user_code(given: str | None) -> str | None:
    if given != "-":
        return given
    if not is_terminal(sys.stdin):
        return sys.stdin.readline().rstrip("\r\n")
    code: str = click.prompt("User code", hide_input=True, err=True)
    return code


def _finish(result: Result, *, show_tokens: bool = False, hint: str | None = None) -> int:
    if result.error == CANCELLED:
        return interrupted()
    result.print(Console(), show_tokens=show_tokens, hint=hint)
    return result.exit_status


@click.command("discover")
@click.argument("issuer", metavar="URL", callback=issuer_url)
@_metadata_url
@click.option("--json", "as_json", is_flag=True, help="Write the document as it is.")
@_network_options
def _discover(
    *,
    issuer: str,
    metadata_url: str | None,
    as_json: bool,
    cacert: str | None,
    allow_loopback_http: bool,
) -> int:
    """Show a provider's metadata, and what a CIBA client would miss in it.

    The provider's keys are fetched and judged too: what is wrong with them ends a login only after the user
    has approved.

    URL is the issuer. Exit status: 0 a CIBA client can work with the provider; 1 it cannot, or the document
    could not be had; 2 wrong usage.
    """
    try:
        network = Network(cacert, allow_loopback_http=allow_loopback_http)
        document, keys = fetch_metadata(issuer, network, metadata_url)
    except LocalProtocolError as error:
        problem = str(error).replace("metadata_url", "--metadata-url")
        raise Unusable(
            advised(problem, issuer, metadata_url, allow_loopback_http=allow_loopback_http)
        ) from None
    except CibaError as error:
        complain("ciba discover", str(error))
        return 1
    found = findings(document.members, allow_loopback_http=allow_loopback_http)
    if usable(found):
        found = sorted([*found, *key_findings(document.members, keys)], key=lambda each: each.severity)
    if as_json:
        click.echo(json.dumps(document.members, default=dict, indent=2))
    else:
        # Do not fold output for a program or a pager to the width of a narrow terminal.
        console = Console() if is_terminal(sys.stdout) else Console(width=_WIDE)
        print_report(console, document.members, found)
    return 0 if usable(found) else 1


COMMANDS: Final[dict[str, click.Command]] = {
    "demo": _demo,
    "discover": _discover,
    "login": _login,
    "work": work_command,
}
"""Those of `ciba_adapters.cli.group`, by name."""
