from __future__ import annotations

import copy
import threading

from streamer.once import once


class Slow:
    def __init__(self) -> None:
        self.calls: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    @once
    def value(self) -> int:
        """A value that takes its time."""
        self.begun.set()
        assert self.go_on.wait(10.0)
        self.calls.append(threading.get_ident())
        return len(self.calls)


class Plain:
    @once
    def value(self) -> list[int]:
        """Something to hold."""
        return [7]


def test_the_second_thread_waits_for_the_first() -> None:
    slow, found = Slow(), []
    threads = [threading.Thread(target=lambda: found.append(slow.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert slow.begun.wait(10.0)
    slow.go_on.set()
    for thread in threads:
        thread.join(10.0)
    assert found == [1, 1, 1, 1]
    assert len(slow.calls) == 1


def test_it_is_kept_with_the_instance_and_goes_where_it_goes() -> None:
    plain, other = Plain(), Plain()
    assert plain.value is plain.value
    assert plain.value is not other.value
    assert copy.deepcopy(plain).__dict__ == {"value": [7]}   # the lock stays here
    assert isinstance(Plain.value, once)
