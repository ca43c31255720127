"""Adapt this repository for MkDocs.

The hooks add the pages outside docs/ and the pages of the API, and point links to the pages of the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Match, Optional

ROOT = Path(__file__).resolve().parents[1]
# Pages of the site by their path in the repository; README.md is the index, so docs/README.md has another name
OUTSIDE = {
    "README.md": "index.md",
    "docs/README.md": "contents.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "logs/README.md": "logs.md",
    "params/README.md": "params.md",
    "tests/goldens/README.md": "goldens.md",
}
ORIGINS = {page: path for path, page in OUTSIDE.items()}
# Modules that users import from, each with whether its page also shows its submodules
API = {
    "gluon_aff": False,
    "gluon_aff.pytorch": False,
    "gluon_aff.gluon.networks": False,
    "gluon_aff.gluon.fusion": False,
    "gluon_aff.evaluation": True,
    "gluon_aff.results": True,
    "gluon_aff.published": False,
    "gluon_aff.weights": True,
    "gluon_aff.engines": False,
    "gluon_aff.registry": False,
}
API_PAGE = """\
---
title: {module}
---

::: {module}
    options:
      show_submodules: {within}
"""
FENCES = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^()\s]+)\)")
MARKDOWN = re.compile(r"\.md(?=#|$)")
ATTRIBUTE = re.compile(r'\b(src|srcset|href)="([^"]+)"')


def on_config(config: Any) -> Any:
    """Add the pages of the API to the navigation."""
    config.nav.append({"API reference": [f"api/{module}.md" for module in API]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are outside docs/, and the pages of the API."""
    from mkdocs.structure.files import File

    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    for module, within in API.items():
        content = API_PAGE.format(module=module, within=str(within).lower())
        files.append(File.generated(config, f"api/{module}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the links of a page to files of the repository by links to pages of the site."""
    return with_links_of_the_site(markdown, page.file.src_uri)


def with_links_of_the_site(markdown: str, page: str) -> str:
    """Return the text of a page with links that work on the site.

    A link to a file of the repository that is not on the site is replaced by its text. A link to a missing file stays,
    so that MkDocs reports it.
    """
    parts = FENCES.split(markdown)
    parts[::2] = [_relinked(part, page) for part in parts[::2]]
    return "".join(parts)


def _relinked(text: str, page: str) -> str:
    def link(match: Match[str]) -> str:
        image, words, target = match.groups()
        place = _place(target, page)
        if place is None:
            return match[0] if image or not _repository_file(target, page) else words
        return f"{image}[{words}]({place})"

    def attribute(match: Match[str]) -> str:
        place = _place(match[2], page) or match[2]
        return f'{match[1]}="{MARKDOWN.sub(".html", place)}"'  # MkDocs does not convert links in HTML

    return ATTRIBUTE.sub(attribute, LINK.sub(link, text))


def _repository_file(target: str, page: str) -> str:
    """Return the path in the repository that a link of `page` leads to; empty if there is no such file."""
    origin = ORIGINS.get(page, f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target.partition("#")[0]))
    if (ROOT / path / "README.md").is_file():
        path = posixpath.normpath(f"{path}/README.md")
    return path if (ROOT / path).exists() else ""


def _place(target: str, page: str) -> Optional[str]:
    """Return the target of a link on the site, relative to `page`; None if the target is not on the site."""
    if target.startswith("#"):
        return target
    path = _repository_file(target, page)
    there = OUTSIDE.get(path) or (path[len("docs/") :] if path.startswith("docs/") else "")
    anchor = target[target.index("#") :] if "#" in target else ""
    return posixpath.relpath(there, posixpath.dirname(page) or ".") + anchor if there else None
