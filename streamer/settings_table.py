"""The page of all settings, as tables: what docs/settings.md holds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import get_type_hints

from streamer.settings import Setting, Settings, describe

_HEAD = "| setting | default | allowed | unit | live | meaning |\n| --- | --- | --- | --- | --- | --- |"


def to_markdown() -> str:
    """Write all settings as Markdown: a heading and a table for each section, in the order of the TOML page."""
    return "\n\n".join(_sections()) + "\n"


def _sections() -> Iterator[str]:
    about = get_type_hints(Settings)
    for section, settings in groupby(describe().values(), key=lambda setting: setting.key.rpartition(".")[0]):
        heading = [f"## {section}", (about[section].__doc__ or "").strip()] if section else []
        yield "\n\n".join([*heading, "\n".join([_HEAD, *map(_line, settings)])])


def _line(setting: Setting) -> str:
    live = "yes" if setting.live else ""
    cells = (f"`{setting.key}`", f"`{setting.default_text}`", setting.allowed, setting.unit, live, setting.text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
