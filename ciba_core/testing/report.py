"""The report of a check of drivers or stores."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from attrs import frozen

__all__ = ["CheckReport"]


class _Finding(Protocol):
    @property
    def error(self) -> BaseException | None: ...


FindingT_co = TypeVar("FindingT_co", bound=_Finding, covariant=True)


@frozen
class CheckReport(Generic[FindingT_co]):
    """The outcome of a check. ``str(report)`` is for people."""

    scenarios: tuple[str, ...]
    """The scenarios that were run."""
    findings: tuple[FindingT_co, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def raise_for_findings(self) -> None:
        """Raise `AssertionError` with the report as its message, unless it is `ok`."""
        if self.findings:
            errors = (finding.error for finding in self.findings if finding.error is not None)
            raise AssertionError(str(self)) from next(errors, None)

    def __str__(self) -> str:
        head = f"{len(self.scenarios)} scenarios, {len(self.findings)} findings"
        return "\n".join((head, *(f"- {finding}" for finding in self.findings)))
