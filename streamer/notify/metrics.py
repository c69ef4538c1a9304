"""Figures for Prometheus; needs the ``metrics`` extra."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from streamer.errors import ChannelError
from streamer.notify import Display, Matter, Messenger
from streamer.notify._extra import extra
from streamer.notify._open import OpenRequests
from streamer.notify._recent import Recent
from streamer.records import Alert, FrameRow, Recollection, Severity, Status
from streamer.settings import Settings

NAME = "metrics"
SUMMARY = "figures for Prometheus"

_LAG_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LARGEST_PORT = 65535
_REMEMBERED = 10_000
"""Alerts that are open; of more, the oldest are no longer counted."""
_SEVERITIES: tuple[Severity, ...] = ("MINOR", "MAJOR", "INVALID")
_LOST = ("missing", "dropped", "refused", "malformed", "duplicate", "out_of_order")


class Metrics:
    """An address that answers ``GET /metrics``.

    Parameters
    ----------
    endpoint : str
        ``HOST:PORT``; port 0 takes a free one.
    """

    def __init__(self, endpoint: str) -> None:
        self._prometheus = extra("prometheus_client", setting="metrics.endpoint", name="metrics")
        self._core = extra("prometheus_client.core", setting="metrics.endpoint", name="metrics")
        self.name = NAME
        self.endpoint = endpoint
        """As asked for, or, once started, where it really is."""
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._status: Status | None = None
        self._recent = Recent()
        self._alerts: dict[int, Alert] = {}
        self._requests = OpenRequests()
        registry = self._registry = self._prometheus.CollectorRegistry()
        self._frames = self._prometheus.Gauge(
            "txm_frames", "Frames of this run by kind and present verdict", ["kind", "verdict"], registry=registry)
        self._lag = self._prometheus.Histogram(
            "txm_lag_seconds", "From received to published", registry=registry, buckets=_LAG_S)
        self._raised = self._prometheus.Counter(
            "txm_alerts", "Alerts raised in this session, bursts counted once", ["rule", "severity"], registry=registry)
        self._open = self._prometheus.Gauge(
            "txm_alerts_open", "Alerts that are not closed", ["severity"], registry=registry)
        for severity in _SEVERITIES:
            self._open.labels(severity)
        registry.register(self)

    def start(self) -> None:
        """Listen."""
        host, colon, port = self.endpoint.rpartition(":")
        host = host.strip("[]")
        if not colon or not host or not port.isdecimal() or int(port) > _LARGEST_PORT:
            raise ChannelError(f"metrics.endpoint {self.endpoint!r} is no address; expected one such as 127.0.0.1:9108")
        try:
            self._server, self._thread = self._prometheus.start_http_server(int(port), host, self._registry)
        except (OSError, ValueError) as error:   # ValueError: a host of odd characters
            raise ChannelError(f"metrics cannot be served on {self.endpoint} (metrics.endpoint): "
                               f"{getattr(error, 'strerror', None) or error}; stop the other program or choose another "
                               "address") from error
        shown = f"[{host}]" if ":" in host else host
        self.endpoint = f"{shown}:{self._server.server_port}"

    def show(self, matter: Matter) -> None:
        """Count what came."""
        if isinstance(matter, FrameRow):
            self._count(matter)
        elif isinstance(matter, Alert):
            self._follow(matter)
        elif isinstance(matter, Recollection):
            self._requests.update(matter)
        else:
            self._status = matter

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def collect(self) -> Iterator[Any]:
        """Yield what the heartbeat says; called by Prometheus' library at every scrape."""
        gauge, counter = self._core.GaugeMetricFamily, self._core.CounterMetricFamily
        yield gauge("txm_recollections_open", "Frames asked for again", value=len(self._requests.sorted()))
        status = self._status
        if status is None:
            return
        yield gauge("txm_uptime_seconds", "Since the start", value=status.uptime_s)
        yield gauge("txm_queue_frames", "Frames that wait for analysis", value=status.queue)
        yield gauge("txm_queue_limit_frames", "Frames that may wait", value=status.queue_limit)
        yield gauge("txm_received_hz", "Frames received per second, lately", value=status.received_hz)
        yield gauge("txm_measured_hz", "Frames measured per second, lately", value=status.measured_hz)
        yield gauge("txm_problems", "What hinders the streamer now", value=len(status.problems))
        if status.last_frame_age_s is not None:
            yield gauge("txm_last_frame_age_seconds", "Since the newest frame", value=status.last_frame_age_s)
        if status.disk_free_gb is not None:
            yield gauge("txm_disk_free_bytes", "On the disk of the session", value=1e9 * status.disk_free_gb)
        yield counter("txm_frames_received", "Frames received", value=status.accounting.received)
        yield counter("txm_frames_measured", "Frames measured", value=status.accounting.measured)
        lost = counter("txm_frames_lost", "Frames not measured, or not in their place, by reason", labels=["reason"])
        for reason in _LOST:
            lost.add_metric([reason], getattr(status.accounting, reason).count)
        yield lost
        speed = gauge("txm_drift_px_per_frame", "Speed of the trend", labels=["view", "axis"])
        for motion in status.motion:
            speed.add_metric([motion.view, "y"], motion.speed_y_px)
            speed.add_metric([motion.view, "x"], motion.speed_x_px)
        yield speed

    def _count(self, row: FrameRow) -> None:
        before = self._recent.exchange(row)
        if before is not None:
            self._frames.labels(before.kind, before.verdict or "").dec()
        elif row.latency_ms is not None and row.verdict is not None:
            self._lag.observe(1e-3 * row.latency_ms)
        self._frames.labels(row.kind, row.verdict or "").inc()

    def _follow(self, alert: Alert) -> None:
        before = self._alerts.pop(alert.id, None)
        if before is not None:
            self._open.labels(before.severity).dec()
        else:
            self._raised.labels(alert.rule, alert.severity).inc()
        if alert.state != "closed":
            self._alerts[alert.id] = alert
            self._open.labels(alert.severity).inc()
        if len(self._alerts) > _REMEMBERED:
            forgotten = self._alerts.pop(next(iter(self._alerts)))
            self._open.labels(forgotten.severity).dec()


def open_(settings: Settings) -> list[Messenger | Display]:
    """Make the address that is asked for."""
    return [Metrics(settings.metrics.endpoint)] if settings.metrics.endpoint else []
