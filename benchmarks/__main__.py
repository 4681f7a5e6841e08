"""Set up `.venv-bench` and run the benchmarks in it. Uses nothing but the standard library."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
NODE = ROOT / "benchmarks" / "node"
ENVIRONMENT = ROOT / ".venv-bench"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def prepare() -> None:
    """Install what the project, its adapters, the peers and the report need."""
    if not PYTHON.exists():
        print(f"creating {ENVIRONMENT.name}", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    if _changed(ENVIRONMENT / ".installed-from", ROOT / "pyproject.toml"):
        # Dependency groups need a pip of 2025 or later.
        subprocess.run([*pip, "pip>=25.1"], check=True)
        subprocess.run([*pip, "--editable", ".[all]", "--group", "bench"], cwd=ROOT, check=True)
        _note(ENVIRONMENT / ".installed-from", ROOT / "pyproject.toml")
    npm = shutil.which("npm")
    stamp = NODE / "node_modules" / ".installed-from"
    if npm is not None and _changed(stamp, NODE / "package-lock.json"):
        subprocess.run([npm, "ci", "--silent"], cwd=NODE, stdin=subprocess.DEVNULL, check=True)
        _note(stamp, NODE / "package-lock.json")


def _changed(stamp: Path, source: Path) -> bool:
    return not stamp.is_file() or stamp.read_text() != hashlib.sha256(source.read_bytes()).hexdigest()


def _note(stamp: Path, source: Path) -> None:
    stamp.write_text(hashlib.sha256(source.read_bytes()).hexdigest())


def main() -> int:
    """Run in the environment, entering it first if need be."""
    if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
        prepare()
        return subprocess.call([str(PYTHON), "-m", "benchmarks", *sys.argv[1:]], cwd=ROOT)
    from benchmarks.run import main as run  # noqa: PLC0415  # needs the environment

    return run()


if __name__ == "__main__":
    sys.exit(main())
