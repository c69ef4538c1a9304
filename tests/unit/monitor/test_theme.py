"""Colours can be read and told apart, by colour-blind people too."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")   # it names other packages that it would like to have
    import colour

from monitor.dialogs import HINT_ALPHA
from monitor.panels.overlays import CORE, HALO, PINNED
from monitor.theme import GLYPHS, LIGHT, SEVERITY_GLYPHS, SYMBOLS, THEMES, Theme

SIMULATIONS = {   # Machado et al. 2009, severity 1, of linear RGB
    "normal": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                        [0.004733, 0.691367, 0.303900]]),
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                   [0.0193339, 0.1191920, 0.9503041]])


def linear(text: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb``."""
    encoded = np.array([int(text[place:place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Ratio of the Web Content Accessibility Guidelines."""
    low, high = sorted(float(linear(text) @ [0.2126, 0.7152, 0.0722]) for text in (one, other))
    return (high + 0.05) / (low + 0.05)


def distance(one: str, other: str, matrix: np.ndarray) -> float:
    white = colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"]
    labs = [colour.XYZ_to_Lab(TO_XYZ @ np.clip(matrix @ linear(text), 0, 1), white) for text in (one, other)]
    return float(colour.delta_E(*labs, method="CIE 2000"))


def test_the_measures_are_right() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    red, olive = "#c00000", "#6b6b00"   # the classical confusion
    assert distance(red, olive, SIMULATIONS["deutan"]) < 0.5 * distance(red, olive, SIMULATIONS["normal"])


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_text_and_markers_stand_out(theme: Theme) -> None:
    for ground in (theme.background, theme.surface):
        for colour_of in (theme.text, theme.dim, theme.ok, theme.minor, theme.major, theme.invalid, theme.trend,
                          *theme.series):
            assert contrast(colour_of, ground) >= 4.5, (colour_of, ground)
    for state in (theme.ok, theme.minor, theme.major, theme.invalid):
        assert contrast(theme.on_state, state) >= 4.5, state


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
@pytest.mark.parametrize("kind", SIMULATIONS)
def test_states_are_told_apart(theme: Theme, kind: str) -> None:
    states = (theme.ok, theme.minor, theme.major, theme.invalid)
    assert min(distance(*pair, SIMULATIONS[kind]) for pair in itertools.combinations(states, 2)) >= 10


def test_nothing_depends_on_colour_alone() -> None:
    for shapes in (SYMBOLS, GLYPHS, SEVERITY_GLYPHS):
        assert len(set(shapes.values())) == len(shapes)
    assert len({LIGHT.verdict_colour(word) for word in GLYPHS}) == len(GLYPHS)


def over(shade: tuple[int, ...], ground: str) -> str:
    """Colour of a translucent ground on another."""
    alpha = shade[3] / 255
    below = [int(ground[place:place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(alpha * top + (1 - alpha) * under):02x}"
                         for top, under in zip(shade[:3], below, strict=True))


@pytest.mark.parametrize(("words", "alpha"), [
    ("#ffffff", 170),              # scale bar, rings of the spectrum
    (CORE, 190), (PINNED, 190),    # arrows, region
    (CORE, 200)])                  # the chip of the selected frame
@pytest.mark.parametrize("picture", ["#000000", "#ffffff"])
def test_what_is_written_on_the_picture_can_be_read_on_black_and_on_white(words: str, alpha: int, picture: str) -> None:
    assert contrast(words, over((16, 20, 24, alpha), picture)) >= 4.5
    assert contrast(words, HALO) >= 4.5


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_selected_lines_and_plain_states_can_be_read(theme: Theme) -> None:
    assert contrast(theme.text, theme.border) >= 4.5
    text = [int(theme.text[place:place + 2], 16) for place in (1, 3, 5)]
    assert contrast(over((*text, HINT_ALPHA), theme.surface), theme.surface) >= 4.5   # hints in forms
