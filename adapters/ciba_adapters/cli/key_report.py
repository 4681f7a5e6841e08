"""The faults in a provider's key set, which otherwise show only after the user has approved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from ciba_adapters.cli.metadata_report import Finding
from ciba_core.errors import RemoteProtocolError
from ciba_core.events import ProviderDeviation
from ciba_core.jose.algorithms import ASYMMETRIC_ALGORITHMS
from ciba_core.jose.keys import KeySet, parse_key_set
from ciba_core.values.http import HttpResponse
from ciba_core.values.limits import Limits

__all__ = ["key_findings"]

_LATE: Final = "logins would fail after the approval"
_SIGNED_WITH: Final = "id_token_signing_alg_values_supported"
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def key_findings(document: Mapping[str, Any], answer: HttpResponse | str | None) -> list[Finding]:
    """Return the problems of a key set for a client, errors first.

    Args:
        document: the metadata.
        answer: the answer from its ``jwks_uri``, or the reason why there is none; ``None`` if there was no
            request.

    """
    if answer is None:
        return []
    if isinstance(answer, str):
        return [Finding("error", "jwks_uri", f"gives no answer ({answer}): {_LATE}")]
    noted: list[ProviderDeviation] = []
    keys = parse_key_set(answer, limits=Limits(), now=0.0, noted=noted)
    if isinstance(keys, RemoteProtocolError):
        return [Finding("error", "jwks_uri", f"gives no key set: {keys}: {_LATE}")]
    if not keys.keys:
        return [Finding("error", "jwks_uri", f"has no key that a signature can be checked with: {_LATE}")]
    return [*_warnings(document, keys, _entries(answer)), *map(_deviation, noted)]


def _entries(answer: HttpResponse) -> Sequence[object]:
    # The document was parsed above; unusable keys are missing in the result.
    return cast("Sequence[object]", json.loads(answer.body.decode("utf-8-sig"))["keys"])


def _warnings(document: Mapping[str, Any], keys: KeySet, entries: Sequence[object]) -> Iterator[Finding]:
    objects = [cast("dict[str, Any]", entry) for entry in entries if isinstance(entry, dict)]
    exposed = [entry for entry in objects if _PRIVATE & entry.keys()]
    if exposed:
        what = f"publishes {len(exposed)} secret or private keys, which are not used"
        yield _warning(f"{what}: whoever reads them can sign as the provider")
    others = len(entries) - len(keys.keys) - len(exposed)
    if others > 0:
        what = f"has {others} of {len(entries)} keys that no signature is checked with"
        yield _warning(f"{what}: of an unknown or weak kind, malformed, or for encryption")
    named = document.get(_SIGNED_WITH)
    algorithms = cast("Sequence[object]", named) if isinstance(named, (list, tuple)) else ()
    for alg in algorithms:
        if isinstance(alg, str) and alg in ASYMMETRIC_ALGORITHMS and not keys.candidates(None, alg):
            what = f"has no key for {alg}, which {_SIGNED_WITH} names"
            yield _warning(f"{what}: {_LATE} for a client whose ID Tokens are signed with it")


def _warning(message: str) -> Finding:
    return Finding("warning", "jwks_uri", message)


def _deviation(noted: ProviderDeviation) -> Finding:
    return _warning(f"deviates, and is read all the same: {noted.message} [{noted.rule}]")
