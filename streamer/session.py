"""A session for notebooks, on disk or live: ``from streamer.client import Session``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from streamer.client import Client
from streamer.errors import CommandError, LinkError
from streamer.journal import Journal
from streamer.nexus import column_of, unit_of
from streamer.records import Alert, AnyArray, FloatArray, FlowResult, FrameRow, Recollection
from streamer.replacement import in_force
from streamer.service import answers
from streamer.wire import decode_flow, decode_picture

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_HEARTBEAT_S = 5.0
"""A streamer that is there tells its control endpoint within a second."""
_COLUMNS = FrameRow.__struct_fields__


class Session:
    """What was measured, as arrays.

    Parameters
    ----------
    where : path or str
        Folder of a session, which may still be written to, or the address of the results of a streamer that runs,
        such as ``tcp://127.0.0.1:5556``.

    Raises
    ------
    SessionError
        If the folder holds no session.
    LinkError
        If nobody answers at the address.

    Notes
    -----
    Everything is read anew at every call, so a live session grows. Use it from one thread, and close it or use it as a
    context manager. Signs and units are those of the columns: ``drift_y_px``, y down, x right.
    """

    def __init__(self, where: str | Path) -> None:
        self.where = str(where)
        self._journal: Journal | None = None
        self._client: Client | None = None
        if "://" in self.where:
            self._client = _connected(self.where)
        else:
            self._journal = Journal(Path(where))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return _COLUMNS

    def rows(self, *, standing: bool = False) -> list[FrameRow]:
        """Return one record a frame, in order of arrival; flats, darks and refused frames included.

        Parameters
        ----------
        standing : bool
            Leave out frames that were taken again, and let the better one stand in their place.
        """
        if self._journal is not None:
            rows = [row for _, row in self._journal.rows()]
        else:
            rows = msgspec.convert(self._history()["frames"], list[FrameRow])
        return in_force(rows) if standing else rows

    def __getitem__(self, column: str) -> AnyArray:
        """Return a column of the projections, (n,): float64 with NaN where nothing is available, or texts."""
        return self.arrays(column)[column]

    def arrays(self, *columns: str, standing: bool = False) -> dict[str, AnyArray]:
        """Return columns of the projections that belong together, each (n,); all of them without a name.

        Raises
        ------
        CommandError
            If there is no such column.
        """
        for column in columns:
            if column not in _COLUMNS:
                raise CommandError(f"there is no column {column!r}; columns: {', '.join(_COLUMNS)}")
        shots = [row for row in self.rows(standing=standing) if row.kind == "projection"]
        return {name: column_of(shots, name) for name in columns or _COLUMNS}

    def table(self, *, standing: bool = False) -> pd.DataFrame:
        """Return all rows as a pandas table; units are in ``table.attrs["units"]``.

        Raises
        ------
        ImportError
            If pandas is not installed (``pip install txm-live[tables]``).
        """
        import pandas as pd  # noqa: PLC0415  (optional)

        rows = self.rows(standing=standing)
        table = pd.DataFrame([msgspec.structs.asdict(row) for row in rows], columns=list(_COLUMNS))
        for name in ("exposed_at", "received_at"):
            table[name] = pd.to_datetime(table[name], format="ISO8601", utc=True)
        table.attrs["units"] = {name: unit_of(name) for name in _COLUMNS if unit_of(name)}
        return table

    def alerts(self) -> list[Alert]:
        """Return all alerts in their newest state."""
        if self._journal is not None:
            return [alert for _, alert in self._journal.alerts()]
        return msgspec.convert(self._history()["alerts"], list[Alert])

    def recollections(self) -> list[Recollection]:
        """Return all requests to take a frame again in their newest state."""
        if self._journal is not None:
            return [request for _, request in self._journal.recollections()]
        return msgspec.convert(self._history()["recollections"], list[Recollection])

    def flow(self, index: int, acquisition: str | None = None) -> FlowResult:
        """Return the displacement field of a frame against its reference, with strain and regions.

        Raises
        ------
        CommandError
            If it has none; the text says why.
        """
        asked = {"index": index, "acquisition": acquisition}
        if self._journal is not None:   # what a streamer would answer from it
            return decode_flow(answers.flow(self._journal, asked))
        return self._live().flow(index, acquisition)

    def flows(self, acquisition: str | None = None) -> Iterator[FlowResult]:
        """Yield the displacement fields one by one, in order of acquisition and number."""
        if self._journal is not None:
            yield from self._journal.flows(acquisition=acquisition)
            return
        for row in sorted(self.rows(), key=lambda row: (row.acquisition, row.index)):
            if row.flow_median_px is not None and acquisition in (None, row.acquisition):
                yield self.flow(row.index, row.acquisition)

    def displacement(self, acquisition: str | None = None, view: str | None = None) -> xr.Dataset:
        """Return all fields on the grid of the first one as an xarray dataset.

        Returns
        -------
        xarray.Dataset
            ``displacement`` (frame, component, y, x) in px, NaN where not valid; ``sigma`` (frame, y, x) px;
            ``reference``, ``drift`` (frame, component) px.

        Raises
        ------
        CommandError
            If there are no fields.
        ImportError
            If xarray is not installed (``pip install txm-live[tables]``).
        """
        import xarray as xr  # noqa: PLC0415  (optional)

        fields = [field for field in self.flows(acquisition) if view in (None, field.view)]
        if not fields:
            raise CommandError(f"{self.where} holds no displacement fields of that acquisition and view")
        first = fields[0]
        same = [field for field in fields if field.displacement_px.shape == first.displacement_px.shape]
        moved = np.stack([np.where(field.valid, field.displacement_px, np.float32(np.nan)) for field in same])
        pixel = {"units": "px"}
        return xr.Dataset(
            {"displacement": (("frame", "component", "y", "x"), moved, pixel),
             "sigma": (("frame", "y", "x"), np.stack([field.sigma_px for field in same]), pixel),
             "drift": (("frame", "component"), [(field.drift_y_px, field.drift_x_px) for field in same], pixel),
             "reference": ("frame", [field.reference_index for field in same])},
            coords={"frame": [field.index for field in same], "component": ["y", "x"],
                    "y": ("y", first.grid_y_px, pixel), "x": ("x", first.grid_x_px, pixel)})

    def picture(self, index: int, acquisition: str | None = None, kind: str = "corrected") -> FloatArray:
        """Return the picture of a frame as it was kept for the screen: 8 bit, binned to at most 1024 px a side.

        Returns
        -------
        (M, N) float32 array
            Transmission for ``corrected``, counts for ``raw``.

        Raises
        ------
        CommandError
            If none is kept; the recording has them all, see `streamer.formats.open_recording`.
        """
        asked = {"index": index, "acquisition": acquisition, "kind": kind}
        if self._journal is not None:
            kept = decode_picture(answers.picture(self._journal, asked))
        else:
            kept = self._live().picture(index, acquisition, kind)
        values: FloatArray = kept.pixels * np.float32(kept.scale) + np.float32(kept.offset)
        return values

    def close(self) -> None:
        """Close the journal, or the link."""
        if self._journal is not None:
            self._journal.close()
        if self._client is not None:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _history(self) -> dict[str, Any]:
        return self._live().history()

    def _live(self) -> Client:
        if self._client is None:
            raise LinkError(f"{self.where} is not live")
        return self._client


def _connected(where: str) -> Client:
    """Connect, and wait until the streamer has told where it takes questions."""
    client = Client(where)
    end = time.monotonic() + _HEARTBEAT_S
    while client.control is None and time.monotonic() < end:
        client.receive(end - time.monotonic())
    if client.control is None:
        client.close()
        raise LinkError(f"nobody answers at {where}: is txm-streamer running?")
    return client
