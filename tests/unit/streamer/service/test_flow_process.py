"""Fields from a process of their own: the same ones, and what happens when it dies, hangs, babbles or is left alone."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamer.records import FlowResult
from streamer.service import flow_child
from streamer.service.flow_errand import Answer, Packer, Ready, Unpacker, unpack_field
from streamer.service.flow_link import Link
from streamer.service.flow_process import FlowProcess
from streamer.service.lane import FlowDone, FlowLane, compute
from streamer.settings import FlowSettings
from streamer.tracking.deformation import VIEWS, Deformation, FlowTask, Follower
from streamer.tracking.material import Analyst
from tests.support.flow_scenes import particles
from tests.support.waiting import wait_until

SHAPE = 96, 112


def tasks(count: int = 4, *, view: str = "main", shape: tuple[int, int] = SHAPE, weight: bool = True,
          settings: FlowSettings | None = None) -> list[FlowTask]:
    """Frames that drift by 1 px each, the first of which is the reference."""
    scene = np.exp(-particles((shape[0] + 32, shape[1] + 32), seed=5)).astype(np.float32)
    light = np.ones(shape, np.float32) if weight else None
    deformation = Deformation(settings or FlowSettings(analysis_s=0.0))
    made = []
    for number in range(count):
        image = scene[16 - number:16 - number + shape[0], 16:16 + shape[1]]
        task = deformation.admit(view, ("a", number), image, drift_px=(float(number), 0.0), verdict="sharp",
                                 weight=light)
        assert isinstance(task, FlowTask)
        made.append(task)
    return made


def assert_same(found: FlowDone, expected: FlowDone) -> None:
    assert (found.key, found.problems) == (expected.key, expected.problems)
    assert found.result is not None
    assert expected.result is not None
    for name in FlowResult.__struct_fields__:
        one, other = getattr(found.result, name), getattr(expected.result, name)
        if name == "strain" and (one is None or other is None):   # which fields get it hangs on the time
            continue
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)
        elif name not in {"elapsed_ms", "analysis"}:
            assert one == other, name
    assert (found.result.analysis is None) == (expected.result.analysis is None)


@pytest.fixture
def process() -> Iterator[FlowProcess]:
    made = FlowProcess()
    yield made
    made.close()


@pytest.fixture
def links() -> Iterator[tuple[Link, Link]]:
    ours, theirs = (Link(end) for end in socket.socketpair())
    ours.limit(20.0)
    yield ours, theirs
    ours.close()
    theirs.close()


def play(script: str, *, patience_s: float = 20.0) -> FlowProcess:
    """A process that says what the script makes it say: `link` is its end."""
    head = ("import socket, sys\n"
            "from streamer.service.flow_link import Link\n"
            "from streamer.service.flow_errand import Ready\n"
            "link = Link(socket.socket(fileno=int(sys.argv[1])))\n")
    return FlowProcess(patience_s=patience_s, command=(sys.executable, "-P", "-c", head + script))


def test_the_fields_are_those_of_this_process_to_the_last_bit():
    given = tasks(6, settings=FlowSettings(analysis_s=1e5))
    follower, analyst = Follower(), Analyst()
    expected = [compute(task, follower, analyst) for task in given]
    found: queue.Queue[FlowDone] = queue.Queue()
    lane = FlowLane(found.put, process=FlowProcess())
    try:
        for task, wanted in zip(given, expected, strict=True):
            lane.put(task)
            assert_same(found.get(timeout=50.0), wanted)
    finally:
        lane.close()
    assert (lane.done, lane.skipped, lane.restarts, lane.problem) == (6, 0, 0, "")
    assert any(done.result is not None and done.result.analysis for done in expected)


@pytest.mark.parametrize("task", [
    tasks(2, weight=False)[1], tasks(2, shape=(33, 300))[1],
    tasks(2)[1]._replace(image=np.asfortranarray(tasks(2)[1].image)),
    tasks(2)[1]._replace(image=tasks(2)[1].image.astype(">f8")),
    tasks(2)[1]._replace(image=tasks(2)[1].image[::-1, ::-1]),
    tasks(2)[1]._replace(weight=np.ones(SHAPE, bool)),
    tasks(2)[1]._replace(drift_px=(np.float64(1.0), np.float32(0.0))),   # type: ignore[arg-type]
    tasks(2)[1]._replace(drift_px=(1e4, 0.0)),
    tasks(2, view="a view\n\u00e4\U0001f52c")[1],
])
def test_odd_frames_get_through(links: tuple[Link, Link], task: FlowTask):
    assert_same(converse(links, [task])[0], compute(task._replace(image=np.ascontiguousarray(task.image)), Follower()))


@pytest.mark.parametrize(("task", "reason"), [
    (tasks(2)[1]._replace(image=np.zeros((0, 40), np.float32)), "flow: "),
    (tasks(2)[1]._replace(image=np.zeros((40, 50), np.float32)), "flow: "),
    (tasks(2)[1]._replace(weight=np.ones((3, 3), np.float32)), "flow: "),
])
def test_what_cannot_be_computed_is_told_and_the_next_frame_is(
        links: tuple[Link, Link], task: FlowTask, reason: str):
    bad, good = converse(links, [task, tasks(2)[1]])
    assert bad.result is None
    assert bad.problems[0].startswith(reason)
    assert good.result is not None


def test_a_reference_and_the_light_are_sent_once():
    packer, unpacker = Packer(), Unpacker()
    given = [one for view in range(VIEWS + 1) for one in tasks(2, view=f"view {view}", shape=(40, 40))]
    sent = []
    for task in [*given, given[1], given[-1]]:
        errand, arrays = packer.pack(task)
        sent.append((errand.reference is not None, errand.weight))
        back = unpacker.unpack(errand, arrays)
        np.testing.assert_array_equal(back.reference.image, task.reference.image)
        np.testing.assert_array_equal(back.weight, task.weight)
        assert (back.view, back.key, back.place, back.settings) == (task.view, task.key, task.place, task.settings)
    assert sent[:2] == [(True, "new"), (False, "same")]
    assert sent[-2:] == [(True, "new"), (False, "new")]   # the first view was forgotten at both ends, the last was not


def test_it_is_started_again_when_it_dies(process: FlowProcess):
    first, second, third = tasks(3)
    assert process.solve(first).result is not None
    assert process._child is not None
    process._child.kill()
    process._child.wait(20.0)
    lost = process.solve(second)
    assert lost.result is None
    reason = "its process was ended by SIGKILL, which the kernel sends when memory runs out"
    assert lost.problems == (f"flow: not computed: {reason}",)
    assert process.restarts == 1
    assert process.problem.endswith("started again, 1 time so far")
    assert process.solve(third).result is not None


def test_a_process_that_hangs_is_ended():
    process = play("link.send(Ready(1), {})\nlink.receive()\n"
                   "import threading\nthreading.Event().wait()", patience_s=0.5)
    task = tasks(1)[0]
    try:
        assert process.solve(task).problems == ("flow: not computed: its process did not answer for 1 s and was ended",)
        assert process.restarts == 1
    finally:
        process.close()


@pytest.mark.parametrize(("script", "reason"), [
    ("sys.exit(3)", "its process ended with status 3"),
    ("import os\nos.abort()", "its process was ended by SIGABRT"),
    ("import threading\nlink._end.sendall(b'\\xff' * 400)\nthreading.Event().wait()",
     "its process answered what cannot be read (ValueError: a header of 18446744073709551615 bytes) and was ended"),
    ("import threading\nlink._end.sendall(b'\\x04' + b'\\0' * 7 + b'junk')\nthreading.Event().wait()",
     "its process answered what cannot be read"),
])
def test_a_process_that_is_none_is_told_of(script: str, reason: str):
    process = play(script)
    try:
        assert reason in process.solve(tasks(1)[0]).problems[0]
    finally:
        process.close()


def test_one_that_dies_again_and_again_is_not_started_for_every_frame():
    process, task = play("sys.exit(1)"), tasks(1)[0]
    try:
        for _ in range(3):
            assert process.solve(task).problems == ("flow: not computed: its process ended with status 1",)
        assert "tried again in a while" in process.solve(task).problems[0]
        assert process.restarts == 3
    finally:
        process.close()


def test_one_that_cannot_be_started_is_told_of():
    process = FlowProcess(command=("/nowhere/python",))
    assert "cannot be started" in process.solve(tasks(1)[0]).problems[0]
    process.close()


def test_it_ends_with_its_parent_even_when_it_is_busy():
    script = ("import os, time\n"
              "from streamer.service.flow_process import FlowProcess\n"
              "process = FlowProcess()\n"
              "process.start()\n"
              "from streamer.service.flow_errand import Ready\n"
              "process._link.receive()\n"
              "os.kill(process._child.pid, 19)\n"   # stopped: it reads no socket any more
              "print(process._child.pid, flush=True)\n"
              "time.sleep(100)\n")
    parent = subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait(20.0)
    wait_until(lambda: not _lives(child), what="end of the child")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"   # nobody may have reaped it
    except (ProcessLookupError, FileNotFoundError):
        return False


def converse(links: tuple[Link, Link], given: list[FlowTask]) -> list[FlowDone]:
    """Have the tasks computed at the other end, in a thread."""
    ours, theirs = links
    thread = threading.Thread(target=flow_child.serve, args=(theirs,))
    thread.start()
    done = []
    try:
        msgspec.msgpack.decode(ours.receive()[0], type=Ready)
        packer = Packer()
        for task in given:
            ours.send(*packer.pack(task))
            body, arrays = ours.receive()
            answer = msgspec.msgpack.decode(body, type=Answer)
            done.append(FlowDone(answer.key, unpack_field(answer, arrays), answer.problems))
    finally:
        ours.close()
        thread.join(20.0)
    return done
