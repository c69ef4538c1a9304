"""The flow between two frames: rest, rigid shifts, steep fields, and real frames of known or unknown motion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tifffile
from drift_real import DATA
from flow_peers import DIS_MEDIUM, peers
from flow_peers import flow as peer_flow
from flow_sequences import Sequence
from numpy.typing import NDArray
from scipy import ndimage

from streamer.imaging import flow
from streamer.records import FloatArray
from streamer.settings import FlowSettings
from streamer.tracking.deformation import Deformation

Row = tuple[str, str, str]
CHALLENGE = DATA / "dic_challenge"
_SPECKLE_PX = 1.6
_RAMP_PX = 10.0
_MATCH_PX = 31


def pair_rows(seeds: list[int]) -> Iterator[Row]:
    """Yield what, asked and measured."""
    yield rest_row(seeds)
    yield bias_row(seeds)
    yield from steep_rows(seeds)
    if CHALLENGE.is_dir():
        yield from challenge_rows()
        yield open_hole_row()
    else:
        yield ("real frames", "", "none: they are expected beside the project, in shared/data")


def single(first: NDArray[Any], second: NDArray[Any], *, step_px: int = 8) -> flow.Field:
    """Our field from two frames alone."""
    return flow.displacement(flow.prepare(first), flow.prepare(second), drift_px=(0.0, 0.0), step_px=step_px)


def at_grid(dense: FloatArray, grid_y: FloatArray, grid_x: FloatArray) -> FloatArray:
    """Read (2, M, N) at the points of a grid."""
    map_x, map_y = np.meshgrid(grid_x, grid_y)
    return np.stack([cv2.remap(np.ascontiguousarray(part, np.float32), map_x, map_y, cv2.INTER_LINEAR)
                     for part in dense])


def rest_row(seeds: list[int]) -> Row:
    """Nothing moves but what the drift missed: 16 frames at 500 photons, by themselves and followed."""
    alone, followed, theirs = [], [], []
    for seed in seeds:
        sequence = Sequence("smooth", seed, frames=16, amplitude_px=1e-9)
        sequence.blurs.clear()
        reference = sequence.frame(0, 500.0)
        follower = Deformation(FlowSettings())
        follower.update("", ("", 0), reference, drift_px=(0.0, 0.0), verdict="sharp")
        for index in range(1, 16):
            frame = sequence.frame(index, 500.0)
            result = follower.update("", ("", index), frame, drift_px=(0.0, 0.0), verdict="sharp").result
            assert result is not None
            grid = result.grid_y_px, result.grid_x_px
            on, truth = sequence.on_particles(*grid), sequence.truth(index, *grid)
            if index > 8:
                followed.append(_square(result.displacement_px - truth, result.valid & on))
            if index in {5, 15}:
                field = single(reference, frame)
                alone.append(_square(field.displacement_px - truth, field.valid & on))
                dense = peer_flow(peers()[DIS_MEDIUM], reference, frame)
                theirs.append(_square(at_grid(dense, *grid) - truth, field.valid & on))
    told = [f"{np.sqrt(np.mean(squares)):.3f}" for squares in (alone, followed, theirs)]
    return ("zero motion, 500 photons: rms flow", "<= 0.06 px",
            f"{told[0]} px from two frames, {told[1]} px followed over 9 to 15 frames; DIS medium {told[2]}")


def _square(error: FloatArray, where: NDArray[np.bool_]) -> float:
    return float(np.mean(np.sum(np.square(error), axis=0)[where]))


def bias_row(seeds: list[int]) -> Row:
    """Shift noise-free frames by parts of a pixel."""
    worst = 0.0
    for seed in seeds[:2]:
        sequence = Sequence("smooth", seed, frames=2, amplitude_px=1e-9)
        sequence.residual_px[:] = 0
        reference = sequence.frame(0, np.inf)
        for shift in ((0.1, -0.3), (0.25, 0.5), (-0.4, 0.75), (0.6, 0.9)):
            moved = Sequence("smooth", seed, frames=2, amplitude_px=1e-9)
            moved.residual_px[1] = shift
            field = single(reference, moved.frame(1, np.inf))
            error = field.displacement_px - np.reshape(shift, (2, 1, 1))
            worst = max(worst, float(np.abs(error[:, field.valid].mean(axis=1)).max()))
    return "rigid sub-pixel bias", "<= 0.005 px", f"{worst:.4f} px at worst, of 8 shifts of up to 0.9 px"


def steep_rows(seeds: list[int]) -> Iterator[Row]:
    """0 to 10 px across a view of speckles in one step, waves of 50 to 200 px and 0.5 to 2 px on top."""
    for title, waves in (("smooth: ramp and 0.5 px waves of 200 px", ((200.0, 0.5),)),
                         ("ramp and 1 px waves of 100 px", ((100.0, 1.0),)),
                         ("ramp, 1 px waves of 100 px and 0.5 px waves of 50 px", ((100.0, 1.0), (50.0, 0.5)))):
        found: list[list[float]] = []
        for seed in seeds:
            first, second, truth = _speckles(seed, waves)
            field = single(first, second)
            grid, on = (field.grid_y_px, field.grid_x_px), field.valid.copy()
            on[:2], on[-2:], on[:, :2], on[:, -2:] = False, False, False, False
            theirs = at_grid(peer_flow(peers()[DIS_MEDIUM], first, second), *grid)
            right = at_grid(truth, *grid)
            found.append([np.sqrt(_square(one - right, on)) for one in (field.displacement_px, theirs)]
                         + [float(field.valid[2:-2, 2:-2].mean())])
        ours, dis, valid = np.mean(found, axis=0)
        asked = "<= DIS medium, <= 0.15 px" if title.startswith("smooth") else "<= DIS medium"
        yield (f"0 to 10 px in one step, {title}: rms", asked,
               f"{ours:.3f} px, DIS medium {dis:.3f} px; {100 * valid:.0f} % valid")


def _speckles(seed: int, waves: tuple[tuple[float, float], ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Two frames at 5000 photons, and where the material of the first is in the second."""
    rng = np.random.default_rng(seed)
    shape, edge = (400, 500), 24
    large = shape[0] + 2 * edge, shape[1] + 2 * edge
    texture = ndimage.gaussian_filter(rng.standard_normal(large), _SPECKLE_PX)
    absorbance = 0.6 + 0.25 * texture / texture.std()
    y, x = np.indices(large, dtype=float)
    field = np.stack([0.3 * _RAMP_PX * (y - edge) / shape[0], _RAMP_PX * (x - edge) / shape[1]])
    for period, amplitude in waves:
        phase = rng.uniform(0, 2 * np.pi, 2)
        field += amplitude * np.stack([np.sin(2 * np.pi * x / period + phase[0]),
                                       np.sin(2 * np.pi * y / period + phase[1])])
    back = -field
    for _ in range(30):
        back = -np.stack([ndimage.map_coordinates(part, (y + back[0], x + back[1]), order=1, mode="nearest")
                          for part in field])
    moved = ndimage.map_coordinates(absorbance, (y + back[0], x + back[1]), order=5, mode="reflect")
    inner = slice(edge, -edge), slice(edge, -edge)
    frames = [(rng.poisson(5000 * np.exp(-plane[inner])) / 5000).astype(np.float32) for plane in (absorbance, moved)]
    return frames[0], frames[1], np.asarray(field[:, *inner], np.float32)


def challenge_rows() -> Iterator[Row]:
    """Speckle images with commanded displacement."""
    reference, frame = (tifffile.imread(CHALLENGE / name) for name in ("Sample14 Reference.tif",
                                                                       "Sample14 L1 Amp0.1b.tif"))
    command = np.genfromtxt(CHALLENGE / "dic_challenge_14_vsg.command.csv", delimiter=",", skip_header=0)[:, 1]
    field = single(reference, frame, step_px=4)
    dense = peer_flow(peers()[DIS_MEDIUM], reference.astype(np.float32), frame.astype(np.float32))
    ours = [np.ma.masked_array(part, ~field.valid)[4:-4].mean(axis=0).filled(np.nan)
            for part in field.displacement_px]
    theirs = at_grid(dense, field.grid_y_px, field.grid_x_px)[:, 4:-4].mean(axis=1)
    truth = np.interp(field.grid_x_px, np.arange(len(command)), command)
    inner = slice(8, -8)
    told = [float(np.sqrt(np.nanmean(np.square(one - truth)[inner]))) for one in (ours[1], theirs[1])]
    yield ("DIC Challenge sample 14 L1 (0.1 px sinusoid): rms of column means", "<= 0.015 px",
           f"{told[0]:.4f} px, DIS medium {told[1]:.4f} px")
    reference = tifffile.imread(CHALLENGE / "Sample5 Reference.tif")
    errors = []
    for name, shift in (("Sample5-000 X0.00 Y0.00 N2 C75 R10.tif", 0.0),
                        ("Sample5-001 X0.10 Y0.10 N2 C100 R20.tif", 0.1)):
        found = single(reference, tifffile.imread(CHALLENGE / name))
        errors.append(np.abs(found.displacement_px[:, found.valid].mean(axis=1) - shift).max())
    yield ("DIC Challenge sample 5 (0 and 0.10 px, changed contrast): mean", "<= 0.01 px",
           f"off by {errors[0]:.4f} and {errors[1]:.4f} px")


def open_hole_row() -> Row:
    """Warp every frame of a tensile test back onto the first and compare."""
    frames = [tifffile.imread(CHALLENGE / f"oht_cfrp_{number:02d}.tiff").astype(np.float32) for number in range(6)]
    follower = Deformation(FlowSettings(step_px=2))
    follower.update("", ("", 0), frames[0], drift_px=(0.0, 0.0), verdict="sharp")
    ours, theirs = [], []
    for index, frame in enumerate(frames[1:], start=1):
        result = follower.update("", ("", index), frame, drift_px=(0.0, 0.0), verdict="sharp").result
        assert result is not None
        dense = _dense(result.displacement_px, result.grid_y_px, result.grid_x_px, frame.shape)
        valid = _dense(result.valid[None].astype(np.float32), result.grid_y_px, result.grid_x_px, frame.shape)[0] > 0.99
        ours.append(likeness(frames[0], frame, dense, valid))
        theirs.append(likeness(frames[0], frame, peer_flow(peers()[DIS_MEDIUM], frames[0], frame), valid))
    told = "; ".join(f"{one:.4f} and {other:.4f}" for one, other in zip(ours, theirs, strict=True))
    return ("open-hole CFRP, 5 frames: match after warping, ours and DIS medium", "not below DIS medium", told)


def likeness(first: FloatArray, second: FloatArray, dense: FloatArray, where: NDArray[np.bool_]) -> float:
    """Mean zero-mean normalised correlation in windows of 31 px."""
    y, x = np.indices(first.shape, dtype=np.float32)
    back = cv2.remap(second, x + dense[1].astype(np.float32), y + dense[0].astype(np.float32), cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)

    def mean(plane: FloatArray) -> FloatArray:
        smooth: FloatArray = cv2.blur(plane, (_MATCH_PX, _MATCH_PX))
        return smooth

    first, back = first - first.mean(), back - back.mean()
    both = mean(first * back) - mean(first) * mean(back)
    spread = [mean(one * one) - mean(one) ** 2 for one in (first, back)]
    match = both / np.sqrt(np.maximum(spread[0] * spread[1], 1e-6))
    inside = where & (spread[0] > 25.0)
    return float(match[20:-20, 20:-20][inside[20:-20, 20:-20]].mean())


def _dense(planes: FloatArray, grid_y: FloatArray, grid_x: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    rows, columns = ((np.arange(length, dtype=np.float32) - grid[0]) / (grid[1] - grid[0])
                     for length, grid in zip(shape, (grid_y, grid_x), strict=True))
    map_x, map_y = np.meshgrid(columns, rows)
    return np.stack([cv2.remap(np.ascontiguousarray(part), map_x, map_y, cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REPLICATE) for part in planes])


