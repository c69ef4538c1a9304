"""The figures of a report, each from what the session and its pictures give, or the reason why it is not there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamer.errors import CommandError, FrameError, RecordingError
from streamer.imaging import comparison, segmentation
from streamer.imaging.warp import moved_back
from streamer.records import FrameRow
from streamer.report import figure_blur, figure_drift, figure_field, figure_material, figure_pairs, figure_restored
from streamer.report.drawing import Drawn, Scale
from streamer.report.figure_pairs import Box, Pair
from streamer.service.displacement import measure_pair
from streamer.service.report_data import Subject, growth, plain, way
from streamer.service.report_pictures import Album, Look
from streamer.service.restoration import restore_frame
from streamer.tracking.material import strain_planes

PAPER_PAIRS = ((3, 13), (13, 35))
PAPER_FRAMES = 56
_SHORT, _LONG = 36, 2 * PAPER_FRAMES
"""Runs of so many frames have the pairs of the paper; others have pairs at the same share of the run."""
MOST_RESTORED = 3
_LEAST_IN_VIEW = 0.4
_NO_FIELD = ("there is no displacement field: flow was switched off, or no two good frames of the view could be "
             "compared (see the problems in the data-quality table)")


def blur_figure(subject: Subject, album: Album, scale: Scale) -> Drawn | str:
    """Figure 1: the most blurred frame and the nearest sharp one."""
    blurred = sorted((row for row in subject.every if row.verdict == "blurred" and row.blur_length_px),
                     key=lambda row: (row.blur_shape != "motion", -(row.blur_length_px or 0.0)))
    sharp = [row for row in subject.every if row.verdict == "sharp"]
    if not blurred:
        return "no frame was found blurred; there is nothing to compare"
    if not sharp:
        return "no frame is sharp; there is nothing to compare the blurred ones with"
    row = blurred[0]
    other = min(sharp, key=lambda one: abs(one.index - row.index))
    spectra = [subject.spectra(one.index) for one in (row, other)]
    if spectra[0] is None or spectra[1] is None:
        return "the session keeps no spectra of these frames"
    looks = [album.look(one) for one in (row, other)]
    sides = [figure_blur.Side(f"frame {one.index}", _blur_told(one), spectrum,
                              None if look is None else look.corrected, 1 if look is None else look.binning)
             for one, spectrum, look in zip((row, other), (spectra[0], spectra[1]), looks, strict=True)]
    return figure_blur.draw(sides[0], sides[1], scale, no_picture=album.reason)


def drift_figure(subject: Subject, album: Album, scale: Scale) -> Drawn | str:
    """Figure 2: two frames far apart, and the course of the drift."""
    course = way(subject)
    if not np.isfinite(course.drift_px).any():
        return "the drift of no frame is known"
    return figure_drift.draw(course, _two_frames(subject, album), scale)


def _two_frames(subject: Subject, album: Album) -> figure_drift.TwoFrames | None:
    good = [row for row in subject.rows if row.verdict == "sharp" and row.drift_y_px is not None]
    first = next((look for look in ((row, album.look(row)) for row in good[:1]) if look[1] is not None), None)
    if first is None or first[1] is None or len(good) < 2:
        return None
    reference, look = first[0], first[1]
    shape = [side * look.binning for side in look.corrected.shape]
    seen = [row for row in good[1:] if _in_view(_between(reference, row), shape) >= _LEAST_IN_VIEW] or good[1:]
    moved = max(seen, key=lambda row: float(np.hypot(*_between(reference, row))))
    other = album.look(moved)
    if other is None or other.corrected.shape != look.corrected.shape:
        return None
    drift = _between(reference, moved)
    back = moved_back(other.corrected, drift_px=(drift[0] / look.binning, drift[1] / look.binning))
    return figure_drift.TwoFrames(f"frame {reference.index}", f"frame {moved.index}", look.corrected, other.corrected,
                                  back, drift, look.binning)


def _between(first: FrameRow, second: FrameRow) -> tuple[float, float]:
    return ((second.drift_y_px or 0.0) - (first.drift_y_px or 0.0),
            (second.drift_x_px or 0.0) - (first.drift_x_px or 0.0))


def _in_view(drift_px: Sequence[float], shape: Sequence[int]) -> float:
    return float(np.prod([max(0.0, 1.0 - abs(way) / side) for way, side in zip(drift_px, shape, strict=True)]))


def pairs_figure(subject: Subject, album: Album, scale: Scale, *, wanted: Sequence[tuple[int, int]] = (),
                 boxes: Sequence[Box] = ()) -> Drawn | str:
    """Figure 3: the displacement of the pairs that are wanted, else of those that suit.

    Raises
    ------
    CommandError
        If a pair that is wanted cannot be measured.
    """
    found, trouble = _pairs(subject, album, wanted)
    if not found:
        return trouble
    row = subject.row(found[0].first)
    look = None if row is None else album.look(row)
    picture = None if look is None else _full(look)
    return figure_pairs.draw(found[:2], scale, picture=picture, boxes=boxes)


def _full(look: Look) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return a picture in the pixels of the frame."""
    if look.binning == 1:
        return look.corrected
    return np.repeat(np.repeat(look.corrected, look.binning, axis=0), look.binning, axis=1)


def _pairs(subject: Subject, album: Album, wanted: Sequence[tuple[int, int]]) -> tuple[list[Pair], str]:
    if wanted:
        return [_measured(subject, album, *pair) for pair in wanted], ""
    if not subject.settings.flow.enabled or not subject.fields:
        return [], _NO_FIELD
    try:
        return [_measured(subject, album, *pair) for pair in suitable_pairs(subject)], ""
    except (CommandError, RecordingError, FrameError):
        return _stored(subject), _NO_FIELD


def suitable_pairs(subject: Subject) -> list[tuple[int, int]]:
    """Return the pairs of the paper where the run is about as long as there, else pairs at the same share of it.

    A frame that cannot be used is stood for by the nearest one that can.
    """
    good = {place: row.index for place, row in zip(subject.places, subject.rows, strict=True)
            if row.verdict in {"sharp", "undecided"} and row.drift_y_px is not None}
    if len(good) < 2:
        return []
    count = max(subject.places) + 1
    share = 1.0 if _SHORT <= count <= _LONG else count / PAPER_FRAMES
    found = []
    for first, second in PAPER_PAIRS:
        ends = [good[min(good, key=lambda place, end=end: abs(place - end * share))]  # type: ignore[misc]
                for end in (first, second)]
        if ends[0] != ends[1]:
            found.append((ends[0], ends[1]))
    return found or [(good[min(good)], good[max(good)])]


def _measured(subject: Subject, album: Album, first: int, second: int) -> Pair:
    row = subject.row(first)
    if (second, first) in subject.fields and row is not None:
        return _pair(subject, row, second)
    if album.recording is None:
        raise CommandError(f"the displacement from frame {first} to {second} needs their pictures: {album.reason}")
    report = measure_pair(album.recording, subject.folder, first, second, acquisition=subject.acquisition)
    field = report.field
    return Pair(first, second, (field.drift_y_px, field.drift_x_px), plain(field), _origin(row),
                "; ".join(report.remarks))


def _stored(subject: Subject) -> list[Pair]:
    """Return fields of the session, against its own reference, when no others can be measured."""
    places = {row.index: place for place, row in zip(subject.places, subject.rows, strict=True)}
    last = max(subject.places)
    chosen: dict[int, int] = {}
    for _, second in PAPER_PAIRS:
        index, reference = min(subject.fields, key=lambda field: abs(places[field[0]] - last * second / PAPER_FRAMES))
        chosen[index] = reference
    return [_pair(subject, row, index) for index, reference in chosen.items()
            if (row := subject.row(reference)) is not None]


def _pair(subject: Subject, reference: FrameRow, index: int) -> Pair:
    field = subject.field(index)
    return Pair(reference.index, index, (field.drift_y_px, field.drift_x_px), plain(field), _origin(reference))


def _origin(row: FrameRow | None) -> tuple[float, float]:
    return (0.0, 0.0) if row is None else (row.drift_y_px or 0.0, row.drift_x_px or 0.0)


def field_figure(subject: Subject, album: Album, scale: Scale, *, other: Subject | None = None) -> Drawn | str:
    """Figure 4: the newest field."""
    field = subject.analysed
    if field is None or field.regions is None or field.analysis is None:
        return _NO_FIELD
    compared = None
    if other is not None and other.analysed is not None:
        sizes = other.pixel_size_nm, subject.pixel_size_nm
        factor = sizes[0] / sizes[1] if sizes[0] and sizes[1] else 1.0   # to the px of this session
        compared = figure_field.Other(other.name, subject.name,
                                      factor * np.hypot(*other.analysed.displacement_px)[other.analysed.valid],
                                      is_same_length=bool(sizes[0] and sizes[1]) or sizes[0] == sizes[1])
    found = figure_field.Deformed(field.index, field.reference_index, plain(field), field.regions,
                                  field.analysis.get("representative_volume"))
    return figure_field.draw(found, scale, pictures=_field_pictures(subject, album), no_picture=album.reason,
                             other=compared)


def _field_pictures(subject: Subject, album: Album) -> figure_field.Pictures | None:
    field = subject.analysed
    rows = [] if field is None else [subject.row(index) for index in (field.index, field.reference_index)]
    looks = [None if row is None else album.look(row) for row in rows]
    if field is None or looks[0] is None:
        return None
    look, reference = looks[0], looks[1]
    difference = particles = None
    if reference is not None and reference.corrected.shape == look.corrected.shape:
        drift = field.drift_y_px / look.binning, field.drift_x_px / look.binning
        try:
            difference = comparison.differential_map(reference.corrected, look.corrected, drift_px=drift)
        except FrameError:
            difference = None
        particles = _particles(subject, reference)
    return figure_field.Pictures(look.raw, difference, particles, look.binning)


def _particles(subject: Subject, look: Look) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
    weight = look.weight if look.binning == 1 else None
    try:
        found = segmentation.segment(look.corrected, bright=subject.settings.flow.bright_particles, weight=weight)
    except FrameError:
        return None
    return found.labels > 0 if found.count else None


def strain_figure(subject: Subject, scale: Scale) -> Drawn | str:
    """Strain of the newest field."""
    field = subject.analysed
    planes = None if field is None else strain_planes(field)
    if field is None:
        return _NO_FIELD
    if planes is None or not np.isfinite(planes).any():
        return "the displacement field is too small, or too little of it is valid, for strain"
    return figure_material.draw_strain(plain(field), planes, field.index, scale)


def error_figure(subject: Subject, scale: Scale) -> Drawn | str:
    """Errors of the newest field, and the displacement against time."""
    field = subject.analysed
    if field is None:
        return _NO_FIELD
    return figure_material.draw_errors(plain(field), field.index, growth(subject), scale)


def restored_figure(subject: Subject, album: Album, scale: Scale) -> Drawn | str:
    """Previews of the most blurred frames, of different point-spread functions where there are some."""
    blurred = sorted((row for row in subject.every if row.verdict == "blurred" and row.blur_length_px),
                     key=lambda row: -(row.blur_length_px or 0.0))
    if not blurred:
        return "no frame was found blurred"
    if album.recording is None:
        return f"restoring a frame needs the recording: {album.reason}"
    firsts = list({row.psf_group: row for row in reversed(blurred)}.values())   # the longest of each group
    chosen = sorted(firsts, key=lambda row: -(row.blur_length_px or 0.0))[:MOST_RESTORED]
    found, trouble = [], ""
    for row in chosen:
        look = album.look(row)
        if look is None or look.full is None:
            continue
        try:
            image, recovery = restore_frame(album.recording, subject.folder, row.index, acquisition=row.acquisition)
        except (CommandError, FrameError, RecordingError) as error:
            trouble = str(error)
            continue
        found.append(figure_restored.Restored(row.index, _blur_told(row), look.full, image, recovery))
    return figure_restored.draw(found, scale) if found else trouble or album.reason


def _blur_told(row: FrameRow) -> str:
    if row.verdict != "blurred" or row.blur_length_px is None:
        return row.verdict or "not judged"
    sigma = "" if row.blur_length_sigma_px is None else f" ± {row.blur_length_sigma_px:.1f}"
    angle = "" if row.blur_angle_deg is None else f" along {round(row.blur_angle_deg)}°"
    return f"{row.blur_length_px:.1f}{sigma} px{angle}"
