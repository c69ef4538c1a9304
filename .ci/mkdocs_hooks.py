"""Hooks of mkdocs: pages from outside of docs/, and folders in the navigation.

The measurements and the list of changes live beside the code. On the built site they are pages of their own, and links
between them and docs/ lead where they lead in the repository.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OUTSIDE = {"benchmarks/README.md": "measurements.md", "CHANGELOG.md": "changelog.md"}

_LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")
_ROOT = Path(__file__).parents[1]
_DOCS = "docs"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Write out entries such as ``decisions/*.md``: files in order of their names, those named otherwise left out."""
    config.nav = _written_out(config.nav, Path(config.docs_dir), set(_names(config.nav)))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(_ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links between docs/ and what is outside into links between pages."""
    name = page.file.src_uri
    source = {page_name: path for path, page_name in OUTSIDE.items()}.get(name, posixpath.join(_DOCS, name))

    def led(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        target = OUTSIDE.get(target, target.removeprefix(_DOCS + "/"))
        if (_ROOT / _DOCS / target).is_dir():
            target = posixpath.join(target, "README.md")
        return match[1] + posixpath.relpath(target, posixpath.dirname(name) or ".") + match[3]

    return _LINK.sub(led, markdown)


def _names(entry: Any) -> Iterator[str]:
    """All files that the navigation names."""
    if isinstance(entry, str):
        yield entry
        return
    for below in entry.values() if isinstance(entry, dict) else entry:
        yield from _names(below)


def _written_out(entry: Any, docs: Path, named: set[str]) -> Any:
    if isinstance(entry, dict):
        return {title: _written_out(below, docs, named) for title, below in entry.items()}
    if not isinstance(entry, list):
        return entry
    whole: list[Any] = []
    for below in entry:
        if isinstance(below, str) and "*" in below:
            found = sorted(path.relative_to(docs).as_posix() for path in docs.glob(below))
            whole += [path for path in found if path not in named]
        else:
            whole.append(_written_out(below, docs, named))
    return whole
