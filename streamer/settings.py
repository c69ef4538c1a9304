"""Every setting with its default, unit, range and meaning; TOML in and out.

A setting is added by adding a field here: the command line, the TOML page, validation and the control
socket all read these classes.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from streamer.errors import SettingsError


def _meta(
    text: str, *, unit: str = "", low: float | None = None, high: float | None = None, live: bool = False,
    secret: bool = False,
) -> Meta:
    """Describe a setting; `live` ones may be changed while the streamer runs, `secret` ones are never published."""
    return Meta(description=text, ge=low, le=high, extra={"unit": unit, "live": live, "secret": secret})


class FramesSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where frames come from."""

    endpoint: Annotated[
        str,
        Meta(description="Where frames come from: tcp://HOST:PORT (ZeroMQ), pva://NAME (EPICS), folder://PATH (files "
             "as they land), file://PATH (a file that grows)."),
    ] = "tcp://127.0.0.1:5555"
    pattern: Annotated[
        Literal["sub", "pull", "req"],
        Meta(description="Of ZeroMQ: 'sub' listens beside others; 'pull' takes frames away from every other puller; "
             "'req' asks for each frame (Karabo)."),
    ] = "sub"
    bind: Annotated[bool, Meta(description="Bind the address here instead of connecting to the sender.")] = False
    protocol: Annotated[
        str, Meta(description="Dialect of the messages; 'auto' recognises it from the first one.")
    ] = "auto"
    high_water_mark: Annotated[
        int,
        _meta("Messages the socket may hold before the sender drops or waits.", unit="messages", low=1, high=100_000),
    ] = 200
    queue: Annotated[
        int, _meta("Decoded frames that may wait for analysis.", unit="frames", low=1, high=100_000)
    ] = 64
    overload: Annotated[
        Literal["auto", "block", "drop_oldest"],
        Meta(
            description="When the queue is full: 'block' stops reading, 'drop_oldest' gives up the oldest frame "
            "and says so. 'auto' blocks for 'pull' (the sender waits) and drops for 'sub' (it would not)."
        ),
    ] = "auto"
    largest_mb: Annotated[
        float, _meta("Frames larger than this are refused.", unit="MB", low=0.001, high=4096.0)
    ] = 512.0
    pva_queue: Annotated[
        int,
        _meta("Of EPICS: pictures that the server holds for us before it drops.", unit="frames", low=2, high=100_000),
    ] = 100
    attributes: Annotated[
        tuple[str, ...],
        Meta(description="Of EPICS: which attributes of a picture become which fields of a frame, such as "
             "angle_deg=SampleTheta or energy_ev=Energy*1000; fields: acquisition, angle_deg, energy_ev, exposure_s, "
             "kind, pixel_size_nm, view."),
    ] = ()


class ResultsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where results go."""

    endpoint: Annotated[str, Meta(description="Address on which results are published.")] = "tcp://127.0.0.1:5556"
    image_rate_hz: Annotated[
        float,
        _meta("Pictures published per second at the most, for dashboards.", unit="Hz", low=0.1, high=100.0, live=True),
    ] = 10.0


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where commands are taken."""

    endpoint: Annotated[str, Meta(description="Address on which commands and history requests are answered.")] = (
        "tcp://127.0.0.1:5557"
    )


class CalibrationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Flat-field and dark correction."""

    flats: Annotated[
        int, _meta("Flats that the running mean looks back on.", unit="frames", low=1, high=1000)
    ] = 16
    darks: Annotated[int, _meta("Darks that the running mean looks back on.", unit="frames", low=1, high=1000)] = 16
    zinger_sigma: Annotated[
        float, _meta("A pixel this far from its neighbours is repaired.", unit="sigma", low=3.0, high=100.0)
    ] = 6.0
    dark_fraction: Annotated[
        float,
        _meta("A frame darker than this share of the usual brightness is a beam dump.", low=0.0, high=0.9, live=True),
    ] = 0.2
    saturated_fraction: Annotated[
        float, _meta("A frame with a larger share of saturated pixels is bad.", low=0.0001, high=1.0, live=True)
    ] = 0.25
    recognise: Annotated[
        bool,
        Meta(description="Take empty beams among the projections for flats, and frames without light for darks, "
             "as long as none were sent.", extra={"live": True}),
    ] = True


class BlurSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Blur screening."""

    tolerance_px: Annotated[
        float,
        _meta("Blur that still does no harm; a frame that cannot show blur this short is 'undecided'.",
              unit="px", low=0.1, high=100.0, live=True),
    ] = 3.0
    score_threshold: Annotated[
        float, _meta("Significance from which a frame is called blurred.", unit="sigma", low=1.0, high=50.0, live=True)
    ] = 3.5
    shortest_px: Annotated[
        float, _meta("Blur shorter than this is never flagged.", unit="px", low=0.0, high=100.0, live=True)
    ] = 1.2
    baseline: Annotated[int, _meta("Accepted frames that form the baseline.", unit="frames", low=2, high=100)] = 8
    warm_up: Annotated[int, _meta("Accepted frames before verdicts are final.", unit="frames", low=1, high=100)] = 3


class DriftSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rigid registration."""

    quality: Annotated[
        float, _meta("Normalised correlation of the overlap below which a match is not trusted.", low=0.0, high=1.0)
    ] = 0.3
    overlap: Annotated[float, _meta("Smallest share of the frame that must overlap.", low=0.05, high=0.9)] = 0.12
    key_step: Annotated[
        float, _meta("A new key frame is set after a drift of this share of the view.", low=0.02, high=0.5)
    ] = 0.12


class ForecastSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the sample is to stay in the field of view."""

    keep: Annotated[
        float, _meta("Share of the region that must stay in the field of view.", low=0.01, high=1.0, live=True)
    ] = 0.5
    top_px: Annotated[
        int, _meta("First row of the region, in the reference frame.", unit="px", low=0, high=100_000, live=True)
    ] = 0
    left_px: Annotated[
        int, _meta("First column of the region, in the reference frame.", unit="px", low=0, high=100_000, live=True)
    ] = 0
    height_px: Annotated[
        int, _meta("Rows of the region; 0 for the whole field of view.", unit="px", low=0, high=100_000, live=True)
    ] = 0
    width_px: Annotated[
        int, _meta("Columns of the region; 0 for the whole field of view.", unit="px", low=0, high=100_000, live=True)
    ] = 0


class StageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the stage has to travel for the sample to move in the frame; for the suggested correction alone."""

    yy: Annotated[
        float, _meta("Travel of the stage along its y per um that the sample goes down in the frame.",
                     unit="um/um", low=-100.0, high=100.0, live=True)
    ] = 1.0
    yx: Annotated[
        float, _meta("Travel of the stage along its y per um that the sample goes right in the frame.",
                     unit="um/um", low=-100.0, high=100.0, live=True)
    ] = 0.0
    xy: Annotated[
        float, _meta("Travel of the stage along its x per um that the sample goes down in the frame.",
                     unit="um/um", low=-100.0, high=100.0, live=True)
    ] = 0.0
    xx: Annotated[
        float, _meta("Travel of the stage along its x per um that the sample goes right in the frame.",
                     unit="um/um", low=-100.0, high=100.0, live=True)
    ] = 1.0


class FlowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Optical flow against the reference."""

    enabled: Annotated[bool, Meta(description="Compute displacement fields.", extra={"live": True})] = True
    step_px: Annotated[int, _meta("Distance of the grid points of the published field.", unit="px", low=1, high=64)] = 8
    smoothing_px: Annotated[
        float, _meta("Gaussian sigma applied to the images before the flow.", unit="px", low=0.0, high=10.0)
    ] = 1.0
    method: Annotated[
        Literal["tracked", "single", "dis"],
        Meta(description="'tracked' averages in time, 'single' takes every frame by itself, 'dis' is OpenCV's dense "
                         "inverse search, medium, unrefined."),
    ] = "tracked"
    process: Annotated[
        bool, Meta(description="Compute the fields of a live run in a process of their own, where they do not hold up "
                   "the frames.")
    ] = True
    analysis_s: Annotated[
        float, _meta("Least time between two looks at the strain, regions and particles of a view; 0 for never.",
                     unit="s", low=0.0, high=1e6, live=True)
    ] = 2.0
    bright_particles: Annotated[
        bool, Meta(description="Particles are brighter than what lies between them (reflection), not darker.")
    ] = False


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the heavy part of the analysis runs."""

    kind: Annotated[
        Literal["inline", "threads", "dask"], Meta(description="'dask' needs the 'cluster' extra.")
    ] = "threads"
    workers: Annotated[
        int, _meta("Frames measured at the same time; 0 takes the number of cores.", low=0, high=256)
    ] = 0


class AlertsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a person is told."""

    stalled_s: Annotated[
        float, _meta("An open acquisition without a frame for this long raises an alert.",
                     unit="s", low=0.1, high=1e6, live=True)
    ] = 60.0
    jump_px: Annotated[
        float, _meta("A step of the drift larger than this raises an alert.", unit="px", low=0.1, high=1e5, live=True)
    ] = 40.0
    leaving_frames: Annotated[
        int, _meta("A region that will leave the field of view within so many frames raises an alert; 0 for never.",
                   unit="frames", low=0, high=100_000, live=True)
    ] = 20
    disk_free_gb: Annotated[
        float, _meta("Less free disk than this raises an alert.", unit="GB", low=0.0, high=1e6, live=True)
    ] = 1.0
    drift_px: Annotated[
        float, _meta("A trend of the drift faster than this raises an alert; 0 for never.",
                     unit="px/frame", low=0.0, high=1e5, live=True)
    ] = 10.0
    overload_share: Annotated[
        float, _meta("A queue that stays filled to this share raises an alert.", low=0.1, high=1.0, live=True)
    ] = 0.9
    escalate_s: Annotated[
        float, _meta("An alert that nobody acknowledges for so long escalates: MINOR becomes MAJOR; 0 for never.",
                     unit="s", low=0.0, high=1e6, live=True)
    ] = 300.0


class RecollectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests to take frames again."""

    automatic: Annotated[
        bool, Meta(description="Ask for blurred and bad frames without being told.", extra={"live": True})
    ] = True
    shortest_px: Annotated[
        float, _meta("Blur shorter than this is not worth another exposure; 0 asks for every blurred frame.",
                     unit="px", low=0.0, high=100.0, live=True)
    ] = 2.0
    limit: Annotated[
        int, _meta("A frame is given up when it was taken again so often without becoming sharp.",
                   unit="frames", low=1, high=100, live=True)
    ] = 5


class PicturesSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures of the frames for the screen, kept in the folder of the session."""

    kept_mb: Annotated[
        float, _meta("Disk for pictures; the oldest of unremarkable frames make room. 0 keeps none.",
                     unit="MB", low=0.0, high=1e7, live=True)
    ] = 2000.0
    offline: Annotated[
        Literal["none", "thumbnails", "all"],
        Meta(description="What 'analyse' keeps; full pictures cost a tenth of its speed, and the recording has them."),
    ] = "thumbnails"


Loudness = Literal["MINOR", "MAJOR", "INVALID"]


class NotifySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of alerts; a channel works when it is given where to."""

    jsonl_path: Annotated[
        str, Meta(description="File to which alerts are appended, a line of JSON each; empty for none.")
    ] = ""
    jsonl_severity: Annotated[Loudness, Meta(description="Least severity of an alert for the file.")] = "MINOR"
    command: Annotated[
        tuple[str, ...],
        Meta(description="Program and its arguments, run for alerts without a shell; {severity}, {rule}, {text}, ... "
             "are replaced. Empty for none."),
    ] = ()
    command_severity: Annotated[Loudness, Meta(description="Least severity of an alert for the program.")] = "MAJOR"
    webhook_url: Annotated[
        str, _meta("Address to which alerts are posted as JSON; empty for none.", secret=True)
    ] = ""
    webhook_severity: Annotated[Loudness, Meta(description="Least severity of an alert for the webhook.")] = "MAJOR"
    apprise_urls: Annotated[
        tuple[str, ...],
        _meta("E-mail and chat services as apprise addresses, such as mailto://...; needs the 'notify' extra.",
              secret=True),
    ] = ()
    apprise_severity: Annotated[Loudness, Meta(description="Least severity of an alert for these services.")] = "MAJOR"
    apprise_interval_s: Annotated[
        float, _meta("Least time between two messages to one of these services; what comes meanwhile goes together.",
                     unit="s", low=0.0, high=86_400.0)
    ] = 60.0
    interval_s: Annotated[
        float, _meta("Least time between two calls of any other channel; what comes meanwhile goes together.",
                     unit="s", low=0.0, high=86_400.0)
    ] = 1.0
    timeout_s: Annotated[
        float, _meta("A program or webhook that takes longer has failed.", unit="s", low=0.05, high=600.0)
    ] = 10.0
    retry_s: Annotated[
        float, _meta("A channel that failed is tried again after this time, then after twice as long, and so on.",
                     unit="s", low=0.01, high=600.0)
    ] = 1.0
    epics_prefix: Annotated[
        str, Meta(description="Start of the names of the EPICS process variables, such as 'TXM:Live:'; empty for none. "
                  "Needs the 'epics' extra.")
    ] = ""
    epics_network: Annotated[
        Literal["loopback", "environment", "isolated"],
        Meta(description="Who reaches the process variables: 'loopback' this machine on the usual port, 'environment' "
             "what EPICS_PVAS_* says, 'isolated' this machine on any free port."),
    ] = "loopback"


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures for Prometheus."""

    endpoint: Annotated[
        str, Meta(description="HOST:PORT on which Prometheus may ask, such as '127.0.0.1:9108'; empty for none. "
                  "Needs the 'metrics' extra.")
    ] = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of the streamer."""

    pixel_size_nm: Annotated[
        float, _meta("Size of a pixel on the sample; 0 takes it from the frames, if they tell.",
                     unit="nm", low=0.0, high=1e6)
    ] = 0.0
    frames: FramesSettings = FramesSettings()
    results: ResultsSettings = ResultsSettings()
    control: ControlSettings = ControlSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    blur: BlurSettings = BlurSettings()
    drift: DriftSettings = DriftSettings()
    forecast: ForecastSettings = ForecastSettings()
    stage: StageSettings = StageSettings()
    flow: FlowSettings = FlowSettings()
    engine: EngineSettings = EngineSettings()
    alerts: AlertsSettings = AlertsSettings()
    recollect: RecollectSettings = RecollectSettings()
    notify: NotifySettings = NotifySettings()
    metrics: MetricsSettings = MetricsSettings()
    pictures: PicturesSettings = PicturesSettings()


class Setting(msgspec.Struct, frozen=True):
    """Description of one setting, for the help page and for messages."""

    key: str
    type: Any
    default: Any
    text: str
    unit: str
    low: float | None
    high: float | None
    live: bool
    secret: bool

    @property
    def default_text(self) -> str:
        """The default as a settings file writes it."""
        return _literal(self.default)

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if get_origin(self.type) is Literal:
            return "one of " + ", ".join(repr(choice) for choice in get_args(self.type))
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return "a text"
        if get_origin(self.type) is tuple:
            return "a list of texts"
        kind = "a whole number" if self.type is int else "a number"
        if self.low is None and self.high is None:
            return kind
        return f"{kind} from {self.low:g} to {self.high:g}"


def describe() -> dict[str, Setting]:
    """Describe every setting, by its dotted key, in the order of the page."""
    return {setting.key: setting for setting in _walk(Settings, "")}


def _walk(section: type[msgspec.Struct], prefix: str) -> Iterable[Setting]:
    hints = get_type_hints(section, include_extras=True)
    defaults = section()
    for name in section.__struct_fields__:
        hint = hints[name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _walk(hint, f"{name}.")
            continue
        plain, meta = get_args(hint)[:2]
        extra = meta.extra or {}
        yield Setting(prefix + name, plain, getattr(defaults, name), meta.description or "",
                      extra.get("unit", ""), meta.ge, meta.le, bool(extra.get("live", False)),
                      bool(extra.get("secret", False)))


def load(path: Path | None = None, assignments: Iterable[str] = ()) -> Settings:
    """Read settings from a TOML file and from ``KEY=VALUE`` assignments, which win.

    Raises
    ------
    SettingsError
        Naming the key, the value, what is allowed, and the nearest known name.
    """
    return update(Settings(), changes_of(path, assignments))


def changes_of(path: Path | None = None, assignments: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a TOML file and assignments, which win, set: values by dotted key, for `update`; raises like it."""
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"settings file {path}: {error.strerror or error}; check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"settings file {path} is not valid TOML: {error}") from error
    return _flatten(tree) | assigned(assignments)


def assigned(assignments: Iterable[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` assignments; SettingsError for one without an equals sign."""
    flat: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment!r}: expected KEY=VALUE, such as --set blur.tolerance_px=2.5")
        flat[key.strip()] = _parse(key.strip(), text.strip())
    return flat


def update(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return `settings` with the dotted keys of `changes` replaced, every value checked.

    Raises
    ------
    SettingsError
        If a key is unknown or a value not allowed.
    """
    tree = msgspec.to_builtins(settings)
    known = describe()
    for key, value in changes.items():
        setting = known.get(key)
        if setting is None:
            raise SettingsError(f"unknown setting {key!r}{_nearest(key, known)}; "
                                "'txm-streamer settings' lists them all")
        _check(setting, value)
        section, _, name = key.rpartition(".")
        (tree[section] if section else tree)[name] = value
    return msgspec.convert(tree, Settings)


def to_toml(settings: Settings | None = None, *, masked: bool = False) -> str:
    """Write all settings as a commented TOML page, which `load` reads back.

    `masked` is for pages that others may see: it hides addresses that hold a password or a key.
    """
    tree = msgspec.to_builtins(settings or Settings())
    lines = ["# Settings of txm-streamer. Every line shows the value in force; change what you need."]
    section = ""
    for key, setting in describe().items():
        head, _, name = key.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"[{section}]"]
        value = (tree[head] if head else tree)[name]
        if masked and setting.secret:
            value = _hidden(value)
        live = "; may be changed while running" if setting.live else ""
        unit = f" [{setting.unit}]" if setting.unit else ""
        lines += ["", f"# {setting.text}", f"# {setting.allowed}{unit}; default {setting.default_text}{live}",
                  f"{name} = {_literal(value)}"]
    return "\n".join(lines) + "\n"


def _hidden(value: Any) -> Any:
    """Show whether a text, or how many texts, are given, and no more."""
    return ["***"] * len(value) if isinstance(value, list | tuple) else value and "***"


def from_toml(text: str, *, secrets: Settings | None = None) -> Settings:
    """Read settings as `to_toml` wrote them; those that it hides are taken from `secrets`, else by default.

    Raises
    ------
    SettingsError
        If a key is unknown or a value not allowed.
    """
    hidden = {key for key, setting in describe().items() if setting.secret}
    given = _flatten(msgspec.to_builtins(secrets or Settings()))
    flat = _flatten(tomllib.loads(text))
    return update(Settings(), flat | {key: given[key] for key in hidden})


def from_session(text: str) -> tuple[Settings, list[str]]:
    """Read the settings of a session of any version; those that `to_toml` hides have their defaults.

    Returns
    -------
    settings : Settings
    left_out : list of str
        Keys that this version does not know, or whose values it does not allow; they have their defaults, too.
    """
    secret = {key for key, setting in describe().items() if setting.secret}
    settings, left_out = Settings(), []
    given = {key: value for key, value in _flatten(tomllib.loads(text)).items() if key not in secret}
    try:
        return update(settings, given), []
    except SettingsError:
        for key, value in given.items():
            try:
                settings = update(settings, {key: value})
            except SettingsError:
                left_out.append(key)
    return settings, left_out


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _parse(key: str, text: str) -> Any:
    """Read the right-hand side of ``KEY=VALUE``: TOML, or plain text for settings that are text."""
    setting = describe().get(key)
    if setting is not None and (setting.type is str or get_origin(setting.type) is Literal):
        return text.strip("\"'")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check(setting: Setting, value: Any) -> None:
    if setting.type is float and type(value) is int:
        value = float(value)
    hint: Any = Annotated[setting.type, Meta(ge=setting.low, le=setting.high)]
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        choices = list(get_args(setting.type)) if get_origin(setting.type) is Literal else []
        hint_text = _nearest(str(value), choices) if choices else ""
        shown = "***" if setting.secret else repr(value)
        raise SettingsError(f"setting {setting.key} = {shown} is not allowed: expected {setting.allowed}"
                            f"{hint_text} (default {setting.default_text})") from error


def _nearest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not close:   # a bare name is a common slip: 'tolerance_px' for 'blur.tolerance_px'
        close = [key for key in known if key.rpartition(".")[2] == word.rpartition(".")[2]][:1]
    return f"; did you mean {close[0]!r}?" if close else ""


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
