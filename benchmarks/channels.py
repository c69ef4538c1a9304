"""What alert channels and displays cost the analysis, and how long they take.

Usage: ``.venv/bin/python -P benchmarks/channels.py [--alerts 10000]``.

The thread of the analysis records alerts one by one, commits every twenty and ticks four times a second, as the
service does; the channels are a file, a program, a web server on this machine, or a web server that never answers.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))   # -P leaves it out

from support.notices import Site, alert, notice, site

from streamer import notify
from streamer.journal import Journal
from streamer.notify import Messenger
from streamer.records import FrameRow, Status
from streamer.service.herald import Herald
from streamer.service.recorder import Recorder
from streamer.settings import Settings, update

STATUS = Status(at=1.0, state="receiving", version="1", uptime_s=1.0, session_dir="", frames_endpoint="",
                results_endpoint="", control_endpoint="")
_COMMIT_EVERY = 20
_TICK_S = 0.25


def burst(folder: Path, count: int, changes: dict[str, Any], *, told: Callable[[], int]) -> str:
    """Record alerts that all have a life of their own, and wait until the channels have told them."""
    herald = Herald(update(Settings(), changes), session="burst")
    with Journal(folder, create=True) as journal:
        recorder = Recorder(journal, due=herald.due, publish=lambda _t, _s, fields, _a: herald.publish(fields))
        herald.start(journal)
        handing, committing, next_tick = [], [], time.monotonic()
        for number in range(1, count + 1):
            one = alert(number)
            started = time.thread_time()   # of this thread: what it costs the analysis, whatever else runs here
            recorder.alert(one)
            handing.append(time.thread_time() - started)
            if number % _COMMIT_EVERY == 0:
                started = time.thread_time()
                recorder.commit()
                committing.append((time.thread_time() - started) / _COMMIT_EVERY)
            next_tick = _tick(herald, recorder, next_tick)
        started = time.monotonic()
        while told() < count and time.monotonic() - started < 120.0:
            time.sleep(0.01)
            next_tick = _tick(herald, recorder, next_tick)
        waited_s = time.monotonic() - started
        herald.close(recorder)
        recorder.commit()
    return (f"CPU {_micro(handing)} to decide, {_micro(committing)} to commit and hand over; "
            f"all told {waited_s:.1f} s after the last one")


def _tick(herald: Herald, recorder: Recorder, due: float) -> float:
    if time.monotonic() < due:
        return due
    herald.tick(STATUS, recorder)
    recorder.commit()
    return time.monotonic() + _TICK_S


def _micro(seconds: list[float]) -> str:
    mean, median = statistics.mean(seconds), statistics.median(seconds)
    return f"{1e6 * mean:.0f} us (median {1e6 * median:.0f}, worst {1e3 * max(seconds):.1f} ms)"


def round_trip(messenger: Messenger, count: int) -> str:
    """Time single deliveries."""
    times = []
    for number in range(count):
        started = time.perf_counter()
        messenger.deliver([notice(number)], session="s")
        times.append(1e3 * (time.perf_counter() - started))
    return f"{statistics.median(times):.1f} ms median, {sorted(times)[int(0.95 * count)]:.1f} ms at 95 %"


def showing(changes: dict[str, Any], count: int = 2000) -> str:
    """Time what a display takes for a frame, in its own thread."""
    (display,) = notify.open_all(update(Settings(), changes))[1]
    display.start()
    started = time.thread_time()
    for index in range(count):
        display.show(FrameRow(index=index, acquisition="scan", view="main", kind="projection", verdict="sharp",
                              blur_length_px=0.5, drift_y_px=1.0, drift_x_px=1.0, latency_ms=30.0))
    each = (time.thread_time() - started) / count
    display.close()
    return f"{1e6 * each:.0f} us of CPU a frame"


def _rate(hook: Site) -> str:
    pauses = [later - earlier for earlier, later in itertools.pairwise(hook.calls)]
    return f"{len(hook.calls)} calls, the closest two {min(pauses, default=0.0):.2f} s apart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alerts", type=int, default=10_000)
    count = parser.parse_args().alerts
    with tempfile.TemporaryDirectory() as name, site() as hook:
        folder = Path(name)
        print(f"{count} alerts, no channel: {burst(folder / '0', count, {}, told=lambda: count)}")
        lines = folder / "alerts.jsonl"
        every = {"notify.webhook_url": hook.url, "notify.jsonl_path": str(lines), "notify.command": ["/bin/true"]}
        print(f"{count} alerts, three channels: "
              f"{burst(folder / '1', count, every, told=lambda: len(hook.alerts()))}")
        print(f"  webhook: {_rate(hook)}; {len(set(hook.alerts()))} different alerts; "
              f"file: {len(lines.read_text().splitlines())} lines")
        hook.calls.clear()
        hook.behaviour = lambda _: hook.leave.wait() and None
        dead = {"notify.webhook_url": hook.url, "notify.timeout_s": 1.0}
        print(f"{count} alerts, a webhook that never answers: {burst(folder / '2', count, dead, told=lambda: count)}")
        with Journal(folder / "2") as journal:
            print(f"  left in the journal: {len(list(journal.undelivered('webhook', limit=2 * count)))}")
    with tempfile.TemporaryDirectory() as name, site() as hook:
        for changes in ({"notify.webhook_url": hook.url}, {"notify.command": ["/bin/true"]},
                        {"notify.jsonl_path": f"{name}/alerts.jsonl"}):
            (messenger,) = notify.open_all(update(Settings(), changes))[0]
            print(f"{messenger.name}, one alert: {round_trip(messenger, 200)}")
    print(f"EPICS: {showing({'notify.epics_prefix': 'TXM:', 'notify.epics_network': 'isolated'})}")
    print(f"Prometheus: {showing({'metrics.endpoint': '127.0.0.1:0'})}")


if __name__ == "__main__":
    main()
