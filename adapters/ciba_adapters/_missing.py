"""The message for a library that is not installed."""

from __future__ import annotations

__all__ = ["missing_extra"]


def missing_extra(extra: str, error: ImportError, *, module: str | None = None) -> ImportError:
    """Return the `ImportError` of an adapter whose library is missing: it names the extra to install.

    `module` is the adapter's name within the package, where that is not the name of the extra.
    """
    library = error.name or extra
    return ImportError(
        f"ciba_adapters.{module or extra} needs {library}: pip install 'ciba-core[{extra}]'", name=library
    )
