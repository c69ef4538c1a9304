from __future__ import annotations

import pytest

from monitor.gauge import Gauge


def test_pictures_painted_skipped_and_their_delay() -> None:
    clock = [0.0]
    gauge = Gauge(lambda: clock[0])
    assert gauge.delay_ms is None
    gauge.take(1, 0.0)
    clock[0] = 0.02
    gauge.painted()
    gauge.take(2, 0.1)
    gauge.take(2, 0.1)   # still to be painted
    gauge.take(5, 0.2)   # 2, 3 and 4 never were
    assert gauge.skipped == 3
    clock[0] = 0.24
    gauge.painted()
    gauge.painted()   # the same one again, as when another window has covered it
    assert gauge.delay_ms == pytest.approx((30.0, 39.0))
    assert gauge.hz == pytest.approx(3 / 5)
    clock[0] = 60.0
    assert gauge.hz == 0.0


def test_a_pause_and_a_new_session_skip_nothing() -> None:
    gauge = Gauge(lambda: 0.0)
    gauge.take(3, 0.0)
    gauge.painted()
    gauge.pause(40)
    gauge.take(41, 0.0)
    assert gauge.skipped == 0
    gauge.take(1, 0.0)   # counted anew
    assert gauge.skipped == 0
