from __future__ import annotations

import subprocess
import sys

import pytest

from streamer import protocols
from streamer.errors import ProtocolError, SettingsError


def test_names_are_sorted_and_complete():
    assert protocols.names() == sorted(protocols.names())
    assert {"array-1.0", "send-array"} <= set(protocols.names())


@pytest.mark.parametrize(("asked", "meant"), [("array-1", "array-1.0"), ("send_array", "send-array")])
def test_unknown_names_give_the_nearest(asked, meant):
    with pytest.raises(SettingsError, match=f"{asked}.*did you mean '{meant}'.*known: auto, ") as caught:
        protocols.get(asked)
    assert "array-1.0" in str(caught.value)


def test_what_nobody_knows_is_described():
    with pytest.raises(ProtocolError, match=r"2 part\(s\) of 5, 3 bytes starting b'hello'"):
        protocols.recognise([b"hello", memoryview(b"you")])
    with pytest.raises(ProtocolError, match=r"0 part\(s\)"):
        protocols.recognise([])


def test_importing_loads_no_socket_library():
    code = "import sys, streamer.protocols as p; p.names(); sys.exit('zmq' in sys.modules or 'h5py' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)
