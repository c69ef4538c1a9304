from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from support.notices import notice
from support.waiting import wait_until

from streamer.errors import ChannelError
from streamer.notify.command import Command


def command(*arguments: str, timeout_s: float = 10.0) -> Command:
    return Command(arguments, timeout_s=timeout_s, severity="MAJOR", interval_s=0.0)


def python(code: str, *arguments: str, timeout_s: float = 10.0) -> Command:
    return command(sys.executable, "-c", code, *arguments, timeout_s=timeout_s)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_standard_input_arguments_and_environment_tell_of_the_alerts(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    code = ("import json, os, sys; json.dump([sys.argv[1:], [json.loads(line) for line in sys.stdin], "
            f"{{k: v for k, v in os.environ.items() if k.startswith('TXM_ALERT_')}}], open({str(out)!r}, 'w'))")
    python(code, "{severity}", "at {index} of {acquisition}: {text}", "{alerts}", "{recollected_as}").deliver(
        [notice(1, severity="MINOR"), notice(2, text="two {severity} $(touch x); `y`")], session="day1")
    arguments, lines, environment = json.loads(out.read_text())
    assert arguments == ["MAJOR", "at 2 of scan: two {severity} $(touch x); `y`", "2", ""]   # replaced once, no shell
    assert [line["id"] for line in lines] == [1, 2]
    assert environment["TXM_ALERT_TEXT"] == "two {severity} $(touch x); `y`"
    assert environment["TXM_ALERT_SESSION"] == "day1"
    assert environment["TXM_ALERT_SUMMARY"].endswith("(and 1 more)")


def test_texts_that_no_argument_can_hold_are_made_fit(tmp_path: Path) -> None:
    out = tmp_path / "out"
    python(f"import sys; open({str(out)!r}, 'w').write(sys.argv[1])", "{text}").deliver(
        [notice(text="a\0b" + "x" * 1_000_000)], session="s")
    assert out.read_text() == "a b" + "x" * 3997


@pytest.mark.parametrize(("arguments", "reason"), [
    (["/no/such/program"], "not found"), (["no-such-program-at-all"], "not found"), (["/etc/passwd"], "not found"),
    ([sys.executable, "-c", "import sys; sys.exit('out of\\norder')"], "exit status 1: out of order"),
    ([sys.executable, "-c", "import sys; print('x' * 10_000, file=sys.stderr); sys.exit(3)"], "exit status 3: x{299}$"),
    ([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"], "signal 15"),
    ([sys.executable, "{nonsense}"], "unknown placeholder {nonsense}"),
])
def test_what_goes_wrong_is_named(arguments: list[str], reason: str) -> None:
    with pytest.raises(ChannelError, match=reason) as caught:
        command(*arguments).deliver([notice()], session="s")
    assert "notify.command" in str(caught.value)


def test_a_program_of_an_unknown_form_is_named(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(ChannelError, match="cannot be run"):
        command(str(path)).deliver([notice()], session="s")


def test_a_program_that_reads_nothing_is_fine() -> None:
    python("pass").deliver([notice(number) for number in range(5000)], session="s")


def test_a_program_that_never_ends_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = ("import os, subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; "
            f"time.sleep(600)']); open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}'); time.sleep(600)")
    started = time.monotonic()
    with pytest.raises(ChannelError, match=r"did not end within 1\.5 s"):
        python(code, timeout_s=1.5).deliver([notice()], session="s")
    assert time.monotonic() - started < 10.0
    for pid in map(int, pids.read_text().split()):
        wait_until(lambda pid=pid: not is_running(pid), what="end of the process")   # type: ignore[misc]


def test_a_child_that_goes_on_does_not_hold_up_the_alerts(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    code = ("import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
            f"open({str(pids)!r}, 'w').write(str(child.pid))")
    started = time.monotonic()
    try:
        python(code, timeout_s=30.0).deliver([notice()], session="s")
        assert time.monotonic() - started < 20.0
    finally:
        os.kill(int(pids.read_text()), 9)


def test_closing_kills_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    messenger = python(f"import time; open({str(path)!r}, 'w'); time.sleep(600)", timeout_s=600.0)
    errors: list[ChannelError] = []

    def call() -> None:
        try:
            messenger.deliver([notice()], session="s")
        except ChannelError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(path.exists)
    messenger.close()
    thread.join(10.0)
    assert "signal 9" in str(errors[0])
    call()
    assert "is not run any more" in str(errors[1])
