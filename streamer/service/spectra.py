"""Spectra for who listens: beside the newest picture, and of any frame on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from streamer.errors import CommandError
from streamer.journal import Journal
from streamer.records import AnyArray, SpectraResult
from streamer.wire import SPECTRA_PAYLOADS


def with_picture(spectra: SpectraResult | None) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Return what an ``image`` message says of the spectra of its frame.

    Returns
    -------
    fields : dict
        ``spectra``: the numbers that belong to the payloads; empty without spectra.
    arrays : dict
        Payloads; without a reference or a measured shape of the noise, theirs are missing.
    """
    if spectra is None:
        return {}, {}
    every = {name: getattr(spectra, field) for name, field in SPECTRA_PAYLOADS.items()}
    numbers = {name: value for name, value in msgspec.structs.asdict(spectra).items()
               if name not in {"index", "acquisition", "view", *SPECTRA_PAYLOADS.values()}}
    return {"spectra": numbers}, {name: array for name, array in every.items() if array is not None}


def answer(journal: Journal, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request for the spectra of a frame; without an acquisition, of the newest frame of that number.

    Raises
    ------
    CommandError
        If the arguments are wrong or there are no such spectra.
    """
    index, acquisition = arguments.get("index"), arguments.get("acquisition")
    if not isinstance(index, int) or isinstance(index, bool) or not -2**63 <= index < 2**63:
        raise CommandError(f"spectra: index is {index!r}, expected the number of a frame")
    if acquisition is not None and not isinstance(acquisition, str):
        raise CommandError(f"spectra: acquisition is {acquisition!r}, expected its name")
    found = list(journal.spectra(acquisition=acquisition, index=index))
    if not found:
        where = "" if acquisition is None else f" of {acquisition!r}"
        raise CommandError(f"spectra: there are none of frame {index}{where}; "
                           "flats, darks and frames that were not measured have none")
    fields = msgspec.structs.asdict(found[-1])
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}
