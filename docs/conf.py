"""Sphinx: `make docs` builds the site; warnings are errors."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
from reference import PAGES

project = "tinct"
copyright = "the tinct developers"
release = version = installed("tinct")
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "records"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "tinct"
html_static_path = ["static"]
html_css_files = ["site.css"]
autoclass_content = "both"  # arguments are described where they are taken
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True}
nitpicky = False


def setup(app: Sphinx) -> None:
    """Let the pages of commands and files follow from the source, and links leave the folder of pages."""
    app.connect("source-read", _completed)


def _completed(app: Sphinx, page: str, text: list[str]) -> None:
    text[0] = text[0].replace("](../", "](path:../")  # which MyST would look for among the pages
    if page in PAGES:
        text[0] += PAGES[page]()
