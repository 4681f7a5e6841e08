"""nginx as a process of its own on loopback: takes TLS and HTTP/2, and passes callbacks on over HTTP/1.1."""

from __future__ import annotations

import importlib
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from attrs import frozen

import ciba_adapters.notification.wsgi
from ciba_adapters.notification import NotificationEndpoint
from tests.notification.callbacks import PATIENCE
from tests.notification.receivers import PATH

from .provider import programs

__all__ = ["Nginx", "running_nginx", "waitress"]

_CONFIGURATION: Final = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {directory}/certificate.pem;
        ssl_certificate_key {directory}/certificate.pem;
        location {path} {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""


@frozen
class Nginx:
    """Where it listens."""

    url: str
    trust: ssl.SSLContext
    """Trusts its certificate."""


@contextmanager
def waitress(endpoint: NotificationEndpoint) -> Generator[int]:
    """Serve the WSGI receiver by waitress, and yield its port."""
    # It has no types of its own.
    server: Any = importlib.import_module("waitress.server")
    app = ciba_adapters.notification.wsgi.NotificationApp(endpoint)
    running = server.create_server(app, host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        yield running.effective_port
    finally:
        # Closed in its own thread, in which it looks at its sockets.
        running.trigger.pull_trigger(running.close)
        thread.join(PATIENCE)
        running.task_dispatcher.shutdown()


@contextmanager
def running_nginx(directory: Path, upstream: int) -> Generator[Nginx]:
    """Run nginx in front of a port; what it has to say goes to ``log`` in the directory."""
    (program,) = programs(
        "nginx", purpose="the Debian package nginx-light stands before receivers of callbacks"
    )
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(directory / "certificate.pem")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)  # pyright: ignore[reportUnknownMemberType]  # as trustme has it
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = directory / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(directory=directory, port=port, upstream=upstream, path=PATH)
    )
    with subprocess.Popen(
        [program, "-p", str(directory), "-c", str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the tests; they then end the server
    ) as process:
        try:
            _wait(process, port, directory / "log")
            yield Nginx(f"https://127.0.0.1:{port}{PATH}", trust)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(100):
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0):
                return
        except ConnectionRefusedError:
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
    said = log.read_text() if log.is_file() else ""
    pytest.fail(f"nginx did not start:\n{said}", pytrace=False)
