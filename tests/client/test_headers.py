"""Header fields of the embedder's own."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from ciba_core import AuthenticationRequest, ClientConfig, ClientSecretBasic, HeaderContext, Secret
from ciba_core.client.headers import host_of, own_headers
from ciba_core.errors import LocalProtocolError
from ciba_core.values.http import Purpose

ISSUER = "https://op.example/tenant"
KEY = {"Ocp-Apim-Subscription-Key": "hush-key"}


def config(**changes: Any) -> ClientConfig:
    return ClientConfig("me", ClientSecretBasic("hush"), **changes)


def returning(value: Any) -> Any:
    """A function that returns it, whatever it is asked for."""

    def fields(_context: HeaderContext) -> Any:
        return value

    return fields


def added(
    headers: Any = None, of_request: Any = None, *, url: str = "https://op.example/token", hosts: Any = ()
) -> tuple[tuple[str, str], ...]:
    client = config(headers=headers or {}, headers_to=hosts)
    request = AuthenticationRequest(login_hint="a", headers=of_request or {})
    context = HeaderContext(Purpose.TOKEN, url, 5.0, bytes)
    return own_headers(client.headers, request.headers, context, issuer=ISSUER, hosts=client.headers_to)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "authorization", "DPoP", "dpop", "Host", "Content-Type", "content-length", "CONTENT-MD5",
        "Transfer-Encoding", "TE", "Trailer", "Accept", "Accept-Encoding", "Connection", "Keep-Alive", "Upgrade",
        "Expect", "Cookie", "Proxy-Authorization", "If-None-Match", "Range",
    ],
)  # fmt: skip
def test_forbidden_names(name: str) -> None:
    """What authenticates, what describes the body and what HTTP works by is not the caller's to set."""
    for make in (lambda: config(headers={name: "x"}), lambda: added({}, {name: "x"})):
        with pytest.raises(ValueError, match=f"^headers: {name} belongs to the protocol, or to HTTP itself$"):
            make()
    with pytest.raises(LocalProtocolError, match=f"{name} belongs to the protocol"):
        added(returning({name: "x"}))


@pytest.mark.parametrize("name", ["", "a b", "a:", ":path", "a\r\n", "ä", "a\x00", "x\ny"])
def test_what_is_no_name(name: str) -> None:
    """RFC 9110 5.1: a name is a token."""
    with pytest.raises(ValueError, match=r"^headers: a name is none of a header field"):
        config(headers={name: "x"})


@pytest.mark.parametrize(
    "value", ["", " ", " a", "a ", "a\r\nX-Evil: 1", "a\n", "\ra", "a\x00b", "ä", "\x7f"]
)
def test_what_is_no_value(value: str) -> None:
    """RFC 9110 5.5: nothing breaks out of a value; the message names the field and does not show it."""
    for wrapped in (value, Secret(value)):
        with pytest.raises(
            ValueError, match=r"^headers: the value of X-Key must be printable ASCII"
        ) as caught:
            config(headers={"X-Key": wrapped})
        assert "Evil" not in str(caught.value)
    with pytest.raises(LocalProtocolError, match="the value of X-Key"):
        added(returning({"X-Key": value}))


@pytest.mark.parametrize("headers", [{"X-Key": 5}, {5: "x"}, {"X-Key": None}, [("a", "b")], "a: b", 5, None])
def test_the_wrong_kind(headers: Any) -> None:
    """A mapping of texts, and nothing that is one in another form; also from a function."""
    with pytest.raises(TypeError, match=r"^headers"):
        config(headers=headers)
    with pytest.raises(LocalProtocolError, match=r"^headers: of what the function returned"):
        added(returning(headers))
    with pytest.raises(TypeError, match=r"^headers"):
        AuthenticationRequest(login_hint="a", headers=headers)


def test_the_same_name_twice() -> None:
    """RFC 9110 5.1: case does not tell names apart."""
    with pytest.raises(ValueError, match=r"^headers: x-key is there twice"):
        config(headers={"X-Key": "a", "x-key": "b"})


def test_a_function_belongs_to_the_client() -> None:
    """What a request brings along is stored with the transaction, which a function cannot be."""
    with pytest.raises(
        TypeError, match=r"^headers must be a mapping; a function goes into ClientConfig\.headers"
    ):
        AuthenticationRequest(login_hint="a", headers=lambda _context: {})  # type: ignore[arg-type]


def test_values_do_not_show() -> None:
    """Promise 6: a subscription key is a secret; its name is none."""
    for holder in (config(headers=KEY), AuthenticationRequest(login_hint="a", headers=KEY)):
        assert "Ocp-Apim-Subscription-Key" in repr(holder)
        assert "hush" not in repr(holder)


def test_those_of_the_request_go_first() -> None:
    """The client's are for all of its requests; one request can say otherwise, whatever the case of the name."""
    assert added({"X-A": "1", "X-B": "2"}, {"x-b": Secret("3"), "X-C": "4"}) == (
        ("X-A", "1"),
        ("x-b", "3"),
        ("X-C", "4"),
    )


def test_the_function_knows_the_request() -> None:
    """It is called once for each HTTP request, and told which."""
    seen: list[HeaderContext] = []

    def fields(context: HeaderContext) -> dict[str, Secret | str]:
        seen.append(context)
        return {"x-fapi-interaction-id": context.entropy(2).hex(), "x-key": Secret("k")}

    assert added(fields) == (("x-fapi-interaction-id", "0000"), ("x-key", "k"))
    (context,) = seen
    assert (context.purpose, context.url, context.now) == (Purpose.TOKEN, "https://op.example/token", 5.0)
    assert "entropy" not in repr(context)


@pytest.mark.parametrize(
    ("url", "hosts", "goes"),
    [
        ("https://OP.example/keys", (), True),
        ("https://op.example:443/keys", (), True),
        ("https://op.example:8443/keys", (), False),
        ("https://keys.op.example/keys", (), False),
        ("https://op.example.cdn.example/keys", (), False),
        ("https://cdn.example/keys", (), False),
        ("https://cdn.example/keys", ["cdn.example"], True),
        ("https://cdn.example:8443/keys", ["cdn.example"], False),
        ("https://cdn.example:8443/keys", ["cdn.example:8443"], True),
        ("https://[2001:db8::1]/keys", ["[2001:db8::1]"], True),
    ],
)
def test_they_go_to_the_issuers_host(url: str, hosts: Any, goes: bool) -> None:
    """A key set on somebody else's machine gets no subscription key, unless that host is named."""
    assert added(KEY, KEY, url=url, hosts=hosts) == (tuple(KEY.items()) if goes else ())


def test_a_function_is_not_called_for_another_host() -> None:
    """What it makes may be used up, or be secret."""

    def never(_context: HeaderContext) -> dict[str, Secret | str]:
        pytest.fail("called")

    assert added(never, url="https://cdn.example/keys") == ()


@pytest.mark.parametrize(
    ("hosts", "error"),
    [
        ("op.example", TypeError),
        ([5], TypeError),
        (["https://op.example"], ValueError),
        (["OP.example"], ValueError),
        (["op.example/"], ValueError),
        ([""], ValueError),
        (["*.example\n"], ValueError),
    ],
)
def test_what_is_no_host(hosts: Any, error: type[Exception]) -> None:
    """A host that could never be met is a mistake."""
    with pytest.raises(error, match=r"^headers_to must be"):
        config(headers_to=hosts)


@pytest.mark.parametrize(("names", "error"), [("x", TypeError), ([5], TypeError), (["a b"], ValueError)])
def test_what_is_no_name_of_an_answers_field(names: Any, error: type[Exception]) -> None:
    """RFC 9110 5.1, for the fields of answers."""
    with pytest.raises(error, match=r"^answer_headers must be"):
        config(answer_headers=names)


def test_equality() -> None:
    """Configurations and requests with header fields compare, and requests hash, as others do."""
    request = AuthenticationRequest(login_hint="a", headers=KEY)
    assert request == attrs.evolve(request)
    assert hash(request) == hash(attrs.evolve(request))
    assert config(headers=KEY) == config(headers=KEY) != config()
    assert host_of("http://127.0.0.1:80/x") == "127.0.0.1"
