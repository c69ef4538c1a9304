from __future__ import annotations

import socket
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from support.notices import alert

from streamer.errors import ChannelError, SettingsError
from streamer.notify import open_all
from streamer.notify.metrics import Metrics
from streamer.records import Accounting, FrameRow, JitterAxis, Leaving, Recollection, Status, Tally, ViewMotion
from streamer.settings import Settings, update

parser = pytest.importorskip("prometheus_client.parser")


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    served = Metrics("127.0.0.1:0")
    served.start()
    yield served
    served.close()


def scrape(served: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Ask as Prometheus does: value by name and values of the labels, in the order of their names."""
    with urllib.request.urlopen(f"http://{served.endpoint}/metrics", timeout=10.0) as answer:
        text = answer.read().decode()
    return {(sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in parser.text_string_to_metric_families(text) for sample in family.samples}


def row(index: int, **columns: Any) -> FrameRow:
    return FrameRow(**({"index": index, "acquisition": "scan", "view": "main", "kind": "projection",
                        "verdict": "sharp", "latency_ms": 30.0} | columns))


def status(**fields: Any) -> Status:
    return Status(**({"at": 1000.5, "state": "receiving", "version": "1", "uptime_s": 2.5, "session_dir": "s",
                      "frames_endpoint": "", "results_endpoint": "", "control_endpoint": ""} | fields))


def request(number: int, **fields: Any) -> Recollection:
    return Recollection(**({"id": number, "requested_at": "", "acquisition": "scan", "index": number, "view": "main",
                            "reason": "blurred"} | fields))


def test_frames_are_counted_by_their_present_verdict_and_once(metrics: Metrics) -> None:
    for index in range(5):
        metrics.show(row(index))
    metrics.show(row(9, kind="flat", verdict=None))
    metrics.show(row(1, flow_median_px=0.5))                 # the displacement came later
    metrics.show(row(0, verdict="blurred", revision=1))      # judged again
    found = scrape(metrics)
    assert found["txm_frames", ("projection", "sharp")] == 4
    assert found["txm_frames", ("projection", "blurred")] == 1
    assert found["txm_frames", ("flat", "")] == 1
    assert found["txm_lag_seconds_count", ()] == 5
    assert found["txm_lag_seconds_bucket", ("0.02",)] == 0
    assert found["txm_lag_seconds_bucket", ("0.05",)] == 5
    assert found["txm_lag_seconds_sum", ()] == pytest.approx(0.15)


def test_alerts_are_counted_when_raised_and_while_open(metrics: Metrics) -> None:
    metrics.show(alert(1, severity="MINOR"))
    metrics.show(alert(1, severity="MAJOR", count=2))
    metrics.show(alert(2, severity="MINOR", rule="jump"))
    metrics.show(alert(3, severity="MINOR", rule="jump"))
    metrics.show(alert(3, severity="MINOR", rule="jump", state="closed"))
    found = scrape(metrics)
    assert found["txm_alerts_total", ("blurred_frame", "MINOR")] == 1
    assert found["txm_alerts_total", ("jump", "MINOR")] == 2
    assert found["txm_alerts_open", ("MINOR",)] == 1
    assert found["txm_alerts_open", ("MAJOR",)] == 1
    assert found["txm_alerts_open", ("INVALID",)] == 0


def test_the_heartbeat_gives_the_rest(metrics: Metrics) -> None:
    assert scrape(metrics)["txm_recollections_open", ()] == 0
    axis = JitterAxis(sigma_px=1.0, first_px=0.0, bin_px=1.0, counts=[])
    motion = ViewMotion(view='a "b"\\', frames=3, trend_y_px=0.0, trend_x_px=0.0, speed_y_px=0.25, speed_x_px=-1.5,
                        jitter_y=axis, jitter_x=axis, leaving=Leaving())
    metrics.show(status(queue=3, queue_limit=64, received_hz=20.0, problems=["a", "b"], motion=[motion],
                        recollections=[request(60)], disk_free_gb=2.0, last_frame_age_s=1.5,
                        accounting=Accounting(received=100, measured=90, missing=Tally(count=7),
                                              dropped=Tally(count=10))))
    for number in range(1, 61):   # more than a heartbeat lists
        metrics.show(request(number))
    metrics.show(request(1, state="served"))
    found = scrape(metrics)
    for name, value in {"uptime_seconds": 2.5, "queue_frames": 3, "queue_limit_frames": 64, "received_hz": 20,
                        "problems": 2, "recollections_open": 59, "disk_free_bytes": 2e9, "frames_received_total": 100,
                        "last_frame_age_seconds": 1.5, "frames_measured_total": 90}.items():
        assert found[f"txm_{name}", ()] == value, name
    assert found["txm_frames_lost_total", ("missing",)] == 7
    assert found["txm_frames_lost_total", ("dropped",)] == 10
    assert found["txm_drift_px_per_frame", ("y", 'a "b"\\')] == 0.25
    assert found["txm_drift_px_per_frame", ("x", 'a "b"\\')] == -1.5


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        served = Metrics(f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ChannelError, match=r"metrics\.endpoint.*in use; stop the other program"):
            served.start()


@pytest.mark.parametrize("endpoint", [
    "9108", ":9108", "127.0.0.1:", "127.0.0.1:many", "127.0.0.1:70000", "127.0.0.1:-1", "tcp://127.0.0.1:9108",
    "no-such-host.invalid:9108", "192.0.2.1:9108", "host name:0", "h\0:0", "x" * 70 + ":0"])
def test_an_address_that_is_none_is_named(endpoint: str) -> None:
    with pytest.raises(ChannelError, match=r"metrics\.endpoint"):
        Metrics(endpoint).start()


def test_many_ask_at_the_same_time_as_results_come(metrics: Metrics) -> None:
    for index in range(300):
        metrics.show(row(index))
        metrics.show(request(index))
        if index % 50 == 0:
            assert scrape(metrics)["txm_recollections_open", ()] == index + 1


def test_without_the_extra_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SettingsError, match=r"metrics\.endpoint needs prometheus_client.*txm-live\[metrics\]"):
        open_all(update(Settings(), {"metrics.endpoint": "127.0.0.1:0"}))
