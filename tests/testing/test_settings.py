from __future__ import annotations

from typing import get_type_hints

import attrs
import pytest

from ciba_core.testing import SimulatedProvider, VirtualClock
from ciba_core.testing.settings import ProviderOptions, ProviderSettings


def test_options_are_the_settings() -> None:
    """What a provider can be given by name is what its settings have, of the same types, and all is optional."""
    assert get_type_hints(ProviderOptions) == get_type_hints(ProviderSettings)
    assert ProviderOptions.__optional_keys__ == {field.name for field in attrs.fields(ProviderSettings)}


def test_each_setting_is_explained() -> None:
    """The documentation of the provider has a paragraph for each."""
    for field in attrs.fields(ProviderSettings):
        assert f"\n        {field.name}: " in f"\n{SimulatedProvider.__doc__}"


def test_settings_are_kept() -> None:
    """A provider has its settings as one value; a name that is none is refused."""
    provider = SimulatedProvider(VirtualClock(), clients=[], interval=None, issuer="https://op.example/a")
    assert provider.settings == ProviderSettings(interval=None, issuer="https://op.example/a")
    with pytest.raises(TypeError, match="intervall"):
        SimulatedProvider(VirtualClock(), clients=[], intervall=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
