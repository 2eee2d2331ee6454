"""What Sphinx is told; `assemble.py` lays out the pages and calls it. Nothing of the site is fetched from elsewhere."""

import re
import tomllib
from pathlib import Path

from pygments.lexer import RegexLexer, bygroups, using
from pygments.lexers.shell import BashLexer
from pygments.token import Comment, Keyword, Name, Punctuation, Text
from sphinx.application import Sphinx

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "Singularity"
author = copyright = "the authors of Singularity"  # noqa: A001 - Sphinx's name
release = version = PROJECT["version"]
language = "en"
extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "index"
nitpicky = True
smartquotes = False  # two dashes are an option
highlight_language = "text"
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
myst_links_external_new_tab = False
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"Singularity {release}"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_favicon = html_logo = str(HERE / "static" / "mark.svg")
html_show_sphinx = False
html_copy_source = html_use_index = False
html_show_search_summary = False  # which are fetched, and from files nothing is
templates_path = [str(HERE / "templates")]
html_theme_options = {
    "sidebar_hide_name": True,
    "light_css_variables": {
        "color-brand-primary": "#1d5c80",
        "color-brand-content": "#1d5c80",
        "color-brand-visited": "#5b4a86",
    },
    "dark_css_variables": {
        "color-brand-primary": "#86c5e8",
        "color-brand-content": "#86c5e8",
        "color-brand-visited": "#b9a8e6",
    },
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


class DefinitionLexer(RegexLexer):
    """Definition files: header lines, and sections that are shell scripts."""

    name = "Singularity definition"
    aliases = ["singularity"]
    flags = re.MULTILINE
    tokens = {
        "root": [
            (r"^\s*#.*\n?", Comment),
            (r"^(%\w+)(.*\n?)", bygroups(Keyword, Text)),
            (r"^(\w+)(\s*:)(.*\n?)", bygroups(Name.Attribute, Punctuation, Text)),
            (r".*\n|.+", using(BashLexer)),
        ]
    }


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_lexer("singularity", DefinitionLexer)
