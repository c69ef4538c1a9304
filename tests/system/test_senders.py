"""Other people's senders: every frame arrives, exact, or is counted as missing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import zmq
from support.waiting import wait_until

from streamer.protocols import get
from streamer.protocols._codecs import pack_bslz4
from streamer.records import EndOfAcquisition, Frame
from streamer.settings import FramesSettings
from streamer.sources import open_source, zeromq
from streamer.sources.sequence import Ledger

BIN = Path(sys.executable).parent
STACK = np.random.default_rng(3).poisson(100, (20, 64, 48)).astype("<u2")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def receive(source, count, *, limit_s=30.0):
    """Items until so many frames came or time is up."""
    items, end = [], time.monotonic() + limit_s
    while sum(isinstance(item, Frame) for item in items) < count and time.monotonic() < end:
        item = source.receive(0.2)
        if item is not None:
            items.append(item)
    return items


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def pva(monkeypatch):
    """pvAccess on this machine alone, on ports of its own."""
    server, broadcast = map(str, free_ports(2))
    for name, value in {
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_SERVER_PORT": server,
        "EPICS_PVAS_BROADCAST_PORT": broadcast, "EPICS_PVA_ADDR_LIST": "127.0.0.1", "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_SERVER_PORT": server, "EPICS_PVA_BROADCAST_PORT": broadcast,
        "EPICS_PVAS_BEACON_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def worker():
    """A thread for the variables of a server; the library's own never ends."""
    from p4p.util import ThreadedWorkQueue
    queue = ThreadedWorkQueue(workers=1).start()
    yield queue
    queue.stop()


def test_the_area_detector_simulator_of_pvapy(pva):
    """50 frames/s of 654 x 678 for ten seconds: every number is accounted for, none is lost."""
    count, settings = 500, FramesSettings(endpoint="pva://txm:image", pva_queue=200)
    command = [BIN / "pvapy-ad-sim-server", "-cn", "txm:image", "-nx", 678, "-ny", 654, "-dt", "uint16", "-fps", 50,
               "-nf", 20, "-cs", 20, "-rt", 30, "-std", 3, "-rp", 1000, "-dc"]
    ledger = Ledger()
    with open_source(settings) as source, running(command, env=dict(os.environ)):
        for item in receive(source, count, limit_s=60.0):
            admission = ledger.admit(item)
            assert admission.frame is not None
            assert item.pixels.shape == (654, 678)
            ledger.count(admission.frame)
    accounting = ledger.accounting()
    assert accounting.measured == count
    assert accounting.missing.count == 0


@pytest.mark.parametrize("codec", ["", "lz4", "bslz4"])
def test_a_server_of_p4p(pva, worker, codec):
    import imagecodecs
    from p4p.nt import NTNDArray
    from p4p.server import Server
    from p4p.server.thread import SharedPV

    def value_of(index):
        picture = STACK[index]
        if not codec:
            value = NTNDArray().wrap(picture)
        else:
            packed = imagecodecs.lz4_encode(picture.tobytes()) if codec == "lz4" else pack_bslz4(picture, framed=False)
            value = NTNDArray().wrap(np.frombuffer(packed, np.uint8).reshape(1, -1))
            value.codec.name, value.codec.parameters = codec, 6
            value.dimension = [{"size": size} for size in reversed(picture.shape)]
        value.uniqueId = index
        value.dataTimeStamp.secondsPastEpoch = int(time.time())
        return value

    stale = NTNDArray().wrap(STACK[0])
    stale.uniqueId, stale.dataTimeStamp.secondsPastEpoch = 77, 1_500_000_000
    variable = SharedPV(initial=stale, queue=worker)
    with (Server(providers=[{"txm:image": variable}]),
          open_source(FramesSettings(endpoint="pva://txm:image")) as source):
        wait_until(lambda: not source._first, what="the link")   # the old value has come, and was passed over
        frames = []
        for index in range(20):
            variable.post(value_of(index))
            frames += receive(source, 1, limit_s=10.0)
    assert [frame.index for frame in frames] == list(range(20))
    assert all(np.array_equal(frame.pixels, STACK[frame.index]) for frame in frames)


def test_a_server_that_goes_and_comes_again(pva, worker):
    from p4p.nt import NTNDArray
    from p4p.server import Server
    from p4p.server.thread import SharedPV

    def serve(indices, source):
        variable = SharedPV(queue=worker)
        found = []
        with Server(providers=[{"txm:image": variable}]):
            value = NTNDArray().wrap(STACK[0])
            value.uniqueId, value.dataTimeStamp.secondsPastEpoch = indices[0], int(time.time())
            variable.open(value)
            found += receive(source, 1, limit_s=20.0)
            for index in indices[1:]:
                value = NTNDArray().wrap(STACK[index])
                value.uniqueId, value.dataTimeStamp.secondsPastEpoch = index, int(time.time())
                variable.post(value)
                found += receive(source, 1, limit_s=10.0)
        return [frame.index for frame in found]

    with open_source(FramesSettings(endpoint="pva://txm:image")) as source:
        assert serve([0, 1, 2], source) == [0, 1, 2]
        assert serve([5, 6], source) == [5, 6]


def test_a_variable_that_does_not_exist(pva):
    with open_source(FramesSettings(endpoint="pva://no:such:variable")) as source:
        assert source.receive(0.3) is None


def write_dump(path):
    """A recorded stream as the simulator of LiberTEM replays it: lengths and parts, one after another."""
    config = {"nimages": 20, "ntrigger": 1, "trigger_mode": "exts", "bit_depth_image": 16, "x_pixels_in_detector": 48,
              "y_pixels_in_detector": 64}
    parts = [json.dumps({"htype": "dheader-1.0", "series": 7, "header_detail": "basic"}).encode(),
             json.dumps(config).encode()]
    for index, picture in enumerate(STACK):
        packed = pack_bslz4(picture)
        parts += [json.dumps({"htype": "dimage-1.0", "series": 7, "frame": index, "hash": ""}).encode(),
                  json.dumps({"htype": "dimage_d-1.0", "shape": [48, 64], "type": "uint16", "encoding": "bs16-lz4<",
                              "size": len(packed)}).encode(), packed,
                  json.dumps({"htype": "dconfig-1.0", "start_time": index, "stop_time": index + 1, "real_time": 1000}
                             ).encode()]
    path.write_bytes(b"".join(len(part).to_bytes(8, "little") + part for part in parts))


def test_the_dectris_simulator_of_libertem(tmp_path):
    """Every frame, exact, in the dialect that is recognised; header and end make no noise."""
    write_dump(tmp_path / "dump.zmqraw")
    port, = free_ports(1)
    command = [BIN / "libertem-live-dectris-sim", tmp_path / "dump.zmqraw", "--port", port, "--zmqport", 0]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with running(command, env=environment) as process:
        endpoint = next(line.split(b"listening on ")[1].strip().decode() for line in process.stdout
                        if b"listening on tcp://" in line)

        def armed():
            request = urllib.request.Request(f"http://127.0.0.1:{port}/detector/api/1.8.0/command/arm", method="PUT")
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):  # noqa: S310
                return True
            return False

        with open_source(FramesSettings(endpoint=endpoint, pattern="pull")) as source:
            wait_until(armed, what="the simulator's web server")
            items = receive(source, 20)
            items += [item for item in [source.receive(2.0)] if item is not None]
            assert source.protocol == "dectris-1"
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == list(range(20))
    assert all(np.array_equal(frame.pixels, STACK[frame.index]) for frame in frames)
    assert [item for item in items if not isinstance(item, Frame)] == [EndOfAcquisition(acquisition="series-7")]


@pytest.mark.parametrize(("kind", "pattern"), [("REP", "req"), ("PUB", "sub"), ("PUSH", "pull")])
def test_the_simulator_of_the_karabo_bridge(kind, pattern):
    """A train of the module has 64 pictures; every one of every train that is sent arrives, in order."""
    program = f"""
import sys
from karabo_bridge.server import SimServer
server = SimServer("tcp://127.0.0.1:*", sock={kind!r}, detector="AGIPDModule", raw=True, datagen="zeros", debug=False)
print(server.server_socket.getsockopt_string(32), flush=True)
server.loop()
"""
    with running([sys.executable, "-c", program]) as process:
        endpoint = process.stdout.readline().decode().strip()
        with open_source(FramesSettings(endpoint=endpoint, pattern=pattern)) as source:
            frames = receive(source, 200)
            assert source.protocol == "karabo"
    numbers = np.array([frame.index for frame in frames[:64 * (len(frames) // 64)]]).reshape(-1, 64)
    assert (np.diff(numbers, axis=1) == 1).all()
    if kind != "PUB":   # a publisher drops trains that find no room, and does not tell
        assert (np.diff(numbers[:, 0]) == 64).all()
    assert {frame.pixels.shape for frame in frames} == {(128, 512)}
    assert {frame.acquisition for frame in frames} == {"SPB_DET_AGIPD1M-1/DET/0CH0:xtdf"}


def _bound(server, endpoint):
    with contextlib.suppress(zmq.ZMQError):
        server.bind(endpoint)
        return True
    return False


def test_a_request_that_nobody_answers_is_asked_anew(monkeypatch):
    """Whoever answers first may die before it does."""
    monkeypatch.setattr(zeromq, "_PATIENCE_S", 0.3)
    context = zmq.Context()
    server = context.socket(zmq.REP)
    server.bind("tcp://127.0.0.1:*")
    try:
        with open_source(FramesSettings(endpoint=server.last_endpoint.decode(), pattern="req")) as source:
            wait_until(lambda: source.receive(0.05) or server.poll(10))
            assert server.recv() == b"next"   # and dies before it answers
            endpoint = server.last_endpoint
            server.close(0)
            server = context.socket(zmq.REP)
            wait_until(lambda: _bound(server, endpoint))
            wait_until(lambda: source.receive(0.05) or server.poll(10), what="another request")
            assert server.recv() == b"next"
            server.send_multipart(get("karabo").encode(Frame(pixels=STACK[0], index=4)))
            assert receive(source, 1)[0].index == 4
    finally:
        server.close(0)
        context.term()
