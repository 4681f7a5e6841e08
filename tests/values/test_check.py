from __future__ import annotations

import pytest

from ciba_core.values.check import is_loopback, url_problem


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_is_loopback(host: str, expected: bool) -> None:
    """OPM-08: only what can be nothing but this machine counts as loopback."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "url",
    [
        "https://op.example",
        "https://op.example/",
        "HTTPS://op.example/token",
        "https://op.example:8443/a?b=c",
        "https://[2001:db8::1]/token",
        "https://127.0.0.1/",
    ],
)
def test_https_urls_pass(url: str) -> None:
    """OPM-08: an https URL is taken, with a query where one is allowed (CIBA-7.1-32)."""
    assert url_problem(url, allow_loopback_http=False) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (None, "must be a URL"),
        (5, "must be a URL"),
        ("", "must be a URL"),
        ("https://op.example/ü", "printable ASCII"),
        ("https://op.example/a b", "printable ASCII"),
        ("https://op.example/\n", "printable ASCII"),
        ("https://op.example:99999/", "valid URL"),
        ("https://op.example:port/", "valid URL"),
        ("https://[::1", "valid URL"),
        ("https://[::1]]/t", "valid URL"),
        ("https://[::1]x/t", "valid URL"),
        ("https://a]b/", "valid URL"),
        ("https://op.example\\x/", "valid URL"),
        ("https://op.example%41/", "valid URL"),
        ("/token", "absolute URL"),
        ("https:///token", "absolute URL"),
        ("https:op.example", "absolute URL"),
        ("https://:443/", "absolute URL"),
        ("https://user@op.example/", "user information"),
        ("https://user:password@op.example/", "user information"),
        ("https://@op.example/", "user information"),
        ("https://op.example/#f", "fragment"),
        ("https://op.example/#", "fragment"),
        ("http://op.example/", "must use https"),
        ("http://127.0.0.1/", "must use https"),
        ("http://localhost/", "must use https"),
        ("ftp://op.example/", "must use https"),
    ],
)
def test_url_problems(url: object, problem: str) -> None:
    """OPM-08, AUTH-07: credentials go to https URLs only; the message never has the URL in it."""
    found = url_problem(url, allow_loopback_http=False)
    assert found is not None
    assert problem in found
    assert "op.example" not in found
    assert "password" not in found


@pytest.mark.parametrize("url", ["https://op.example/?", "https://op.example/?a=b"])
def test_query_where_none_is_allowed(url: str) -> None:
    """DISC-06: an issuer has no query, not even an empty one."""
    assert url_problem(url, allow_loopback_http=False, query=False) == "must not have a query"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:8080/", True),
        ("http://LOCALHOST/", True),
        ("http://[::1]:8080/", True),
        ("http://op.example/", False),
        ("http://localhost.op.example/", False),
        ("http://0.0.0.0/", False),
        ("ftp://127.0.0.1/", False),
        ("https://op.example/", True),
    ],
)
def test_loopback_exception(url: str, allowed: bool) -> None:
    """OPM-08: the exception for plain http covers loopback addresses and nothing else."""
    problem = url_problem(url, allow_loopback_http=True)
    if allowed:
        assert problem is None
    else:
        assert problem == "must use https (plain http is allowed for loopback addresses only)"
