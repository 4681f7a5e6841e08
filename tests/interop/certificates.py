"""The certificates of the clients that authenticate by mutual TLS (RFC 8705)."""

from __future__ import annotations

import ssl
from base64 import urlsafe_b64encode
from pathlib import Path

import trustme
from attrs import frozen
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from tests.self_signed import self_signed

__all__ = ["Certificates", "issued"]


@frozen
class Certificates:
    """PEM files, each of a certificate with its key; the clients' have the names of the clients.

    ``other.pem`` is of the authority and registered for nobody.
    """

    directory: Path

    def context(self, name: str | None) -> ssl.SSLContext:
        """Return the TLS settings of a client with that certificate, or with none."""
        context = ssl.create_default_context(cafile=self.directory / "authority.pem")
        if name is not None:
            context.load_cert_chain(self.directory / f"{name}.pem")
        return context

    def thumbprint(self, name: str) -> str:
        """Return the ``x5t#S256`` of a certificate (RFC 8705 3.1)."""
        certificate = load_pem_x509_certificate((self.directory / f"{name}.pem").read_bytes())
        digest = certificate.fingerprint(SHA256())
        return urlsafe_b64encode(digest).rstrip(b"=").decode()


def issued(directory: Path) -> Certificates:
    """Issue all of them into a directory."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "authority.pem")
    for file, name in (("server", "127.0.0.1"), ("tls", "client.example"), ("other", "other.example")):
        issued = authority.issue_cert(name)
        # The certificate comes first: the provider takes the first one of the file.
        (directory / f"{file}.pem").write_bytes(
            b"".join(chain.bytes() for chain in issued.cert_chain_pems) + issued.private_key_pem.bytes()
        )
    (directory / "self-signed-tls.pem").write_bytes(self_signed("client.example"))
    return Certificates(directory)
