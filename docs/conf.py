"""Sphinx: `make docs` builds the site; warnings are errors."""

import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode, math, math_block
from latex2mathml.converter import convert
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
from reference import PAGES

project = "tinct"
copyright = "the tinct developers"
release = version = installed("tinct")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "records"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_math_renderer = "mathml"
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
    # browsers draw MathML by themselves; Sphinx's own ways need a script from the network, or LaTeX
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))


def _formula(writer: Any, node: math | math_block) -> None:
    writer.body.append(convert(node.astext(), display="inline" if isinstance(node, math) else "block"))
    raise SkipNode


def _completed(app: Sphinx, page: str, text: list[str]) -> None:
    text[0] = text[0].replace("](../", "](path:../")  # which MyST would look for among the pages
    if page in PAGES:
        text[0] += PAGES[page]()
