"""How Sphinx builds the site: `make docs`. Warnings are errors.

Sphinx, since the reference is generated from docstrings; MyST, since everything else is Markdown, as the
files at the top of the repository are; furo, since it reads well on a phone and needs no settings. Nothing is
fetched while the site is built, so names of other libraries are not links.
"""

from __future__ import annotations

import re
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import ciba_core

project = "ciba_core"
author = "The ciba_core developers"
project_copyright = author
release = ciba_core.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"ciba_core {release}"
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Single backticks in docstrings are code; what is meant to be a link is one by its type.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "both"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

# Two modules have a `Clock`; which one is meant, the page says that it stands on.
suppress_warnings = ["ref.python"]
nitpicky = True
# Names of other packages; names of ours that stand in a signature and are not public.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!ciba_).*"),
    (
        r"py:.*",
        r"ciba_core\.(callbacks|client|jose|login|operations|pool|provider|tokens|transaction|values)\..*",
    ),
    (r"py:.*", r"ciba_core\.testing\.(report|script|settings)\..*"),
    (r"py:.*", r"ciba_adapters\.(.*\.)?_.*"),
]

PAGES = {
    "README.md": "/readme.md",
    "SECURITY.md": "/explanation/security.md",
    "CONTRIBUTING.md": "/contributing.md",
    "CHANGELOG.md": "/changelog.md",
    "adapters/README.md": "/howto/recipes.md",
}
"""The files of the repository that are pages here, too; those below ``docs`` are pages by themselves."""


def _links_to_pages(_app: Sphinx, _path: Path, _page: str, content: list[str]) -> None:
    """Turn links between files of the repository, where one is a page here, into links between pages."""

    def page(link: re.Match[str]) -> str:
        file = link[1]
        target = file.removeprefix("docs") if file.startswith("docs/") else PAGES.get(file, file)
        return f"]({target}{link[2] or ''})"

    content[0] = re.sub(r"\]\((?:\.\./)?([\w/]+\.md)(#[\w-]*)?\)", page, content[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("include-read", _links_to_pages)
    # Drawn where the repository is read; here it is text, since the site loads no scripts from elsewhere.
    app.add_lexer("mermaid", TextLexer)
