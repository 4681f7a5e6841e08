from __future__ import annotations

import io
import json
import signal
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import trustme

from ciba_adapters.cli.stacks import ADAPTERS
from ciba_core.testing import Answer, LoopbackServer, Reply

from .conftest import COMMAND, SECRET, Terminal, World, always, simulated_provider

MEMBERS = [
    "outcome",
    "error",
    "error_description",
    "token_response",
    "id_token_claims",
    "polls",
    "elapsed",
    "course",
    "acknowledgement_extra",
]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_brings_tokens_and_trusts_a_private_authority(
    adapter: str, world: World, tmp_path: Path
) -> None:
    """`--adapter` reaches each HTTP stack and `--cacert` the TLS settings of each."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    with LoopbackServer(ssl_context=context) as server:
        provider = simulated_provider(server.url)
        server.handler = provider.handle
        arguments = ("--adapter", adapter, "--cacert", str(tmp_path / "ca.pem"), "--json")
        ran = world.login("alice", *arguments, issuer=server.url)
        untrusted = world.login("alice", "--adapter", adapter, "--json", issuer=server.url)
    assert (ran.status, ran.err, ran.json["outcome"]) == (0, "", "authenticated")
    assert (untrusted.status, untrusted.json["outcome"]) == (1, "failed")


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_reports_a_denial(adapter: str, world: World) -> None:
    """An outcome without tokens comes through each HTTP stack."""
    assert world.login("dora", "--adapter", adapter, "--json").status == 3


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_gives_up_in_time(adapter: str, world: World) -> None:
    """`--timeout` ends a sync and an async wait alike: failed, with the error "timeout"."""
    ran = world.login("ian", "--adapter", adapter, "--timeout", "0.3", "--json")
    assert ran.status == 1
    assert (ran.json["outcome"], ran.json["error"]) == ("failed", "timeout")
    assert ran.json["elapsed"] < 1


@pytest.mark.parametrize("adapter", ["requests", "httpx-async"])
def test_timeout_covers_discovery(adapter: str, world: World) -> None:
    """A provider that never answers its metadata request does not hold the command up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        issuer = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ran = world.login("alice", "--adapter", adapter, "--timeout", "0.2", "--json", issuer=issuer)
    assert (ran.status, ran.json["error"], ran.json["polls"]) == (1, "timeout", 0)


def _approve(world: World) -> None:
    pass


def _expire(world: World) -> None:
    world.token_error("expired_token")


def _revoke(world: World) -> None:
    world.token_error("invalid_grant")


OUTCOMES: list[Any] = [
    pytest.param("alice", _approve, 0, "authenticated", None, id="approved"),
    pytest.param("dora", _approve, 3, "denied", "access_denied", id="denied"),
    pytest.param("ian", _expire, 4, "expired", "expired_token", id="expired"),
    pytest.param("nobody", _approve, 5, "refused", "unknown_user_id", id="unknown user"),
    pytest.param("rick", _approve, 5, "refused", "access_denied", id="refused without asking"),
    pytest.param("alice", _revoke, 1, "failed", "invalid_grant", id="failed"),
]


@pytest.mark.parametrize(("hint", "prepare", "status", "outcome", "error"), OUTCOMES)
def test_json_and_exit_status_of_every_outcome(  # noqa: PLR0917  # what pytest fills in
    hint: str, prepare: Callable[[World], None], status: int, outcome: str, error: str | None, world: World
) -> None:
    """Each outcome has its exit status and exactly one JSON object, with the same members."""
    prepare(world)
    ran = world.login(hint, "--json")
    assert (ran.status, ran.err) == (status, "")
    assert list(ran.json) == MEMBERS
    assert (ran.json["outcome"], ran.json["error"]) == (outcome, error)
    for member in ("token_response", "id_token_claims"):
        assert (ran.json[member] is None) == (outcome != "authenticated")
    assert ran.json["polls"] == (0 if outcome == "refused" else 1)
    assert isinstance(ran.json["elapsed"], float)
    uneventful: dict[str, Any] = {"faults": 0, "last_polls": [], "push_rejected": None}
    assert ran.json["course"] == (uneventful if outcome == "expired" else None)


@pytest.mark.parametrize(("hint", "prepare", "status", "outcome", "error"), OUTCOMES)
def test_readable_result_of_every_outcome(  # noqa: PLR0917  # what pytest fills in
    hint: str, prepare: Callable[[World], None], status: int, outcome: str, error: str | None, world: World
) -> None:
    """Without a terminal there is no escape sequence: progress on standard error, the result on output."""
    prepare(world)
    ran = world.login(hint, "--binding-message", "W4SCT")
    assert ran.status == status
    assert "\x1b" not in ran.out + ran.err
    assert ran.out.splitlines()[0].split() == ["✓" if status == 0 else "✗", outcome]
    assert error is None or error in ran.out
    assert ("user           alice" in ran.out) == (status == 0)
    assert "binding message: W4SCT" in ran.err
    assert "authentication request sent" in ran.err


TOKENS = {
    "access_token": "A" * 600,
    "token_type": "Bearer",
    "expires_in": 300,
    "refresh_token": "refresh-me",
    "scope": "openid email",
    "authorization_details": [{"type": "payment"}],
    "vendor_key": {"deep": "vendor-secret"},
}
JSON = (("Content-Type", "application/json"),)


def tokens_of(world: World) -> dict[str, Any]:
    """Return a token response with members of every kind and a valid ID Token, which the next poll meets."""
    real = world.login("alice", "--json", "--show-tokens").json["token_response"]
    tokens = TOKENS | {"id_token": real["id_token"]}
    world.provider.inject("token", Answer(200, json.dumps(tokens).encode(), JSON))
    return tokens


def test_tokens_are_masked_unless_wanted(world: World) -> None:
    """Tokens and unknown members show as *** in both forms of output; the rest as the provider sent it."""
    masked = dict.fromkeys(("access_token", "refresh_token", "id_token", "vendor_key"), "***")
    for arguments in (("--json",), ()):
        tokens = tokens_of(world)
        ran = world.login("alice", *arguments)
        assert ran.status == 0
        for secret in ("AAAA", "refresh-me", tokens["id_token"], "vendor-secret", SECRET):
            assert secret not in ran.out + ran.err
        if arguments:
            assert ran.json["token_response"] == tokens | masked
            assert ran.json["id_token_claims"]["sub"] == "alice"


def test_show_tokens(world: World) -> None:
    """With `--show-tokens` they come out whole, and in one line however long."""
    for arguments in (("--json",), ()):
        tokens = tokens_of(world)
        ran = world.login("alice", "--show-tokens", *arguments)
        for secret in ("A" * 600, "vendor-secret", tokens["id_token"]):
            assert secret in ran.out
        if arguments:
            assert ran.json["token_response"] == tokens


def test_provider_text_is_shown_and_not_obeyed(world: World) -> None:
    """Escape sequences, line breaks, overrides and rich markup of a provider reach no terminal."""
    world.token_error(
        "invalid_grant", "[bold red]x[/] [link=https://evil.example]y\x1b[2J\r\n\u202e:warning:"
    )
    ran = world.login("alice")
    assert ran.status == 1
    assert r"[bold red]x[/] [link=https://evil.example]y\x1b[2J\r\n\u202e:warning:" in ran.out
    assert "\x1b" not in ran.out + ran.err


def test_secrets_that_the_provider_repeats_are_masked(world: World) -> None:
    """What the client sent stays secret, though an error_description may hold all of it."""
    basic = b64encode(f"s6BhdRkqt3:{quote_plus(SECRET)}".encode()).decode()
    for arguments in ((), ("--json",)):
        world.token_error("invalid_grant", f"Basic {basic} and {SECRET} and {quote_plus(SECRET)}, no")
        ran = world.login("alice", *arguments)
        assert ran.status == 1
        assert "Basic *** and *** and ***, no" in ran.out
        for secret in (SECRET, quote_plus(SECRET), basic):
            assert secret not in ran.out + ran.err


def test_hints_that_the_provider_repeats_are_masked(world: World) -> None:
    """Tokens that name the user, and the user's code, are secrets of the client's side, too."""
    arguments = ("--issuer", world.provider.issuer, "--client", world.client, "--allow-loopback-http")
    world.token_error("invalid_grant", "no coded and no 4711, but 47110")
    ran = world.run(
        *("login", *arguments, "--id-token-hint", "coded", "--user-code", "4711"),
        *("--first-poll-after", "0", "--json"),
    )
    assert ran.json["error_description"] == "no *** and no ***, but 47110"


def test_tokens_that_the_provider_repeats_are_masked(world: World) -> None:
    """A token is masked wherever it stands in the answer, unless tokens are wanted."""
    for arguments in ((), ("--json",)):
        for show in ((), ("--show-tokens",)):
            real = world.login("alice", "--json", "--show-tokens").json["token_response"]
            tokens = TOKENS | {"id_token": real["id_token"], "scope": "openid refresh-me"}
            world.provider.inject("token", Answer(200, json.dumps(tokens).encode(), JSON))
            ran = world.login("alice", *arguments, *show)
            assert ran.status == 0
            assert ("openid refresh-me" in ran.out, "openid ***" in ran.out) == (bool(show), not show)


def test_json_of_provider_text_is_ascii(world: World) -> None:
    """A JSON result is safe to show, too, and reads back as what the provider wrote."""
    world.token_error("invalid_grant", "\x1b[2J\u202e\u009b")
    ran = world.login("alice", "--json")
    assert ran.out.isascii()
    assert "\x1b" not in ran.out
    assert ran.json["error_description"] == "\x1b[2J\u202e\u009b"


def test_parameters_reach_the_provider(world: World) -> None:
    """Every option is sent under its name in CIBA Core 7.1; `--param` carries JSON, resources and extensions."""
    bodies: list[str] = []
    provider = world.provider

    def record(method: str, target: str, headers: Any, body: bytes) -> Any:
        bodies.append(body.decode())
        return provider.handle(method, target, headers, body)

    with LoopbackServer(record) as server:
        provider = simulated_provider(server.url)
        ran = world.login(
            "alice",
            *("--scope", "openid email", "--binding-message", "W4 SCT", "--acr-values", "1 2"),
            *("--requested-expiry", "60", "--param", "resource=https://a.example", "--param", "empty=1=2"),
            *("--param", "resource=https://b.example", "--param", 'authorization_details=[{"type":"pay"}]'),
            *("--param", 'claims={"id_token":{"email":null}}', "--param", 'custom={"a":[1]}'),
            issuer=server.url,
        )
    assert ran.status == 0
    assert bodies[1].split("&") == [
        "scope=openid+email",
        "acr_values=1+2",
        "binding_message=W4+SCT",
        "login_hint=alice",
        "requested_expiry=60",
        "resource=https%3A%2F%2Fa.example",
        "resource=https%3A%2F%2Fb.example",
        "authorization_details=%5B%7B%22type%22%3A%22pay%22%7D%5D",
        "claims=%7B%22id_token%22%3A%7B%22email%22%3Anull%7D%7D",
        "empty=1%3D2",
        "custom=%7B%22a%22%3A%5B1%5D%7D",
    ]


@pytest.mark.parametrize("option", ["--login-hint-token", "--id-token-hint"])
def test_other_hints(option: str, world: World) -> None:
    """The two hints that are tokens name the user as well."""
    arguments = ("--issuer", world.provider.issuer, "--client", world.client, "--allow-loopback-http")
    ran = world.run("login", *arguments, option, "alice", "--first-poll-after", "0", "--json")
    assert ran.json["outcome"] == "authenticated"


def test_user_code_from_standard_input(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--user-code -` keeps the code out of the list of processes (CIBA Core 7.1.2)."""
    assert world.login("coded", "--json").json["error"] == "missing_user_code"
    monkeypatch.setattr(sys, "stdin", io.StringIO("4711\n"))
    assert world.login("coded", "--user-code", "-", "--json").json["outcome"] == "authenticated"


def test_user_code_from_a_terminal(world: World) -> None:
    """On a terminal `--user-code -` asks for the code and does not echo it."""
    arguments = ("--issuer", world.provider.issuer, "--client", world.client, "--allow-loopback-http")
    terminal = Terminal(
        *(*COMMAND, "login", *arguments, "--login-hint", "coded"),
        "--user-code",
        "-",
        "--first-poll-after",
        "0",
    )
    terminal.read_until("User code: ")
    terminal.press(b"4711\n")
    assert terminal.wait() == 0
    assert "authenticated" in terminal.output
    assert "4711" not in terminal.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"client_id": "a", "client_id": "b"}', "'client_id' is there twice"),
        ('{"client_id": NaN}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "client_id is missing"),
        ('{"client_id": 5}', "client_id is not a string"),
        ('{"client_id": null}', "client_id is not a string"),
        ('{"client_id": ""}', "client_id must not be empty"),
        ('{"client_id": "a", "client_secret": ["hush"]}', "client_secret is not a string"),
        ('{"client_id": "a", "client_secret": "hush\\u0000"}', "client_secret must not contain control"),
        (
            '{"client_id": "a", "token_endpoint_auth_method": "client_secret_post"}',
            "client_secret is missing",
        ),
        (
            '{"client_id": "a", "token_endpoint_auth_method": "attest_jwt_client_auth"}',
            "token_endpoint_auth_method: 'attest_jwt_client_auth' is not supported",
        ),
        (
            '{"client_id": "a", "backchannel_token_delivery_mode": "pull"}',
            "backchannel_token_delivery_mode: 'pull' is none of poll, ping, push",
        ),
        ('{"client_id": "a", "client_secret": "hush" "x"}', "not JSON: Expecting ',' delimiter"),
    ],
)
def test_bad_client_file(content: str, message: str, world: World, tmp_path: Path) -> None:
    """A client file that is wrong is one line that names the member and never shows the secret; exit 2."""
    path = tmp_path / "bad.json"
    path.write_text(content)
    ran = world.login("alice", client=str(path))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert "hush" not in ran.err
    assert world.provider.journal == ()


@pytest.mark.parametrize("kind", ["missing", "directory", "binary"])
def test_unreadable_client_file(kind: str, world: World, tmp_path: Path) -> None:
    """A file that cannot be read is one line and exit 2."""
    path = tmp_path if kind == "directory" else tmp_path / "file"
    if kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    ran = world.login("alice", client=str(path))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"ciba: --client {path}: ")


@pytest.mark.parametrize(
    ("method", "registered"),
    [("client_secret_post", {"client_secret": "s"}), ("none", {}), (None, {})],
    ids=["post", "none", "default without a secret"],
)
def test_client_authentication_methods(
    method: str | None, registered: dict[str, str], world: World, tmp_path: Path
) -> None:
    """`token_endpoint_auth_method` decides how the client authenticates; its default follows the secret."""
    path = tmp_path / "client.json"
    path.write_text(
        json.dumps(
            {"client_id": "c", **registered, **({"token_endpoint_auth_method": method} if method else {})}
        )
    )
    bodies: list[bytes] = []

    def record(verb: str, target: str, headers: Any, body: bytes) -> Reply:
        if verb == "GET":
            document: dict[str, Any] = {
                name: f"{server.url}/{name}" for name in ("token_endpoint", "jwks_uri")
            }
            document["token_endpoint_auth_methods_supported"] = ["client_secret_post", "none"]
            document |= {"issuer": server.url, "backchannel_authentication_endpoint": server.url}
            return Reply(200, JSON, json.dumps(document).encode())
        bodies.append(body)
        return Reply(401, JSON, b'{"error":"invalid_client"}')

    with LoopbackServer(record) as server:
        assert world.login("alice", client=str(path), issuer=server.url).status == 5
    assert (b"client_secret=s" in bodies[0]) == ("client_secret" in registered)
    assert b"client_id=c" in bodies[0]


LOGIN = ["login", "--issuer", "https://op.example", "--client", "FILE", "--login-hint", "alice"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logout"], "No such command 'logout'"),
        (["login"], "Missing option '--issuer'."),
        (["login", "--issuer"], "Option '--issuer' requires an argument."),
        ([*LOGIN[:5]], "exactly one of --login-hint, --login-hint-token, --id-token-hint"),
        (
            [*LOGIN, "--id-token-hint", "x"],
            "exactly one of --login-hint, --login-hint-token, --id-token-hint",
        ),
        ([*LOGIN, "--colour"], "--colour"),
        ([*LOGIN, "more"], "Got unexpected extra argument"),
        ([*LOGIN, "--adapter", "curl"], "'curl' is not one of"),
        ([*LOGIN, "--timeout", "soon"], "'soon' is not a valid float"),
        ([*LOGIN, "--timeout", "-1"], "not a number of seconds"),
        ([*LOGIN, "--timeout", "nan"], "not a number of seconds"),
        ([*LOGIN, "--timeout", "inf"], "not a number of seconds"),
        ([*LOGIN, "--first-poll-after", "x"], "'x' is not a valid float"),
        ([*LOGIN, "--requested-expiry", "1.5"], "'1.5' is not a valid int"),
        ([*LOGIN, "--requested-expiry", "0"], "--requested-expiry must be from 1"),
        ([*LOGIN, "--scope", "email"], "--scope must contain 'openid'"),
        ([*LOGIN, "--binding-message", ""], "--binding-message must not be empty"),
        ([*LOGIN, "--param", "novalue"], "--param novalue: not of the form name=value"),
        ([*LOGIN, "--param", "=hush"], "ciba: --param: not of the form name=value"),
        (
            [*LOGIN, "--param", "a=1", "--param", "a=2"],
            "--param a: only resource can be given more than once",
        ),
        ([*LOGIN, "--param", "a={"], "--param a: not JSON"),
        ([*LOGIN, "--param", 'a={"b":1,"b":2}'], "--param a: member 'b' is there twice"),
        ([*LOGIN, "--param", "claims=x"], "--param claims must be an object"),
        ([*LOGIN, "--param", "client_secret=x"], "--param must not contain client_secret"),
        ([*LOGIN, "--param", "scope=x"], "--param must not contain scope, which is not an extension"),
        ([*LOGIN, "--param", "max_age=x"], "--param: max_age must be a whole number"),
        ([*LOGIN, "--profile", "ciba"], "'ciba' is not one of 'apereo-cas'"),
        ([*LOGIN, "--cacert", "/nowhere.pem"], "--cacert /nowhere.pem: No such file"),
        ([*LOGIN, "--cacert", "FILE"], "no certificate in PEM form in it"),
        ([*LOGIN, "--key", "FILE"], "--key: there is no --cert"),
        ([*LOGIN, "--cert", "/nowhere.pem"], "--cert /nowhere.pem: No such file"),
        ([*LOGIN, "--cert", "FILE"], "no certificate with its unencrypted key"),
        ([*LOGIN, "--cert", "FILE", "--key", "/nowhere.pem"], "--key /nowhere.pem: No such file"),
        ([*LOGIN, "--issuer", "http://op.example"], "--issuer must use https"),
        ([*LOGIN, "--issuer", "op.example"], "--issuer must be an absolute URL"),
        ([*LOGIN, "--issuer", "https://op.example/.well-known/openid-configuration"], "give the issuer"),
        (["discover"], "Missing argument 'URL'."),
        (["discover", "http://op.example", "--allow-loopback-http"], "issuer must use https"),
        (["demo", "--port", "x"], "'x' is not a valid int"),
        (["demo", "--port", "65536"], "65536 is not in the range"),
        (["demo", "--por\x1b[2Jt"], r"\x1b[2J"),
    ],
)
def test_wrong_command_lines(arguments: list[str], message: str, world: World) -> None:
    """A wrong command line is one line on standard error and exit 2: no traceback, nothing sent."""
    ran = world.run(*(world.client if argument == "FILE" else argument for argument in arguments))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    assert "\x1b" not in ran.err


def test_what_the_provider_cannot_do_is_a_configuration_error(world: World) -> None:
    """A request that the metadata rules out is not sent: one line that names the parameter, exit 2."""
    document = {
        "issuer": world.provider.issuer,
        "token_endpoint": f"{world.provider.issuer}/token",
        "backchannel_authentication_endpoint": f"{world.provider.issuer}/bc-authorize",
        "jwks_uri": f"{world.provider.issuer}/jwks",
    }
    for arguments in ((), ("--json",)):
        world.provider.inject("metadata", Answer(200, json.dumps(document).encode(), JSON))
        ran = world.login("alice", "--user-code", "4711", *arguments)
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert "--user-code: the provider does not support it" in ran.err
    assert {entry.endpoint for entry in world.provider.journal} == {"metadata"}


def test_unreachable_provider(world: World) -> None:
    """A provider that cannot be reached is a failure with a reason, not a usage error."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        issuer = f"http://127.0.0.1:{closed.getsockname()[1]}"
    ran = world.login("alice", "--json", issuer=issuer)
    assert (ran.status, ran.json["outcome"], ran.json["error"]) == (1, "failed", "transport_error")
    assert "connection refused" in ran.json["error_description"]


def test_provider_that_answers_html(world: World) -> None:
    """HTML where the metadata should be is a broken rule of the protocol."""
    html = Reply(200, (("Content-Type", "text/html"),), b"<h1>Welcome</h1>")
    with LoopbackServer(always(html)) as server:
        ran = world.login("alice", "--json", issuer=server.url)
    assert (ran.status, ran.json["error"]) == (1, "remote_protocol_error")
    assert "a body that is not JSON" in ran.json["error_description"]


def test_lost_acknowledgement_is_told(world: World) -> None:
    """An acknowledgement that breaks off is a failure of its own: the user may have been asked."""
    world.provider.inject("backchannel_authentication", Answer(502, b"", JSON))
    ran = world.login("alice", "--json")
    assert (ran.status, ran.json["outcome"]) == (1, "failed")


@pytest.mark.parametrize("library", ["rich", "click", "anyio"])
def test_missing_extra_is_named(library: str) -> None:
    """Without the libraries of the extra `cli` the command says what to install; exit 2."""
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from ciba_adapters.cli import main; sys.exit(main(['demo']))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert "pip install 'ciba-core[cli]'" in ran.stderr


def test_missing_adapter_extra_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter whose library is not installed says which extra brings it; exit 2."""
    monkeypatch.delitem(sys.modules, "ciba_adapters.aiohttp", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    ran = world.login("alice", "--adapter", "aiohttp")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "pip install 'ciba-core[aiohttp]'" in ran.err


def test_interrupted(world: World) -> None:
    """Ctrl-C ends a wait at once: one line, or one JSON object, and exit 130."""
    for as_json in (False, True):
        process = subprocess.Popen(
            [
                *(*COMMAND, "login"),
                *("--issuer", world.provider.issuer, "--client", world.client, "--allow-loopback-http"),
                *("--login-hint", "ian", *(["--json"] if as_json else [])),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                while not world.provider.pending:
                    assert process.poll() is None
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode == 130
        if as_json:
            assert err == ""
            assert json.loads(out)["error"] == "cancelled"
        else:
            assert out == ""
            assert err.splitlines()[-1] == "ciba: cancelled"
        world.provider.deny(world.provider.pending[0].auth_req_id)


def test_bugs_are_not_hidden(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw comes out as it is."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("ciba_adapters.cli.commands.authenticate", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        world.login("alice")
