"""The table, the JSON file and the chart."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sysconfig
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from attrs import asdict
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Fact, Result, Row, Spread

__all__ = ["chart", "conditions", "table", "write_json"]

_TITLES: Final = {
    "polls": "One pending poll",
    "peers": "The same poll by the peers",
    "core": "The core alone",
    "callbacks": "Callbacks",
    "waiting": "Many that wait",
    "stores": "Claims with saves, in database servers",
    "imports": "Imports",
}
_VERSIONS: Final = (
    "ciba-core",
    "attrs",
    "joserfc",
    "cryptography",
    "PyJWT",
    "Authlib",
    "requests",
    "httpx",
    "httpx2",
    "aiohttp",
    "trio",
    "h11",
    "psycopg",
    "redis",
    "requests-oauth2client",
    "auth0-server-python",
)


def conditions() -> dict[str, Any]:
    """Say when and on what was measured; no names of hosts or paths."""
    versions: dict[str, str] = {}
    for name in _VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    package = Path(__file__).parent / "node" / "node_modules" / "openid-client" / "package.json"
    versions["openid-client"] = (
        json.loads(package.read_bytes())["version"] if package.is_file() else "not installed"
    )
    try:
        node = subprocess.run(
            ["node", "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        node = "not installed"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        # A build without these runs everything here slower by a quarter or so.
        "python_optimised_build": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "node": node,
        "versions": versions,
    }


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    limit = f"{row.goal.limit:.2f}" if row.goal.of == "ratio" else f"{row.goal.limit:.0f} {row.unit}"
    return f"{'[green]met' if row.met else '[red]missed'}[/] (at most {limit})"


def table(results: Sequence[Result], console: Console) -> None:
    """Print one table."""
    view = Table(title="this project against the reference: median (middle half)", title_justify="left")
    for heading in ("subject", "reference"):
        view.add_column(heading)
    for heading in ("cost", "reference", "ratio"):
        view.add_column(heading, justify="right")
    for heading in ("goal", "note"):
        view.add_column(heading)
    group = ""
    for result in results:
        if result.group != group:
            group = result.group
            view.add_section()
            view.add_row(f"[bold]{_TITLES[group]}")
        if isinstance(result, Fact):
            mark = {True: "[green]met", False: "[red]missed", None: ""}[result.met]
            view.add_row(result.name, "", "", "", "", mark, result.text)
            continue
        ratio = result.ratio
        view.add_row(
            result.name,
            result.reference_name,
            f"{_figure(result.subject.median)} {result.unit}",
            f"{_figure(result.reference.median)} {result.unit}",
            f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
            _goal(result),
            result.note,
        )
    console.print(view)


def _per_second(result: Result) -> float | None:
    if isinstance(result, Row) and result.unit == "µs CPU":
        return round(1e6 / result.subject.median)
    return None


def write_json(results: Sequence[Result], where: dict[str, Any], path: Path) -> None:
    """Write everything that is known, rates for each second of CPU time included."""
    rows = [
        asdict(result)
        | {"met": result.met}
        | ({} if _per_second(result) is None else {"per_second": _per_second(result)})
        for result in results
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"conditions": where, "rows": rows}, indent=2, ensure_ascii=False) + "\n")


def chart(results: Sequence[Result], path: Path) -> None:
    """Draw the ratios, with their spread, as SVG or PNG by the suffix of the file."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    rows = [result for result in results if isinstance(result, Row)][::-1]
    figure, axes = pyplot.subplots(figsize=(10, 0.34 * len(rows) + 1.2), layout="constrained")
    for place, row in enumerate(rows):
        ratio: Spread = row.ratio
        colour = {True: "#2a7f62", False: "#b4442f", None: "#4c6a92"}[row.met]
        axes.plot([ratio.low, ratio.high], [place, place], color=colour, linewidth=5, alpha=0.35)
        axes.plot(ratio.median, place, "o", color=colour)
        axes.annotate(
            f"{ratio.median:.2f}", (ratio.high, place), xytext=(6, -3), textcoords="offset points", fontsize=8
        )
        if row.goal is not None and row.goal.of == "ratio":
            axes.plot(row.goal.limit, place, "|", color="black", markersize=10)
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(row.ratio.low for row in rows) / 1.3, max(row.ratio.high for row in rows) * 1.5)
    axes.margins(y=0.02)
    axes.set_yticks(
        range(len(rows)), [f"{row.name} / {row.reference_name} ({row.unit})" for row in rows], fontsize=8
    )
    axes.set_xlabel("cost as a multiple of the reference, middle half of the rounds; | the goal")
    figure.savefig(path)
    pyplot.close(figure)
