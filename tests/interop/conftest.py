from __future__ import annotations

from collections.abc import Iterator

import pytest

from .provider import running_provider


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The issuer of `oidc-provider`, running on loopback, reached without any proxy of the environment."""
    log = tmp_path_factory.mktemp("oidc_provider") / "log"
    with pytest.MonkeyPatch.context() as patch, running_provider(log) as issuer:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        yield issuer
