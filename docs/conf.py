"""Sphinx settings. The pages of the ops are written at build time from the registry (`_ext/op_pages.py`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT / "backends"), str(_ROOT), str(_ROOT / "docs" / "_ext")]
os.environ.pop("PORTABLE_NN_BACKEND", None)

from portable_nn.core.version import VERSION  # noqa: E402

project = "portable_nn"
author = "the portable_nn authors"
project_copyright = "the portable_nn authors, MIT licence"
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "op_pages", "coverage_pages", "capture_pages", "peers_pages", "resource_pages"]
exclude_patterns = ["_build", "_ext"]
default_role = "py:obj"
html_theme = "furo"
html_title = f"portable_nn {VERSION}"
html_static_path = ["_static"]
html_theme_options = {"source_repository": "https://github.com/portable-nn/portable_nn", "source_branch": "main", "source_directory": "docs/"}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
