"""Modules that only some channels need."""

from __future__ import annotations

import importlib
from typing import Any

from streamer.errors import SettingsError


def extra(module: str, *, setting: str, name: str) -> Any:
    """Import a module of an extra, now that a setting asks for it.

    Raises
    ------
    SettingsError
        If it is not installed; the text says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(f"setting {setting} needs {module.partition('.')[0]}, which is not installed ({error}); "
                            f"install txm-live[{name}] or leave the setting empty") from error
