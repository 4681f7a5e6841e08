"""Glewlwyd as a process of its own on loopback, with a database of its own, and its users at their browsers.

It is configured by its API, like an administrator does it. The users' answers are scripted by name:

=======  ====================================
alice    approves at once
bob      cancels
carol    never answers
=======  ====================================
"""

from __future__ import annotations

import http.cookiejar
import json
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey

from .notifications import Notifications
from .provider import programs, unavailable

__all__ = ["KEY", "SECRET", "running_glewlwyd"]

SECRET: Final = "glewlwyd-7hTq2XcVb9NmKs4RfWz1LpJy6DgEaUo3"
"""The secret of its clients; each is called ``mode-method``, such as ``poll-basic``."""
KEY: Final = ECKey.generate_key("P-256", {"kid": "interop", "use": "sig", "alg": "ES256"})
"""The key of the clients whose method is a key."""
SCHEMA: Final = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
MODULES: Final = Path("/usr/lib/glewlwyd")
START_TIMEOUT: Final = 30.0
"""Seconds."""

_METHODS: Final = {
    "basic": ["client_secret_basic"],
    "post": ["client_secret_post"],
    "secret": ["client_secret_jwt"],
    "key": ["private_key_jwt"],
}
_SWITCHES: Final = {
    "allow-non-oidc": True,
    "auth-type-code-enabled": True,
    "auth-type-token-enabled": True,
    "auth-type-id-token-enabled": True,
    "auth-type-refresh-enabled": True,
    "refresh-token-rolling": True,
    "request-parameter-allow": True,
    "introspection-revocation-allowed": True,
    "introspection-revocation-allow-target-client": True,
    "oauth-ciba-allowed": True,
    "oauth-ciba-mode-poll-allowed": True,
    "oauth-ciba-mode-ping-allowed": True,
    "oauth-ciba-mode-push-allowed": True,
    "oauth-ciba-allow-https-non-secure": True,  # it would look for the listener's authority in the system's
    "oauth-ciba-user-code-allowed": False,
    "oauth-ciba-email-allowed": False,
}
_CONFIGURATION: Final = """
port = {port}
bind_address = "127.0.0.1"
external_url = "http://127.0.0.1:{port}"
login_url = "login.html"
api_prefix = "api"
log_mode = "console"
log_level = "DEBUG"
cookie_secure = 0
session_expiration = 2419200
session_key = "GLEWLWYD2_SESSION_ID"
admin_session_authentication = "cookie"
profile_session_authentication = "cookie"
admin_scope = "g_admin"
profile_scope = "g_profile"
user_module_path = "{modules}/user"
client_module_path = "{modules}/client"
user_auth_scheme_module_path = "{modules}/scheme"
plugin_module_path = "{modules}/plugin"
hash_algorithm = "SHA512"
database = {{ type = "sqlite3"; path = "{database}" }}
"""


class _Browser:
    """Somebody who is logged in."""

    def __init__(self, api: str, user: str, password: str) -> None:
        self.api: Final = api
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener: Final = urllib.request.build_opener(cookies, _Stay(), urllib.request.ProxyHandler({}))
        self.call("POST", "/auth/", {"username": user, "password": password})

    def call(self, method: str, where: str, body: object = None) -> Any:
        """Call the API, or a URL that it told, and return what comes."""
        request = urllib.request.Request(
            where if where.startswith("http://127.0.0.1:") else self.api + where,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=10) as answer:
                octets = answer.read()
        except urllib.error.HTTPError as redirected:
            with redirected:
                if redirected.code != HTTPStatus.FOUND:
                    raise
            return None
        return json.loads(octets) if octets.startswith((b"{", b"[")) else None


class _Stay(urllib.request.HTTPRedirectHandler):
    """Where a user is sent after the decision does not matter."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _client(mode: str, method: str, notifications: Notifications) -> dict[str, Any]:
    return {
        "client_id": f"{mode}-{method}",
        "enabled": True,
        "confidential": True,
        "redirect_uri": ["https://client.example/unused"],
        "scope": [],
        "authorization_type": ["urn:openid:params:grant-type:ciba", "refresh_token", "delete_token"],
        "token_endpoint_auth_method": _METHODS[method],
        "client_secret": SECRET,
        "jwks": {"keys": [KEY.as_dict(private=False)]},
        "backchannel_token_delivery_mode": mode,
        "backchannel_client_notification_endpoint": notifications.url,
    } | ({"password": SECRET} if method != "key" else {})


def _plugin(issuer: str) -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "module": "oidc",
        "name": "oidc",
        "display_name": "oidc",
        "parameters": {
            "iss": issuer,
            "jwt-type": "rsa",
            "jwt-key-size": "256",
            "key": private.decode(),
            "cert": public.decode(),
            "access-token-duration": 3600,
            "refresh-token-duration": 1209600,
            "code-duration": 600,
            "client-jwks-parameter": "jwks",
            "oauth-ciba-default-expiry": 60,
            "oauth-ciba-maximum-expiry": 120,
            **_SWITCHES,
        },
    }


def _set_up(api: str, notifications: Notifications) -> dict[str, _Browser]:
    """Configure provider, clients and users, and return those of the users who answer."""
    admin = _Browser(api, "admin", "password")
    for module in admin.call("GET", "/mod/client/"):
        known = {"multiple": False, "read": True, "write": True}
        module["parameters"]["data-format"] |= {
            "jwks": {**known, "convert": "jwks"},
            "backchannel_token_delivery_mode": known,
            "backchannel_client_notification_endpoint": known,
        }
        admin.call("PUT", f"/mod/client/{module['name']}", module)
        admin.call("PUT", f"/mod/client/{module['name']}/reset")
    admin.call("POST", "/mod/plugin/", _plugin(f"{api}/oidc"))
    clients = [(mode, method) for mode in ("poll", "ping", "push") for method in _METHODS]
    for mode, method in clients:
        admin.call("POST", "/client/", _client(mode, method, notifications))
    browsers: dict[str, _Browser] = {}
    for user in ("alice", "bob", "carol"):
        admin.call(
            "POST",
            "/user/",
            {
                "username": user,
                "password": f"password-of-{user}",
                "name": user.title(),
                "email": f"{user}@example.com",
                "enabled": True,
                "scope": ["openid"],
            },
        )
        browsers[user] = _Browser(api, user, f"password-of-{user}")
        for mode, method in clients:
            browsers[user].call("PUT", f"/auth/grant/{mode}-{method}", {"scope": "openid"})
    return {"alice": browsers["alice"], "bob": browsers["bob"]}


def _answering(browsers: Mapping[str, _Browser], stop: threading.Event) -> None:
    """Look for requests, and decide."""
    while not stop.wait(0.1):
        for user, uri in (("alice", "connect_uri"), ("bob", "cancel_uri")):
            for asked in browsers[user].call("GET", "/oidc/ciba_user_list") or ():
                browsers[user].call("GET", f"{asked[uri]}&g_continue")


@contextmanager
def running_glewlwyd(directory: Path, notifications: Notifications) -> Generator[str]:
    """Run Glewlwyd and yield its issuer; what it has to say goes to ``log`` in the directory."""
    (program,) = programs(
        "glewlwyd", purpose="the Debian package glewlwyd is a provider of the interop tests"
    )
    if not SCHEMA.is_file():
        unavailable(f"the Debian package glewlwyd brings {SCHEMA}, which is not there")
    with sqlite3.connect(directory / "database") as database:
        database.executescript(SCHEMA.read_text())
    database.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = directory / "glewlwyd.conf"
    configuration.write_text(
        _CONFIGURATION.format(port=port, modules=MODULES, database=directory / "database")
    )
    log = directory / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [program, f"--config-file={configuration}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests; they then end the server
        ) as process,
    ):
        try:
            _wait(process, log)
            stop = threading.Event()
            browsers = _set_up(f"http://127.0.0.1:{port}/api", notifications)
            users = threading.Thread(target=_answering, args=(browsers, stop))
            users.start()
            try:
                yield f"http://127.0.0.1:{port}/api/oidc"
            finally:
                stop.set()
                users.join()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        if "Glewlwyd started on port" in log.read_text():
            return
        time.sleep(0.05)
    pytest.fail(f"Glewlwyd did not start:\n{log.read_text()}", pytrace=False)
