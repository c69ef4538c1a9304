"""The tables of a report: facts, data quality, particles, what differs from another session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.report.drawing import Scale
from streamer.report.methods import changed_settings
from streamer.report.page import Table
from streamer.service.report_data import Subject, numbers
from streamer.settings import Settings

MOST_PARTICLES = 40
_MOST_LINES = 15


def facts_table(subject: Subject, recording: str) -> Table:
    """Say what session this is."""
    facts, size = subject.facts, subject.pixel_size_nm
    ended = facts["ended_at"] if subject.is_complete else "not yet, or without a clean end: this page is of so far"
    light = facts["calibration"]
    corrected = {"flats": f"{light['flats']} flats, {light['darks']} darks", "none": "nothing: no flats",
                 "estimated": "the pattern of the detector as estimated from the frames",
                 }.get(light["pattern"], light["pattern"])
    lines = [
        ["session", f"{subject.name} ({subject.folder})"], ["input", str(facts["input"] or "live")],
        ["pictures", recording], ["view", f"{subject.view!r} of acquisition {subject.acquisition!r}"],
        ["started", str(facts["started_at"] or "not known")], ["ended", str(ended)],
        ["frames", f"{len(subject.every)} of this view, {len(subject.rows)} of them stand"],
        ["pixel", f"{size:.5g} nm on the sample" if size else
         "size not known: all lengths are in px (set pixel_size_nm to have them on the sample)"],
        ["corrected by", corrected],
        ["reference", f"frame {facts['reference'].get(subject.view, 'none')}"],
        ["settings", f"revision {facts['settings_revision']}"],
        ["made by", ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)]]
    if subject.others:
        lines.insert(4, ["not shown", "; ".join(subject.others)])
    return Table("", ("fact", ""), lines)


def overview(subject: Subject, scale: Scale) -> Table:
    """Give the results in numbers."""
    rows = subject.rows
    lines = []
    for axis, name in ((0, "y (down)"), (1, "x (right)")):
        letter = "yx"[axis]
        drift, jitter = (numbers(rows, f"{what}_{letter}_px") for what in ("drift", "jitter"))
        drift, jitter = drift[np.isfinite(drift)], jitter[np.isfinite(jitter)]
        if drift.size:
            lines.append([f"drift along {name}, last frame", scale.text(float(drift[-1])),
                          f"from {drift.min():+.1f} to {drift.max():+.1f} px"])
        if jitter.size > 1:
            lines.append([f"jitter along {name}, rms", scale.text(float(np.sqrt(np.mean(jitter**2)))),
                          f"largest {np.abs(jitter).max():.1f} px"])
    sigma = numbers(rows, "drift_sigma_px")
    if np.isfinite(sigma).any():
        lines.append(["error of the drift per axis, median", scale.text(float(np.nanmedian(sigma))),
                      f"largest {np.nanmax(sigma):.2f} px"])
    field = subject.analysed
    if field is not None and field.analysis is not None:
        error = field.sigma_px[field.valid]
        lines.append([f"displacement of frame {field.index} since {field.reference_index}, median",
                      scale.text(field.flow_median_px or 0.0),
                      (f"95 %: {field.flow_p95_px or 0.0:.2f} px; error per axis {np.median(error):.3f} px; "
                      f"{100 * field.valid.mean():.0f} % of {field.valid.size} points valid")])
        groups = field.analysis.get("regions") or []
        moves = "; ".join(f"{one['number']}: ({one['displacement_y_px']:+.2f}, {one['displacement_x_px']:+.2f}) px"
                          for one in groups)
        lines.append(["regions that move as one", str(len(groups)),
                      f"mean displacement (y, x) {moves}" if groups else str(field.analysis.get("regions_reason", ""))])
        volume = field.analysis.get("representative_volume")
        if volume:
            for what, unit in (("amplitude", "px"), ("direction", "deg")):
                side, deviation = volume[f"{what}_settled_px"], volume[f"{what}_deviation_{unit}"]
                lines.append([f"representative box for the {what}",
                              "not settled in this view" if side is None else scale.text(side),
                              (f"deviation falls from {_told(deviation, 0)} {unit} to "
                               f"{_told(deviation, len(deviation) // 2)} {unit} at half the view")])
    return Table("Results in numbers", ("quantity", "value", "more"), lines)


def _told(values: Sequence[float | None], place: int) -> str:
    known = next((value for value in values[place:] if value is not None), None)
    return "unknown" if known is None else f"{known:.3g}"


def quality_table(subject: Subject) -> Table:
    """Say how good the data are: where frames went, verdicts, limits, requests."""
    facts = subject.facts
    accounting = facts["accounting"]
    lines = [["received", str(accounting["received"]), "all kinds of frames of the session"],
             ["measured", str(accounting["measured"]), ""]]
    for name in ("missing", "duplicate", "out_of_order", "malformed", "refused", "dropped", "restarts"):
        tally = accounting[name]
        lines.append([name.replace("_", " "), str(tally["count"]), _ranges(tally["indices"])])
    every, standing = (Counter(row.verdict or "not measured" for row in rows) for rows in (subject.every, subject.rows))
    for verdict in dict.fromkeys((*every, *standing)):
        these = [row.index for row in subject.rows if (row.verdict or "not measured") == verdict]
        named = "" if verdict == "sharp" else f": {_ranges(_runs(these))}"
        lines.append([verdict, str(every[verdict]), f"{standing[verdict]} of the frames that stand{named}"])
    if all(verdict in {"blurred", "bad"} for verdict in standing):
        lines.append(["attention", "", ("no frame that stands is sharp: drift and displacement rest on blurred frames, "
                      "or are missing")])
    limits, scores = numbers(subject.rows, "blur_limit_px"), subject.settings.blur
    if np.isfinite(limits).any():
        lines.append(["shortest blur that could be seen", f"{np.nanmedian(limits):.2f} px (median)",
                      (f"largest {np.nanmax(limits):.2f} px; tolerance {scores.tolerance_px:g} px, "
                      f"threshold {scores.score_threshold:g} sigma")])
    sizes = [numbers(subject.rows, f"resolution_{axis}_nm") for axis in "yx"]
    if all(np.isfinite(size).any() for size in sizes):
        lines.append(["resolution, half-period, median", f"{np.nanmedian(sizes[1]):.0f} nm along x",
                      f"{np.nanmedian(sizes[0]):.0f} nm along y"])
    states = Counter(request.state for request in subject.recollections)
    lines.append(["requests to take frames again", str(len(subject.recollections)),
                  ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items())])
    again = [(row.index, row.recollects) for row in subject.rows if row.recollects is not None]
    lines.append(["frames that stand for others", str(len(again)),
                  ", ".join(f"{index} for {replaced}" for index, replaced in again[:_MOST_LINES])
                  + (f" and {len(again) - _MOST_LINES} more" if len(again) > _MOST_LINES else "")])
    rules = Counter(alert.rule for alert in subject.alerts)
    lines.append(["alerts", str(len(subject.alerts)),
                  ", ".join(f"{count} {rule.replace('_', ' ')}" for rule, count in rules.items())])
    if facts["lost_rows"]:
        lines.append(["rows lost", str(len(facts["lost_rows"])), "they could not be written to the journal"])
    return Table("Data quality", ("what", "how many", "more"), lines)


def problems_table(subject: Subject) -> Table | None:
    """List what was said of frames, most frequent first, and what happened to the stream; None when all was well."""
    said: dict[str, list[int]] = {}
    for row in subject.every:
        for text in filter(None, row.problems.split("; ")):
            said.setdefault(_without_numbers(text), []).append(row.index)
    lines = [[text, str(len(where)), _ranges(_runs(where))]
             for text, where in sorted(said.items(), key=lambda found: -len(found[1]))[:_MOST_LINES]]
    lines += [[event.kind.replace("_", " "), "", event.text] for event in subject.events[:_MOST_LINES]]
    if not lines:
        return None
    hidden = max(len(said) - _MOST_LINES, 0) + max(len(subject.events) - _MOST_LINES, 0)
    return Table("Problems of frames, and events of the stream", ("problem", "frames", "which"), lines,
                 f"{hidden} more are in frames.csv and the journal." if hidden else "")


def _without_numbers(text: str) -> str:
    """Make alike what differs in its numbers alone."""
    return " ".join("…" if any(mark.isdigit() for mark in word) else word for word in text.split(" "))


def particles_table(subject: Subject, scale: Scale) -> tuple[Table | None, dict[str, list[Any]], str]:
    """Tell how the particles moved: the largest ones for the page, all for a file, and why there are none."""
    field = subject.analysed
    analysis: Mapping[str, Any] = {} if field is None or field.analysis is None else field.analysis
    particles = analysis.get("particles") or []
    if not particles:
        reason = analysis.get("particles_reason") or "the session has not looked at the particles of the newest field"
        return None, {}, str(reason)
    names = list(particles[0])
    columns = {name: [one[name] for one in particles] for name in names}
    shown = sorted(particles, key=lambda one: -one["area_px2"])[:MOST_PARTICLES]
    lines = [[str(one["number"]), f"{one['centre_y_px']:.0f}, {one['centre_x_px']:.0f}", f"{one['area_px2']:.0f}",
              *([_pm(one["displacement_y_px"], one["sigma_y_px"], 2),
                 _pm(one["displacement_x_px"], one["sigma_x_px"], 2),
                 _pm(one["rotation_deg"], one["rotation_sigma_deg"], 2),
                 _pm(100 * one["dilation"], _times(one["dilation_sigma"], 100), 2)]
                if one["valid"] else ["not measured", "", "", ""])] for one in shown]
    size = f" A pixel is {scale.pixel_size_nm:.4g} nm." if scale.pixel_size_nm else ""
    more = len(particles) - len(shown)
    return Table(
        f"Particles of frame {analysis and field and field.reference_index} in frame {field and field.index}",
        ("particle", "centre y, x (px)", "area (px²)", "displacement y (px)", "displacement x (px)", "rotation (deg)",
         "growth of area (%)"), lines,
        (f"The {len(shown)} largest; {more} more are in the file of numbers (--figures)." if more else "")
        + f" Errors are 1 sigma.{size} Not measured: out of view, without texture, or not matched."), columns, ""


def _pm(value: float, sigma: float | None, digits: int) -> str:
    return f"{value:+.{digits}f}" + ("" if sigma is None else f" ± {sigma:.{digits}f}")


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def difference_tables(subject: Subject, other: Subject) -> list[Table]:
    """Say what differs between two sessions: results, verdicts of frames that both hold, settings."""
    lines = []
    for name, tell in _COMPARED.items():
        lines.append([name, tell(subject), tell(other)])
    tables = [Table(f"{subject.name} and {other.name}", ("quantity", subject.name, other.name), lines)]
    theirs = {row.index: row for row in other.rows} if other.acquisition == subject.acquisition else {}
    changed = [[str(row.index), row.verdict or "", theirs[row.index].verdict or ""] for row in subject.rows
               if row.index in theirs and theirs[row.index].verdict != row.verdict]
    if theirs:
        tables.append(Table(f"Frames judged differently: {len(changed)}", ("frame", subject.name, other.name),
                            changed[:_MOST_LINES], "" if len(changed) <= _MOST_LINES else
                            f"{len(changed) - _MOST_LINES} more are not listed."))
    settings = changed_settings(*(msgspec.to_builtins(one.settings) for one in (subject, other)))
    tables.append(Table("Settings that differ" if settings else "No setting differs",
                        ("setting", subject.name, other.name), settings))
    return tables


def _amount(subject: Subject, axis: str) -> str:
    values = numbers(subject.rows, axis)
    values = values[np.isfinite(values)]
    return "not known" if not values.size else f"{values[-1]:+.2f} px"


def _spread(subject: Subject, axis: str) -> str:
    values = numbers(subject.rows, axis)
    values = values[np.isfinite(values)]
    return "not known" if not values.size else f"{np.sqrt(np.mean(values**2)):.2f} px"


def _median(subject: Subject) -> str:
    field = subject.analysed
    if field is None:
        return "no field"
    return f"{field.flow_median_px or 0.0:.3f} px, frame {field.index} since {field.reference_index}"


_COMPARED: dict[str, Callable[[Subject], str]] = {
    "frames that stand": lambda subject: str(len(subject.rows)),
    "blurred": lambda subject: str(sum(row.verdict == "blurred" for row in subject.rows)),
    "bad": lambda subject: str(sum(row.verdict == "bad" for row in subject.rows)),
    "y drift, last frame": lambda subject: _amount(subject, "drift_y_px"),
    "x drift, last frame": lambda subject: _amount(subject, "drift_x_px"),
    "y jitter, rms": lambda subject: _spread(subject, "jitter_y_px"),
    "x jitter, rms": lambda subject: _spread(subject, "jitter_x_px"),
    "median displacement": _median,
    "regions": lambda subject: str(len((subject.analysed.analysis or {}).get("regions", ())))
    if subject.analysed is not None else "no field",
}


def settings_table(subject: Subject) -> Table:
    """List the settings that are not the usual ones."""
    changed = changed_settings(msgspec.to_builtins(subject.settings), msgspec.to_builtins(Settings()))
    return Table("Settings that differ from the usual ones" if changed else "All settings are the usual ones",
                 ("setting", "value", "usual"), changed)


def _runs(indices: Iterable[int]) -> list[int | tuple[int, int]]:
    """Write consecutive numbers as ranges."""
    found: list[int | tuple[int, int]] = []
    for index in sorted(set(indices)):
        last = found[-1] if found else None
        end = last[1] if isinstance(last, tuple) else last
        if end is not None and index == end + 1:
            found[-1] = (last[0] if isinstance(last, tuple) else end, index)
        else:
            found.append(index)
    return found


def _ranges(indices: Sequence[Any]) -> str:
    """Write numbers and ranges, the first of them."""
    told = ", ".join(str(one) if isinstance(one, int) else f"{one[0]}-{one[1]}" for one in indices[:_MOST_LINES])
    return told + (f" and {len(indices) - _MOST_LINES} more" if len(indices) > _MOST_LINES else "")
