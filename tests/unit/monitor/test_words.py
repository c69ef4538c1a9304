from __future__ import annotations

import pytest
from support.fake_streamer import make_row

from monitor import words
from streamer.records import Accounting, Tally


@pytest.mark.parametrize(("number", "options", "text"), [
    (None, {}, "–"), (float("nan"), {}, "–"), (1.26, {}, "1.3"), (-0.04, {}, "0.0"),
    (2.0, {"signed": True, "digits": 2, "unit": "px"}, "+2.00 px"), (-1.5, {"digits": 0}, "-2"),
])
def test_numbers(number: float | None, options: dict[str, object], text: str) -> None:
    assert words.value(number, **options) == text  # type: ignore[arg-type]


def test_blur_in_pixels_and_nm() -> None:
    row = make_row(0, blur_length_px=6.24, blur_length_sigma_px=0.31)
    assert words.blur(row, 20.0) == "6.2 ± 0.3 px (125 nm)"
    assert words.blur(row, None) == "6.2 ± 0.3 px"
    assert words.blur(make_row(0, blur_length_px=None), 20.0) == "–"


@pytest.mark.parametrize(("numbers", "text"), [
    ([], ""), ([3], "3"), ([5, [9, 10]], "5, 9-10"), ([(1, 4)], "1-4"), (list(range(0, 40, 2)), None),
])
def test_frame_numbers(numbers: list[object], text: str | None) -> None:
    written = words.indices(numbers)
    assert written == text if text is not None else written.endswith("22 and 8 more")


def test_the_line_of_a_frame_names_all_that_is_known() -> None:
    row = make_row(8, problems="no flow", recollects=3)
    line = words.detail(row, 20.0, replaced_by=44)
    for part in ("Frame 8 (scan-1, view A)", "blurred", "at 37°", "drift y", "against frame 0", "flow 0.30 px",
                 "replaces frame 3", "taken again as frame 44", "no flow"):
        assert part in line
    bare = make_row(9, verdict=None, blur_length_px=None, drift_y_px=None, flow_median_px=None, blur_limit_px=None,
                    problems="too small", exposed_at=None, received_at=None)
    assert words.detail(bare, None) == "Frame 9 (scan-1, view A) · – · refused · too small"


def test_only_losses_that_happened_are_listed() -> None:
    counts = Accounting(received=9, measured=8, missing=Tally(count=3, indices=[2, (4, 5)]), malformed=Tally(count=1))
    assert words.accounting(counts).splitlines() == [
        "received 9, measured 8", "missing: 3 (frames 2, 4-5)", "malformed: 1"]


@pytest.mark.parametrize("text", [None, "", "yesterday"])
def test_times_that_are_none(text: str | None) -> None:
    assert words.clock(text) == "–"


@pytest.mark.parametrize(("number", "sigma", "text"), [
    (1.23456, 0.034, "1.23 ± 0.03 px"), (1.23456, 0.13, "1.23 ± 0.13 px"), (123.4, 7.0, "123 ± 7 px"),
    (1.0, None, "1.00 px"), (1.0, float("nan"), "1.00 px"), (None, 0.1, "–"), (float("nan"), 0.1, "–"),
    (0.5, 0.0999, "0.50 ± 0.10 px"), (2.0, 0.0, "2.00 ± 0.00 px"), (1.0, 1e-12, "1.0000 ± 0.0000 px"),
])
def test_numbers_have_the_digits_that_their_errors_leave(number: float | None, sigma: float | None, text: str) -> None:
    assert words.measured(number, sigma, "px") == text


@pytest.mark.parametrize(("number", "size", "sigma", "text"), [
    (1.234, 21.0, 0.05, "1.23 px (25.9 nm)"), (187.3, 33.24, 0.3, "187.3 px (6.226 µm)"), (-0.5, None, 0.1, "-0.50 px"),
    (float("nan"), 21.0, 0.1, "–"), (0.0, 21.0, None, "0.00 px (0.0 nm)"),
])
def test_lengths_in_both_units(number: float, size: float | None, sigma: float | None, text: str) -> None:
    assert words.both_units(number, size, sigma_px=sigma) == text
