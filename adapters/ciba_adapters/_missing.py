"""The message for a library that is not installed."""

from __future__ import annotations

__all__ = ["missing_extra"]


def missing_extra(extra: str, error: ImportError) -> ImportError:
    """Return the `ImportError` of an adapter whose library is missing: it names the extra to install."""
    library = error.name or extra
    return ImportError(
        f"ciba_adapters.{extra} needs {library}: pip install 'ciba-core[{extra}]'", name=library
    )
