"""Settings of the documentation site: `make docs` builds it from README and the pages here, into site/.

The sources' root is the repository's, so that a link or a picture in a page leads to the same file on the site and in
the repository. docs/_toc.yml has the order of the pages.
"""

import logging
import os
import sys
import tomllib
from dataclasses import is_dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("docs", "workflow", "scripts")]
os.environ["PYTHONPATH"] = str(ROOT / "scripts")  # of the notebooks' processes

from docstrings import as_rst  # noqa: E402
from docutils import nodes  # noqa: E402
from gallery import cards  # noqa: E402
from generate import filled  # noqa: E402

project = "Effective receptive fields"
author = "the authors of this replication"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["sphinx.ext.autodoc", "sphinx.ext.githubpages", "myst_nb", "sphinx_design", "sphinx_external_toc"]

root_doc = "README"
include_patterns = ["README.md", "config/README.md", "docs/*.md", "docs/notebooks/*.py"]
exclude_patterns = [".*", "results", "data"]
external_toc_path = "docs/_toc.yml"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # the addresses that GitHub gives to headings
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds
nb_merge_streams = True
logging.getLogger("traitlets").setLevel(logging.WARNING)  # which notebook is run, in two lines

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
smartquotes = False  # "center" is a string

html_theme = "furo"
html_title = "Effective receptive fields"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False


def with_gallery(app, docname, source):
    if docname == "docs/gallery":
        source[0] = filled(source[0], {"gallery": cards})


def docstring(app, what, name, obj, options, lines):
    lines[:] = as_rst(lines)


def signature(app, what, name, obj, options, arguments, returned):
    """Results are made by functions, not by whoever reads them: their classes have no signature."""
    return ("", None) if is_dataclass(obj) and not name.startswith("erf.theory.") else None


def zoomable(app, doctree):
    """A picture leads to the picture in its own size."""
    for image in doctree.findall(nodes.image):
        if "figures/reference/" in image["uri"] and not isinstance(image.parent, nodes.reference):
            image["scale"] = 100


def setup(app):
    app.connect("source-read", with_gallery)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("doctree-read", zoomable)
