"""The report of a session: gathers what the figures and tables need, and writes the page."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamer import __version__
from streamer.formats import Recording
from streamer.records import Alert
from streamer.report import figure_timeline
from streamer.report.drawing import Drawn, Scale, as_csv, journal_style
from streamer.report.figure_pairs import Box
from streamer.report.methods import Facts, paragraph
from streamer.report.page import Page, Section, check_place, render, save_figures, write_file
from streamer.service import report_figures as figures
from streamer.service import report_tables as tables
from streamer.service.report_data import Subject, numbers, read_subject, verdicts
from streamer.service.report_pictures import Album
from streamer.service.report_truth import beside, read_truth


class Wishes(NamedTuple):
    """What is asked of a report beside the usual."""

    figures: Path | None = None
    """Folder for every figure as PDF and PNG, and its numbers."""
    compare: Path | None = None
    """Another session."""
    pairs: tuple[tuple[int, int], ...] = ()
    """At most two."""
    regions: tuple[Box, ...] = ()
    """At most two, to enlarge."""
    acquisition: str | None = None
    view: str | None = None


class Written(NamedTuple):
    """What was written."""

    page: Path
    size_bytes: int
    figures: list[Path]
    missing: list[str]
    """Figures that are not there, and why."""


def write_report(folder: Path, out: Path, *, recording: Recording | None = None, why_none: str = "",
                 wishes: Wishes | None = None, on_progress: Callable[[], None] | None = None) -> Written:
    """Write the report of a session as one HTML file, and its figures if asked.

    Parameters
    ----------
    folder : Path
        The session, ended or still being written.
    out : Path
        The page; one of before stays until the new one is whole.
    recording : Recording, optional
        Open: what the session was made of. Without it, pictures are those that the streamer has kept.
    why_none : str
        Why there is no recording.
    wishes : Wishes, optional
    on_progress : callable, optional
        Called after each of `STEPS` steps.

    Raises
    ------
    SessionError
        If a session cannot be read, or a file not be written.
    CommandError
        If there is nothing to report, or a pair that is wanted cannot be measured.
    """
    wishes, step = wishes or Wishes(), on_progress or (lambda: None)
    check_place(out)
    subject = read_subject(folder, acquisition=wishes.acquisition, view=wishes.view)
    other = None if wishes.compare is None else read_subject(wishes.compare)
    album = Album(subject, recording, why_none)
    step()
    with journal_style():
        sections, missing = _sections(subject, other, album, wishes, step)
    drawn = [one for section in sections for one in section.figures]
    written = []
    if wishes.figures is not None:
        written = save_figures(drawn, wishes.figures)
        _, columns, _ = tables.particles_table(subject, Scale(subject.pixel_size_nm))
        if columns:
            written.append(wishes.figures / "particles.csv")
            write_file(written[-1], as_csv(columns).encode())
    step()
    page = _page(subject, sections)
    data = render(page).encode()
    write_file(out, data)
    step()
    return Written(out, len(data), written, missing)


STEPS = 11


def _page(subject: Subject, sections: Sequence[Section]) -> Page:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    bad = sum(row.verdict == "bad" for row in subject.rows)
    blurred = sum(row.verdict == "blurred" for row in subject.rows)
    so_far = "" if subject.is_complete else " so far (the session has no end yet)"
    subtitle = (f"{len(subject.rows)} frames{so_far}: {blurred} blurred, {bad} bad. Started "
                f"{(subject.facts['started_at'] or 'at a time not known')[:19].replace('T', ' ')} UTC.")
    return Page(f"Session {subject.name}", subtitle, sections, f"txm-live {__version__}, {now}")


def _sections(subject: Subject, other: Subject | None, album: Album, wishes: Wishes, step: Callable[[], None]
              ) -> tuple[list[Section], list[str]]:
    scale, missing = Scale(subject.pixel_size_nm), []

    def section(anchor: str, title: str, drawn: Drawn | str) -> Section:
        step()
        if isinstance(drawn, str):
            missing.append(f"{title}: {drawn}")
            return Section(anchor, title, [f"Not shown: {drawn}."])
        return Section(anchor, title, figures=[drawn])

    timeline = figure_timeline.draw(verdicts(subject), _own_alerts(subject), scale,
                                    tolerance_px=subject.settings.blur.tolerance_px)
    middle = [
        section("timeline", "Verdicts and alerts", timeline),
        section("blur", "Blurred and sharp frames", figures.blur_figure(subject, album, scale)),
        section("drift", "Registration and drift", figures.drift_figure(subject, album, scale)),
        section("pairs", "Displacement between pairs of frames",
                figures.pairs_figure(subject, album, scale, wanted=wishes.pairs, boxes=wishes.regions)),
        section("deformation", "Deformation", figures.field_figure(subject, album, scale, other=other)),
        section("strain", "Strain", figures.strain_figure(subject, scale)),
        section("errors", "Uncertainty and growth", figures.error_figure(subject, scale)),
        section("restored", "Previews of blurred frames", figures.restored_figure(subject, album, scale)),
    ]
    particles, _, reason = tables.particles_table(subject, scale)
    middle.append(Section("particles", "Particles", [] if particles else [f"Not shown: {reason}."],
                          [] if particles is None else [particles]))
    where = str(album.recording.path) if album.recording is not None else f"no recording: {album.reason}"
    sections = [Section("facts", "Session", tables=[tables.facts_table(subject, where),
                                                    tables.overview(subject, scale)]), *middle]
    if other is not None:
        sections.append(Section("comparison", f"Compared with {other.name}",
                                tables=tables.difference_tables(subject, other)))
    truth = None if album.recording is None else read_truth(album.recording.path)
    if truth is not None:
        sections.append(Section("truth", "Results beside the truth", tables=[beside(subject, truth)]))
    quality = [tables.quality_table(subject), tables.problems_table(subject)]
    sections += [Section("quality", "Data quality", tables=[one for one in quality if one is not None]),
                 Section("methods", "Methods", [paragraph(_facts(subject))], [tables.settings_table(subject)])]
    return sections, missing


def _own_alerts(subject: Subject) -> list[Alert]:
    return [alert for alert in subject.alerts
            if alert.view in {"", subject.view} and alert.acquisition in {"", subject.acquisition}]


def _facts(subject: Subject) -> Facts:
    light, field = subject.facts["calibration"], subject.analysed
    sigma = numbers(subject.rows, "drift_sigma_px")
    return Facts(
        frames=len(subject.every), blurred=sum(row.verdict == "blurred" for row in subject.every),
        taken_again=sum(row.recollects is not None for row in subject.rows), flats=light["flats"],
        darks=light["darks"], pattern=light["pattern"], photons_per_px=light["photons_per_px"],
        reference=subject.facts["reference"].get(subject.view),
        drift_sigma_px=float(np.nanmedian(sigma)) if np.isfinite(sigma).any() else None,
        flow_sigma_px=float(np.median(field.sigma_px[field.valid])) if field is not None else None,
        pixel_size_nm=subject.pixel_size_nm, settings=subject.facts["settings"],
        settings_revision=subject.facts["settings_revision"], versions=subject.facts["versions"])
