"""A scan of bluesky that repeats its points: a real run engine, a camera that sends real frames, a real streamer."""

from __future__ import annotations

import itertools
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import zmq
from support.acquisitions import SHAPE, acquisition
from support.scenes import Scene
from support.waiting import wait_until

from monitor.demo import free_endpoints
from streamer.journal import Journal
from streamer.protocols import get
from streamer.records import Frame

pytest.importorskip("bluesky")
ophyd = pytest.importorskip("ophyd")

from bluesky import RunEngine  # noqa: E402
from bluesky import preprocessors as bpp  # noqa: E402
from ophyd.sim import SynAxis  # noqa: E402
from ophyd.status import Status  # noqa: E402

from streamer import plans  # noqa: E402
from streamer.plans import NOTHING, Point, Verdicts, trigger_until_sharp  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs" / "recollect.md").read_text(encoding="utf-8")
SCAN, USE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1:3]


class Camera(ophyd.Device):   # type: ignore[misc]
    """Takes a frame of a specimen at each trigger and sends it; blurred where the test says so."""

    counter = ophyd.Component(ophyd.Signal, value=-1)
    replaces = ophyd.Component(ophyd.Signal, value=NOTHING, kind="omitted")

    def __init__(self, endpoint: str, stage: Any, blurred: dict[float, int], **others: Any) -> None:
        super().__init__("", name="camera", **others)
        self.frames: list[Frame] = []
        self._stage, self._blurred = stage, dict(blurred)
        self._scene, self._rng = Scene(21, SHAPE, margin=40), np.random.default_rng(21)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.connect(endpoint)

    def send(self, frame: Frame) -> None:
        """Put a frame on the wire."""
        self._socket.send_multipart(get("array-1.0").encode(frame))

    def trigger(self) -> Status:
        """Expose where the stage is."""
        angle = self._stage.position
        blurred = self._blurred.get(angle, 0) > 0
        self._blurred[angle] = self._blurred.get(angle, 0) - 1
        index, replaces = self.counter.get() + 1, self.replaces.get()
        pixels = self._scene.frame(self._rng, photons=400.0, drift=(0.7 * index, -0.4 * index),
                                   length_px=8.0 if blurred else 0.0)
        frame = Frame(pixels=pixels, index=index, acquisition="scan", view="main", exposed_at=1e9 + 100 + index,
                      recollects=None if replaces == NOTHING else replaces)
        self.frames.append(frame)
        self.send(frame)
        self.counter.put(index)
        done = Status(self)
        done.set_finished()
        return done

    def close(self) -> None:
        """Let go of the wire."""
        self._socket.close(0)
        self._context.term()


@pytest.fixture(scope="module")
def engine() -> Iterator[RunEngine]:
    """One for all: its thread ends with the last test."""
    engine = RunEngine({})
    yield engine
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join(10)


class Bench(NamedTuple):
    """What a scan needs."""

    camera: Camera
    stage: SynAxis
    results: str
    session: Path


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    frames, results, control = free_endpoints(3)
    command = [sys.executable, "-m", "streamer.cli", "run", "--session", str(tmp_path / "session")]
    for setting in (f"frames.endpoint={frames}", "frames.bind=true", "frames.pattern=pull", "flow.enabled=false",
                    f"results.endpoint={results}", f"control.endpoint={control}"):
        command += ["--set", setting]
    stage = SynAxis(name="stage")
    camera = Camera(frames, stage, {5.0: 1, 7.0: 9})
    log = tmp_path / "streamer.log"
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            with Verdicts(results) as verdicts:
                assert verdicts.wait_until_heard(30), log.read_text()
            for flat in acquisition(0, seed=21):
                camera.send(flat)
            yield Bench(camera, stage, results, tmp_path / "session")
        finally:
            process.terminate()
            process.wait(30)
            camera.close()


def test_the_scan_of_the_page_repeats_a_point_until_it_is_sharp(
    engine: RunEngine, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    documents: list[tuple[str, dict[str, Any]]] = []
    names = {"RE": lambda plan: engine(plan, lambda name, document: documents.append((name, document))),
             "camera": bench.camera, "stage": bench.stage, "angles": [float(angle) for angle in range(9)]}
    exec(compile(SCAN, "docs/recollect.md, plan", "exec"), names)  # noqa: S102  (our own page)
    exec(compile(USE.replace("tcp://127.0.0.1:5556", bench.results), "docs/recollect.md, use", "exec"),  # noqa: S102
         names)
    told = capsys.readouterr().out.replace("undecided", "sharp").splitlines()   # the first ones know too little
    assert told == [f"{angle:.1f} deg: frame {frame} is {verdict} after {tries}" for angle, frame, verdict, tries in (
        (0, 0, "sharp", 1), (1, 1, "sharp", 1), (2, 2, "sharp", 1), (3, 3, "sharp", 1), (4, 4, "sharp", 1),
        (5, 6, "sharp", 2), (6, 7, "sharp", 1), (7, 10, "blurred", 3), (8, 11, "sharp", 1))]
    streams = {document["uid"]: document["name"] for name, document in documents if name == "descriptor"}
    kept = [(streams[document["descriptor"]], document["data"]["camera_counter"])
            for name, document in documents if name == "event"]
    assert kept == [("rejected" if frame in (5, 8, 9) else "primary", frame) for frame in range(12)]
    assert [frame.recollects for frame in bench.camera.frames] == [None] * 6 + [5, None, None, 8, 8, None]
    wait_until(lambda: len(rows(bench.session)) == 12)
    assert [row.recollects for row in rows(bench.session)] == [frame.recollects for frame in bench.camera.frames]


def rows(session: Path) -> list[Any]:
    with Journal(session) as journal:
        return sorted((row for _, row in journal.rows() if row.kind == "projection"), key=lambda row: row.index)


class Heard:
    """Verdicts that are known beforehand, without a streamer."""

    def __init__(self, **verdicts: Any) -> None:
        self.said = {int(name[1:]): verdict for name, verdict in verdicts.items()}

    def forget(self) -> None:
        """Nothing that could be old."""

    def knows(self, index: int) -> bool:
        """See `Verdicts`."""
        return index in self.said

    def of(self, index: int) -> Any:
        """See `Verdicts`."""
        return self.said.get(index)


class Counter(ophyd.Device):   # type: ignore[misc]
    """Counts its triggers."""

    number = ophyd.Component(ophyd.Signal, value=-1)

    def trigger(self) -> Status:
        """Count."""
        self.number.put(self.number.get() + 1)
        done = Status(self)
        done.set_finished()
        return done


def measure(engine: RunEngine, heard: Any, **options: Any) -> Point:
    camera, points = Counter("", name="camera"), []

    @bpp.run_decorator()
    def plan() -> Any:
        points.append((yield from trigger_until_sharp([camera], verdicts=heard, number=camera.number, **options)))

    engine(plan())
    return points[0]


@pytest.mark.parametrize(("said", "options", "expected"), [
    ({"f0": "sharp"}, {}, Point(0, "sharp", 1)),
    ({"f0": "undecided"}, {}, Point(0, "undecided", 1)),
    ({"f0": "undecided", "f1": "sharp"}, {"accept": ("sharp",)}, Point(1, "sharp", 2)),
    ({"f0": "bad", "f1": None, "f2": "sharp"}, {}, Point(2, "sharp", 3)),
    ({"f0": "blurred"}, {"tries": 1}, Point(0, "blurred", 1)),
    ({"f0": "blurred"}, {"timeout_s": 0.05}, Point(1, None, 2)),
])
def test_when_a_point_is_done(
    engine: RunEngine, said: dict[str, Any], options: dict[str, Any], expected: Point
) -> None:
    assert measure(engine, Heard(**said), **options) == expected


def test_a_monitor_that_is_silent_does_not_stop_the_scan(
    engine: RunEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger=plans.log.name):
        assert measure(engine, Heard(), timeout_s=0.05) == Point(0, None, 1)
    assert caplog.messages == [
        "frame 0 is kept though the monitor said nothing within 0.05 s; is the streamer running?"]


def test_no_tries_are_refused(engine: RunEngine) -> None:
    with pytest.raises(ValueError, match="tries is 0"):
        measure(engine, Heard(), tries=0)


def test_verdicts_are_of_the_acquisition_that_is_asked_for() -> None:
    from support.fake_streamer import FakeStreamer, make_row

    fake = FakeStreamer()
    with Verdicts(fake.results, acquisition="b") as verdicts:
        fake.wait_for_subscriber()
        fake.wait_for_subscriber()
        fake.send_raw(b"frame", b"nonsense")
        for acquisition_, kind in itertools.product("ab", ("projection", "flat")):
            fake.frame(msgspec.structs.replace(make_row(8, acquisition=acquisition_), kind=kind))   # blurred
        fake.frame(make_row(9, acquisition="b"))
        wait_until(lambda: verdicts.knows(9))
        assert (verdicts.of(8), verdicts.of(9), verdicts.of(7)) == ("blurred", "sharp", None)
        assert verdicts.wait_until_heard(0.0)
        verdicts.forget()
        assert not verdicts.knows(9)
    fake.close()
