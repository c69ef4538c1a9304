"""What the frame panel can show of a frame, each with its words; and why something cannot be shown. No Qt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from monitor import pixels
from monitor.pixels import Levels
from monitor.shelf import NOTHING, Found
from monitor.store import Extra, Picture
from monitor.words import value
from streamer.records import STRAIN_PLANES, AnyArray, FloatArray, FlowResult, SpectraResult

Box = tuple[float, float, float, float]
"""Top, left, height, width in pixels of the frame."""

STRAINS = (("divergence", "growth of the area: red swells, blue shrinks"),
           ("shear", "right angles: red closes, blue opens"))


@dataclass(frozen=True)
class Material:
    """What a mode needs of the frame to be shown; two are equal when the same would be painted of them."""

    picture: Picture
    raw: Found = NOTHING
    reference: Found = NOTHING
    """The picture of the frame that the drift was measured against."""
    drift: tuple[float, float] | None = None
    """(y, x) against that frame."""
    flow: Found = NOTHING
    flow_drift: tuple[float, float] = (0.0, 0.0)
    """Where the grid of the field lies on the picture."""
    spectra: SpectraResult | None = None
    other: bool = False
    """The second variant of the mode: frames compared as they lie; shear."""
    pixel_size_nm: float | None = None
    corrected: str = "corrected"
    """What was taken out of the picture, in words."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One image on screen: value = offset + scale * pixel."""

    pixels: AnyArray
    """(M, N), or (M, N, 3 or 4) uint8 that are colours already."""
    box: Box
    colours: str = "grey"
    """Name of a colour map; empty for colours."""
    levels: Levels = (0.0, 1.0)
    """Values that it would like to span."""
    least: float = 0.0
    """Smallest span of values."""
    offset: float = 0.0
    scale: float = 1.0
    unit: str = ""
    nm_per_unit: float | None = None
    """For a second figure beside the first on the colour bar."""

    def at(self, y: float, x: float) -> Any:
        """Return the pixel at a place of the frame, in pixels; None outside."""
        top, left, height, width = self.box
        row = math.floor((y - top) / height * self.pixels.shape[0]) if height else -1
        column = math.floor((x - left) / width * self.pixels.shape[1]) if width else -1
        inside = 0 <= row < self.pixels.shape[0] and 0 <= column < self.pixels.shape[1]
        return self.pixels[row, column] if inside else None

    def value_at(self, y: float, x: float) -> float | None:
        """Return the value at a place of the frame; None outside and where there is none."""
        pixel = self.at(y, x) if self.pixels.ndim == 2 else None
        return None if pixel is None or not math.isfinite(pixel) else self.offset + self.scale * float(pixel)


@dataclass(frozen=True, eq=False)
class Composition:
    """What is to be painted, and what is said of it."""

    words: str
    ground: Layer
    """The picture, or what stands in its place."""
    top: Layer | None = None
    """Drawn over it; NaN lets the ground through."""
    missing: bool = False
    """The words say why it cannot be shown; the ground is the picture."""
    outlines: AnyArray | None = None
    """(n, 4) lines (x1, y1, x2, y2) in pixels of the frame."""
    labels: AnyArray | None = None
    """Of regions, for the value under the mouse; drawn as `top`."""
    spectrum: bool = False
    """The axes are frequencies, not places."""

    @property
    def measured(self) -> Layer | None:
        """The layer whose values the colour bar explains."""
        layer = self.top or self.ground
        return layer if layer.colours else None

    def read(self, y: float, x: float) -> str:
        """Say what is at a place of the frame; nothing outside."""
        if self.ground.at(y, x) is None:
            return ""
        where = f"fy {y:+.3f}, fx {x:+.3f} px⁻¹" if self.spectrum else f"y {math.floor(y)}, x {math.floor(x)}"
        if self.labels is not None and self.top is not None:
            number = replace(self.top, pixels=self.labels).at(y, x)
            return f"{where}: region {number}" if number is not None and number >= 0 else where
        layer = self.measured
        found = layer.value_at(y, x) if layer is not None else None
        unit = f" {layer.unit}" if layer is not None and layer.unit else ""
        return f"{where}: {found:.4g}{unit}" if found is not None else where


class Mode(NamedTuple):
    """One way to look at a frame."""

    name: str
    compose: Callable[[Material], Composition]
    needs: frozenset[str]
    """Beside the picture: ``raw``, ``reference``, ``flow``, ``spectra``."""
    about: str
    extra: Extra | None = None
    """What its field should come with."""
    variants: tuple[str, str] | None = None
    """What it is called as it begins, and the other way."""


def grey(picture: Picture, image: AnyArray | None = None) -> Layer:
    """Return the grey picture in pixels of the frame."""
    shown, step = pixels.thinned(picture.image if image is None else image)   # type: ignore[arg-type]
    height, width = (side * picture.binning * step for side in shown.shape)
    low, high = pixels.robust(shown)
    low, high = picture.offset + picture.scale * low, picture.offset + picture.scale * high
    return Layer(shown, (0.0, 0.0, float(height), float(width)), "grey", (low, high), least=abs(picture.scale),
                 offset=picture.offset, scale=picture.scale)


def _plain(material: Material) -> Composition:
    return Composition(material.corrected, grey(material.picture))


def _without(material: Material, why: str) -> Composition:
    return replace(_plain(material), words=why, missing=True)


def _raw(material: Material) -> Composition:
    picture = material.raw.thing
    if picture is None:
        return _without(material, f"shown corrected; {material.raw.why or 'the raw picture is not here'}")
    return Composition("raw: as the detector gave it, in counts", replace(grey(picture), unit="counts"))


def _deblurred(material: Material) -> Composition:
    """Show the preview and say what it is worth, or why there is none."""
    picture = material.picture
    said = str((picture.deblur or {}).get("text", ""))
    if picture.deblurred is None:
        reason = said or "it comes with the newest picture if that is blurred and there is time"
        return _without(material, f"no deblurred preview: {reason.removeprefix('no preview: ')}")
    return Composition(said or "deblurred preview", grey(picture, picture.deblurred))


def _pair(material: Material) -> tuple[FloatArray, FloatArray, Layer, str] | Composition:
    """Return reference and frame in one size, the place of both, and how they were laid over each other."""
    picture, reference = material.picture, material.reference.thing
    if reference is None:
        return _without(material, material.reference.why or "the reference's picture is not here yet")
    if reference.index == picture.index and reference.acquisition == picture.acquisition:
        return _without(material, f"frame {picture.index} is the reference itself: there is nothing to compare")
    binning = math.lcm(picture.binning, reference.binning)
    two = []
    for each in (reference, picture):
        shown, step = pixels.thinned(pixels.rebinned(np.asarray(each.image), binning // each.binning))
        two.append((shown.astype(np.float32) * np.float32(each.scale) + np.float32(each.offset), step))
    (still, step), (frame, other_step) = two
    if step != other_step or still.shape != frame.shape or 0 in frame.shape:
        return _without(material, f"frame {reference.index}, the reference, has another size: "
                                  "the two cannot be laid over each other")
    how, drift = "as they lie", (0.0, 0.0)
    if not material.other and material.drift is None:
        how = "as they lie: the drift of this frame is not known"
    elif not material.other and material.drift is not None:
        drift = material.drift
        y, x = (value(part, digits=1, signed=True) for part in drift)
        how = f"drift y {y}, x {x} px"
    size = float(binning * step)
    box = (0.0, 0.0, size * frame.shape[0], size * frame.shape[1])
    return pixels.moved(still, drift[0] / size, drift[1] / size, frame.shape), frame, Layer(frame, box), how


def _difference(material: Material) -> Composition:
    pair = _pair(material)
    if isinstance(pair, Composition):
        return pair
    still, frame, place, how = pair
    change = frame - still
    least = 4 * abs(material.picture.scale)
    layer = replace(place, pixels=change, colours="CET-D1A", levels=pixels.symmetric(change), least=least)
    return Composition(f"red brighter, blue darker than frame {material.reference.thing.index}; {how}",
                       grey(material.picture), layer)


def _overlay(material: Material) -> Composition:
    pair = _pair(material)
    if isinstance(pair, Composition):
        return pair
    still, frame, place, how = pair
    both = pixels.red_blue(still, frame, pixels.robust(frame))
    return Composition(f"red: dark in frame {material.reference.thing.index} only; blue: in this one only; {how}",
                       replace(place, pixels=both, colours=""))


def field_box(flow: FlowResult, drift: tuple[float, float]) -> Box:
    """Return the place of the cells around the grid of a field, in pixels of the frame."""
    ends = []
    for grid, shift in ((flow.grid_y_px, drift[0]), (flow.grid_x_px, drift[1])):
        step = float(grid[-1] - grid[0]) / (grid.size - 1) if grid.size > 1 else 1.0
        ends.append((float(grid[0]) - step / 2 + 0.5 + shift, step * grid.size))
    (top, height), (left, width) = ends
    return top, left, height, width


def _field(material: Material) -> FlowResult | Composition:
    flow = material.flow.thing
    if flow is None:
        return _without(material, material.flow.why or "no displacement field of this frame yet")
    if not flow.grid_y_px.size or not flow.grid_x_px.size:
        return _without(material, f"the displacement field of frame {flow.index} has no points")
    return flow   # type: ignore[no-any-return]


def _of(flow: FlowResult, picture: Picture) -> str:
    """Name the frames of a field where they are not the one on screen."""
    whose = "" if flow.index == picture.index else f" of frame {flow.index}"
    return f"{whose} against frame {flow.reference_index}"


def _magnitude(material: Material) -> Composition:
    flow = _field(material)
    if isinstance(flow, Composition):
        return flow
    length = pixels.magnitude(flow.displacement_px, flow.valid)
    layer = Layer(length, field_box(flow, material.flow_drift), "viridis", (0.0, pixels.robust(length)[1]), least=0.1,
                  unit="px", nm_per_unit=material.pixel_size_nm)
    return Composition(f"displacement{_of(flow, material.picture)}; grey: not known",
                       grey(material.picture), layer)


def _strain(material: Material) -> Composition:
    flow = _field(material)
    if isinstance(flow, Composition):
        return flow
    name, meaning = STRAINS[material.other]
    if flow.strain is None:
        return _without(material, f"no strain of frame {flow.index}: the streamer did not work it out "
                                  "(flow.analysis_s says how often it does)")
    found = 100 * flow.strain[STRAIN_PLANES.index(name)]
    layer = Layer(found, field_box(flow, material.flow_drift), "CET-D1A", pixels.symmetric(found),
                  least=0.02, unit="%")
    return Composition(f"{meaning}; {name}{_of(flow, material.picture)}", grey(material.picture), layer)


def _regions(material: Material) -> Composition:
    flow = _field(material)
    if isinstance(flow, Composition):
        return flow
    labels = flow.regions
    if labels is None:
        return _without(material, f"no regions of frame {flow.index}: the streamer did not work them out "
                                  "(flow.analysis_s says how often it does)")
    count = int(np.unique(labels[labels >= 0]).size)
    if not count:
        return _without(material, f"no region moves on its own in frame {flow.index}")
    box = field_box(flow, material.flow_drift)
    lines = pixels.outlines(labels) * ([box[3] / labels.shape[1], box[2] / labels.shape[0]] * 2)
    lines += [box[1], box[0]] * 2
    layer = Layer(pixels.region_colours(labels, alpha=110), box, "")
    return Composition(f"{count} region{'s' if count > 1 else ''} that move{'' if count > 1 else 's'} as a whole"
                       f"{_of(flow, material.picture)}", grey(material.picture), layer, outlines=lines, labels=labels)


def _spectrum(material: Material) -> Composition:
    spectra = material.spectra
    if spectra is None:
        return _without(material, f"no spectrum of frame {material.picture.index}: "
                                  "it is sent with the newest picture only")
    image = pixels.whole(spectra.picture)
    span = spectra.picture_high - spectra.picture_low
    layer = Layer(image, (-0.5, -0.5, 1.0, 1.0), "viridis", (spectra.picture_low, spectra.picture_high), least=0.1,
                  offset=spectra.picture_low, scale=span / 255, unit="log10")
    return Composition("log power, frequency 0 in the middle; motion darkens its direction", layer, spectrum=True)


_ALIGNED = ("drift taken out", "as they lie")
MODES = (
    Mode("raw", _raw, frozenset({"raw"}), "as the detector gave it"),
    Mode("corrected", _plain, frozenset(), "dark and flat field taken out"),
    Mode("difference", _difference, frozenset({"reference"}), "frame minus reference", variants=_ALIGNED),
    Mode("overlay", _overlay, frozenset({"reference"}), "reference red, frame blue", variants=_ALIGNED),
    Mode("displacement", _magnitude, frozenset({"flow"}), "how far each place moved"),
    Mode("strain", _strain, frozenset({"flow"}), "divergence or shear", "strain", ("divergence", "shear")),
    Mode("regions", _regions, frozenset({"flow"}), "what moves as a whole", "regions"),
    Mode("deblurred", _deblurred, frozenset(), "preview of blurred frames"),
    Mode("spectrum", _spectrum, frozenset({"spectra"}), "power of all frequencies"),
)
"""By the keys 1 to 9."""
CORRECTED = 1
