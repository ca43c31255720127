"""What MkDocs is told of this repository: the pages outside docs/, the API's pages, where links lead on the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Match, Optional

ROOT = Path(__file__).resolve().parents[1]
# Pages by their path in the repository; docs/README.md is no index, because README.md is
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
# Modules that users import from, and whether what they offer is in modules within
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
    """Add the API's pages to the navigation."""
    config.nav.append({"API reference": [f"api/{module}.md" for module in API]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File

    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    for module, within in API.items():
        content = API_PAGE.format(module=module, within=str(within).lower())
        files.append(File.generated(config, f"api/{module}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the links of a page, which lead through the repository, lead to the site's pages."""
    return with_links_of_the_site(markdown, page.file.src_uri)


def with_links_of_the_site(markdown: str, page: str) -> str:
    """Return the text of a page of the site with its links as the site has them.

    A link to a file of the repository that is no page becomes its text; one that leads nowhere stays, for MkDocs to
    complain of.
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
        return f'{match[1]}="{MARKDOWN.sub(".html", place)}"'  # MkDocs leaves HTML as it is

    return ATTRIBUTE.sub(attribute, LINK.sub(link, text))


def _repository_file(target: str, page: str) -> str:
    """Path in the repository that a link of a page leads to; empty where there is nothing."""
    origin = ORIGINS.get(page, f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target.partition("#")[0]))
    if (ROOT / path / "README.md").is_file():
        path = posixpath.normpath(f"{path}/README.md")
    return path if (ROOT / path).exists() else ""


def _place(target: str, page: str) -> Optional[str]:
    """Where on the site a link leads to, from `page`; None where that is no page or picture of it."""
    if target.startswith("#"):
        return target
    path = _repository_file(target, page)
    there = OUTSIDE.get(path) or (path[len("docs/") :] if path.startswith("docs/") else "")
    anchor = target[target.index("#") :] if "#" in target else ""
    return posixpath.relpath(there, posixpath.dirname(page) or ".") + anchor if there else None
