"""What the streamer answered to a command, in words. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from monitor.commander import Answer
from monitor.words import clock

_Words = Callable[[Mapping[str, Any], Mapping[str, Any]], str]


def answer_words(answer: Answer) -> str:
    """Say what came of a command.

    >>> answer_words(Answer("note", {}, error="note: text is '', expected what is to be written down"))
    "refused: note: text is '', expected what is to be written down"
    >>> answer_words(Answer("recollect", {}, {"recollection": 3, "index": 47, "acquisition": "scan"}))
    'frame 47 is asked for again: request 3'
    """
    if answer.error:
        return f"refused: {answer.error}"
    try:
        return _WORDS[answer.op](answer.arguments, answer.result)
    except (KeyError, TypeError, AttributeError):   # another streamer may say less
        return f"{answer.op}: done"


def _acknowledged(_: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    if "acknowledged" in result:
        count = len(result["acknowledged"])
        return f"{count} alert{'s' if count != 1 else ''} acknowledged" if count else "no alert was to be acknowledged"
    return f"alert {result['alert']} acknowledged"


def _shelved(arguments: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    if not arguments["minutes"]:
        return f"alert {result['alert']} is off the shelf"
    return f"alert {result['alert']} is kept quiet until {clock(result['shelved_until'])[:5]}"


def _set(arguments: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    changes = arguments.get("settings") or {arguments["key"]: arguments["value"]}
    told = ", ".join(f"{key} = {value}" for key, value in changes.items())
    return f"{told} from the next frame on (settings revision {result['settings_revision']})"


def _written(_: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    paths = [PurePosixPath(path) for path in result["files"]]
    return (f"written on the machine of the streamer, to {paths[0].parent}: {', '.join(path.name for path in paths)}"
            if paths else "nothing was to be written")


_WORDS: dict[str, _Words] = {
    "acknowledge": _acknowledged,
    "shelve": _shelved,
    "override": lambda _, result: f"frame {result['index']}: {result['remark']}",
    "recollect": lambda _, result: f"frame {result['index']} is asked for again: request {result['recollection']}",
    "withdraw": lambda _, result: f"request {result['recollection']} is {result['state']}",
    "note": lambda _, result: "noted" + (f" about frame {result['index']}" if "index" in result else ""),
    "reference": lambda _, result: (f"frame {result['reference_index']} is the reference of view "
                                    f"{result['view'] or '(unnamed)'} from the next frame on"),
    "set": _set,
    "snapshot": _written,
}
