"""Bounds on what a provider sends."""

from __future__ import annotations

from itertools import chain

from attrs import field, frozen

from ciba_core.values import check
from ciba_core.values.http import HttpResponse

__all__ = ["Limits"]


@frozen
class Limits:
    """Bounds on everything that a provider controls.

    Raises:
        TypeError, ValueError: a bound is not an int in its range.

    """

    body: int = field(default=1 << 20, validator=check.whole_number(1024, 1 << 30))
    """Octets of a response body. 1 MiB, as most OpenID libraries have it."""
    headers: int = field(default=64 << 10, validator=check.whole_number(1024, 1 << 24))
    """Octets of all response header fields together. 64 KiB, four times what common servers send at most."""
    json_depth: int = field(default=32, validator=check.whole_number(4, 128))
    """Levels of nesting in a JSON document."""
    string: int = field(default=64 << 10, validator=check.whole_number(256, 1 << 24))
    """Characters of an ``auth_req_id``, a token or an error text. Real ones stay far below 10 000."""

    def exceeded_by(self, response: HttpResponse) -> str | None:
        """Say which limit an answer exceeds, or return ``None``."""
        if len(response.body) > self.body:
            return f"answer larger than {self.body} octets"
        if sum(map(len, chain.from_iterable(response.headers))) > self.headers:
            return f"header fields larger than {self.headers} octets"
        return None
