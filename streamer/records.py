"""What travels through the monitor: frozen records without behaviour.

Arrays are ``(row, column)``, vectors ``(dy, dx)``, y down, x right. Units are in the names. Optional means
"not available": an estimate that does not exist is ``None``, never a made-up number.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]

Kind = Literal["projection", "flat", "dark"]
Verdict = Literal["sharp", "blurred", "undecided", "bad"]

KINDS: tuple[Kind, ...] = ("projection", "flat", "dark")


class Frame(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One exposure as it came from the source; the pixels are read-only."""

    pixels: AnyArray
    """(M, N), any real dtype, in detector units."""
    index: int
    """Frame number as the source gave it, unique within the acquisition."""
    acquisition: str = ""
    """Empty when the source does not name its acquisitions."""
    view: str = ""
    """What is tracked together: one field of view at one angle and energy. Empty when not given."""
    kind: Kind = "projection"
    exposed_at: float | None = None
    """Unix seconds."""
    received_at: float = 0.0
    """Unix seconds."""
    exposure_s: float | None = None
    pixel_size_nm: float | None = None
    angle_deg: float | None = None
    energy_ev: float | None = None
    recollects: int | None = None
    """Index of the frame that this one replaces."""
    expected: int | None = None
    """Frames expected in the acquisition (``of`` on the wire)."""


class EndOfAcquisition(msgspec.Struct, frozen=True, kw_only=True):
    """The sender says that an acquisition is complete."""

    acquisition: str = ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A frame that arrived and cannot be measured; it still ends as a row when its number is known."""

    reason: str
    """One line: what was found, what was expected."""
    bucket: Literal["malformed", "refused", "dropped"] = "refused"
    """malformed: the message or page could not be decoded; dropped: given up because of overload."""
    index: int | None = None
    acquisition: str = ""
    view: str = ""
    kind: Kind = "projection"
    exposed_at: float | None = None
    received_at: float = 0.0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to the stream, for the journal and the screen."""

    kind: Literal["gap", "duplicate", "out_of_order", "restart", "wrap", "malformed", "refused", "dropped", "resumed",
                  "lost"]
    """resumed: another streamer goes on with the session; lost: rows that could not be written."""
    text: str
    """One line that names the frames."""
    acquisition: str = ""
    index: int | None = None
    at: float = 0.0
    """Unix seconds."""


class FrameRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``frames.csv``; the field order is the column order."""

    index: int
    acquisition: str
    view: str
    kind: Kind
    exposed_at: str | None = None
    """UTC, ISO 8601 with microseconds."""
    received_at: str | None = None
    verdict: Verdict | None = None
    provisional: bool = False
    blur_length_px: float | None = None
    blur_length_sigma_px: float | None = None
    blur_angle_deg: float | None = None
    blur_score: float | None = None
    blur_limit_px: float | None = None
    psf_group: int | None = None
    drift_y_px: float | None = None
    drift_x_px: float | None = None
    drift_sigma_px: float | None = None
    rotation_deg: float | None = None
    trend_y_px: float | None = None
    trend_x_px: float | None = None
    jitter_y_px: float | None = None
    jitter_x_px: float | None = None
    registration_quality: float | None = None
    reference_index: int | None = None
    flow_median_px: float | None = None
    flow_p95_px: float | None = None
    recollects: int | None = None
    problems: str = ""
    revision: int = 0
    latency_ms: float | None = None
    settings_revision: int = 0
    """Which settings the row was made with; counts up with every change."""
    blur_shape: str = ""
    """Of a blurred frame: ``motion`` (along one direction), ``defocus`` (alike in all directions), or ``mixed``."""
    blur_gauge_px2: float | None = None
    """Variance by which the average of registered frames is smeared beyond the blur of the frames themselves:
    deformation or misregistration, not blur."""
    resolution_x_nm: float | None = None
    """Half-period along x at which the structure sinks into the noise."""
    resolution_x_sigma_nm: float | None = None
    resolution_y_nm: float | None = None
    resolution_y_sigma_nm: float | None = None
    exposure_s: float | None = None
    angle_deg: float | None = None
    energy_ev: float | None = None


FRAME_TEXTS = frozenset({
    "acquisition", "view", "kind", "exposed_at", "received_at", "verdict", "problems", "blur_shape"})
"""Fields of `FrameRow` that are texts; the others are numbers."""


class FlowResult(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Displacement field of one frame against its reference, after the drift is taken out."""

    index: int
    acquisition: str
    view: str
    reference_index: int
    drift_y_px: float
    drift_x_px: float
    grid_y_px: FloatArray
    """(K,) rows of the grid, in pixels of the reference frame."""
    grid_x_px: FloatArray
    """(L,) columns of the grid, in pixels of the reference frame."""
    displacement_px: FloatArray
    """(2, K, L): (y, x)."""
    valid: BoolArray
    """(K, L)."""
    sigma_px: FloatArray
    """(K, L) 1-sigma error per component; NaN where no estimate exists."""
    flow_median_px: float | None = None
    """Median magnitude over the valid points."""
    flow_p95_px: float | None = None
    elapsed_ms: float = 0.0
    strain: FloatArray | None = None
    """(8, K, L) as `STRAIN_PLANES`, NaN where not valid; None while not computed, as what follows."""
    regions: NDArray[np.int16] | None = None
    """(K, L) numbers of the regions that move as one, -1 outside; a region keeps its number from frame to frame."""
    analysis: dict[str, Any] | None = None
    """``regions``: list of {number, points, displacement_y_px, displacement_x_px, rotation_deg};
    ``particles``: list of objects with the columns of ``streamer.imaging.particles.table``;
    ``representative_volume``: the fields of ``streamer.imaging.representative_volume.Study``."""


STRAIN_PLANES = ("divergence", "shear", "rotation_deg", "principal_largest", "principal_smallest", "direction_deg",
                 "divergence_sigma", "shear_sigma")
"""Planes of `FlowResult.strain`, as ``streamer.imaging.strain`` defines them."""
STRAIN_UNITS = ("1", "rad", "deg", "1", "1", "deg", "1", "rad")
"""Of each plane."""


class PictureResult(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A picture of a frame for the screen, as it was kept: value = offset + scale * pixel."""

    index: int
    acquisition: str
    view: str
    kind: Literal["corrected", "raw"]
    """Frames that nothing was corrected in have one picture for both."""
    pixels: NDArray[np.uint8]
    """(M // binning, N // binning); values beyond its levels are cut off, JPEG adds an error of about a step."""
    binning: int
    """1 or n: a pixel stands for n x n."""
    offset: float
    scale: float
    pixel_size_nm: float | None = None
    """Of the frame, not of the binned picture."""


class SpectraResult(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Power spectra of one frame and of its reference: Fourier modes by direction, noise included.

    Power is per mode, relative to the squared mean brightness; white noise of relative variance ``v`` per pixel
    has the power ``v``. Value ``k`` of ``n`` belongs to ``0.5 (k + 0.5) / n`` cycles/px.
    """

    index: int
    acquisition: str
    view: str
    horizontal: FloatArray
    """(n,) along x."""
    vertical: FloatArray
    """(n,) along y."""
    floor: float
    """Power of the noise beyond 0.5 cycles/px."""
    picture: NDArray[np.uint8]
    """(K, K / 2) from fy = -0.5 to 0.5 (down) and fx = 0 to 0.5 cycles/px; the other half mirrors it.
    ``log10(power) = picture_low + (picture_high - picture_low) * picture / 255``."""
    picture_low: float
    picture_high: float
    reference_horizontal: FloatArray | None = None
    """(n,) mean over the frames that the frame was compared with for blur; None when there were none."""
    reference_vertical: FloatArray | None = None
    noise_horizontal: FloatArray | None = None
    """(n,) power of the noise as measured on flats; None: `floor` at all frequencies."""
    noise_vertical: FloatArray | None = None
    resolution_x_px: float | None = None
    """Half-period along x at which the structure sinks into the noise; 1 without a sigma: not before the pixels."""
    resolution_x_sigma_px: float | None = None
    resolution_y_px: float | None = None
    resolution_y_sigma_px: float | None = None


Severity = Literal["NO_ALARM", "MINOR", "MAJOR", "INVALID"]
SEVERITIES: tuple[Severity, ...] = ("NO_ALARM", "MINOR", "MAJOR", "INVALID")
"""Names of EPICS; the place in this list is its number."""

AlertState = Literal["new", "acknowledged", "requested", "recollected", "closed"]
"""requested: its frames are asked for again; recollected: good ones have come."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person should know; one row of ``alerts.csv``."""

    id: int
    raised_at: str
    """UTC, ISO 8601 with microseconds."""
    severity: Severity
    rule: str
    """Short stable name, such as ``blurred_frame``."""
    text: str
    acquisition: str = ""
    view: str = ""
    index: int | None = None
    """The frame that raised it (the newest one of a burst)."""
    count: int = 1
    """How many frames this alert stands for."""
    state: AlertState = "new"
    """How far it has come. It needs somebody as long as it is not closed and `who` is empty."""
    who: str = ""
    """Who acknowledged it; empty: nobody has."""
    note: str = ""
    active: bool = True
    """Whether what raised it still holds; one that is over stays in sight until somebody acknowledges it."""
    changed_at: str | None = None
    """UTC, of its newest state."""
    shelved_until: str | None = None
    """UTC; until then it is kept quiet."""
    escalated: bool = False
    """Whether nobody acknowledged it for too long."""
    recollected_as: int | None = None
    """Newest frame that was taken again for it."""
    recollected_verdict: Verdict | None = None
    """Of that frame."""


Occasion = Literal["new", "worse", "escalated", "closed"]
"""Why somebody is told of an alert; worse: its severity rose. That it counts on is no occasion."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is to be told through a channel."""

    channel: str
    """Name of the channel, the same after a restart."""
    occasion: Occasion
    sequence: int
    """Of the alert as published; a newer notice of the same alert replaces this one."""
    alert: Alert


RecollectionState = Literal["open", "served", "given_up", "expired", "withdrawn"]


class Recollection(msgspec.Struct, frozen=True, kw_only=True):
    """The request to take a frame again, as complete as a beamline needs it."""

    id: int
    requested_at: str
    """UTC, ISO 8601 with microseconds."""
    acquisition: str
    index: int
    """The frame to be taken again; what is taken names it in ``recollects``."""
    view: str
    reason: str
    who: str = ""
    """Empty: the streamer itself."""
    priority: int = 1
    """The higher the sooner; 3 is the highest."""
    state: RecollectionState = "open"
    """served: a sharp frame came; given_up: `limit` frames came and none was sharp; expired: the deadline passed."""
    changed_at: str | None = None
    tries: int = 0
    """Frames that came for it."""
    limit: int = 3
    served_by: int | None = None
    """Index of the sharp frame."""
    verdict: Verdict | None = None
    """Of the newest frame that came for it."""
    exposed_at: str | None = None
    """Of the frame to be taken again, likewise what follows."""
    exposure_s: float | None = None
    angle_deg: float | None = None
    energy_ev: float | None = None
    drift_y_px: float | None = None
    """Where the sample is expected now, relative to the first frame of the view."""
    drift_x_px: float | None = None
    stage: StageMove | None = None
    """What would bring the sample back to where the reference frame saw it; advice only."""
    deadline_frames: float | None = None
    """Frames of the view from the request on within which it makes sense; None: not known."""
    deadline_at: str | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The only way back: what a user asks of the running streamer."""

    id: int | str | None = None
    op: str
    arguments: dict[str, Any] = {}


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many, and which ones."""

    count: int = 0
    indices: list[int | tuple[int, int]] = []
    """Frame numbers; two or more consecutive ones as ``[first, last]``."""


class Accounting(msgspec.Struct, frozen=True, kw_only=True):
    """Where every frame went: received = measured + duplicate + malformed + refused + dropped."""

    received: int = 0
    measured: int = 0
    missing: Tally = Tally()
    duplicate: Tally = Tally()
    out_of_order: Tally = Tally()
    malformed: Tally = Tally()
    refused: Tally = Tally()
    dropped: Tally = Tally()
    restarts: Tally = Tally()


class CalibrationState(msgspec.Struct, frozen=True, kw_only=True):
    """What the newest projection was corrected by."""

    pattern: Literal["flats", "estimated", "none", "not separable"] = "none"
    """Where the correction of what stays on the detector comes from: flats, sent or recognised, or the frames
    themselves. Not separable: the sample has moved too little to tell it from the detector."""
    flats: int = 0
    """In the running mean, likewise the darks."""
    darks: int = 0
    counts_per_photon: float | None = None
    """From the noise of pairs of flats; without darks the offset of the camera counts as light."""
    photons_per_px: float | None = None
    """Mean of the newest flat."""


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """Forecast of the first frame of a view that shows too little of its region of interest."""

    frames: float | None = None
    """Median, counted from the newest frame; None beyond the horizon of the forecast."""
    frames_low: float | None = None
    """From here to `frames_high` with a probability of 90 %."""
    frames_high: float | None = None
    seconds: float | None = None
    """`frames` as time; None when the frames do not tell when they were taken."""
    visible_share: float = 1.0
    """Of the region, in the field of view now."""


class StageMove(msgspec.Struct, frozen=True, kw_only=True):
    """Suggested travel of the stage that brings the sample back to where the reference frame saw it; advice only."""

    y_um: float
    x_um: float


class JitterAxis(msgspec.Struct, frozen=True, kw_only=True):
    """How the sample scatters about its trend along one axis."""

    sigma_px: float
    """Standard deviation, outliers left out."""
    first_px: float
    """Lower edge of the first bin of the histogram."""
    bin_px: float
    counts: list[int]
    """Frames per bin; those beyond the ends are in the last bins."""


class ViewMotion(msgspec.Struct, frozen=True, kw_only=True):
    """How the sample of one view moves, at its newest registered frame."""

    view: str
    frames: int
    """Registered, likewise of the histograms as far as they look back."""
    trend_y_px: float
    trend_x_px: float
    speed_y_px: float
    """Per frame."""
    speed_x_px: float
    jitter_y: JitterAxis
    jitter_x: JitterAxis
    leaving: Leaving
    stage: StageMove | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The heartbeat: where the streamer stands."""

    at: float
    """Unix seconds."""
    state: Literal["waiting", "receiving", "idle", "stopping"]
    """waiting: no frame yet; idle: the acquisition was closed by its sender."""
    version: str
    uptime_s: float
    session_dir: str
    frames_endpoint: str
    results_endpoint: str
    control_endpoint: str
    protocol: str = ""
    """Dialect of the newest frame."""
    acquisition: str = ""
    views: list[str] = []
    accounting: Accounting = Accounting()
    queue: int = 0
    """Frames that wait for analysis."""
    queue_limit: int = 0
    received_hz: float = 0.0
    """Over the last seconds."""
    measured_hz: float = 0.0
    latency_median_ms: float | None = None
    """Received to published, over the last frames."""
    latency_p95_ms: float | None = None
    flow_done: int = 0
    flow_skipped: int = 0
    flow_restarts: int = 0
    """How often the process that computes the fields ended and was started again."""
    pictures_skipped: int = 0
    """Frames whose full picture was not kept, because frames came faster."""
    last_frame_age_s: float | None = None
    pixel_size_nm: float | None = None
    calibration: CalibrationState = CalibrationState()
    motion: list[ViewMotion] = []
    """Of the views that have a trend, the 32 seen last."""
    settings_revision: int = 0
    blur_tolerance_px: float = 0.0
    blur_score_threshold: float = 0.0
    blur_shortest_px: float = 0.0
    disk_free_gb: float | None = None
    recollections: list[Recollection] = []
    """Requests that are open, the most urgent first; every heartbeat repeats them until they are served."""
    published: dict[str, int] = {}
    """Newest sequence number of each topic: who has heard less has lost messages, even if none follow."""
    problems: list[str] = []
    """What hinders the streamer now, such as a full disk."""
