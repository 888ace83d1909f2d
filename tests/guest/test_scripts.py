#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
"""Scripts that start guests, without a guest: what they start are shell scripts of this test's,
with the names of the real programs."""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import types
import unittest
from unittest import mock

from machines import LIMIT_S, TOP, processes_with, wait_until

sys.dont_write_bytecode = True
sys.path += [str(TOP / "tests"), str(TOP / "scripts")]
import subprocesses  # noqa: E402
import unittest_sum  # noqa: E402

# Each has the test's directory in its command line, by which it is found.
STAY = 'echo >>"$TMPDIR/../started"; exec -a "$0 of $TMPDIR" sleep 1000'
PROGRAMS = {
    "programs/Xvnc": 'echo 7 >&"$2"; exec -a "Xvnc of $TMPDIR" sleep 1000',
    "programs/qemu": STAY,
    # With a directory that it removes, unless it is killed.
    "top/scripts/vm": """case " $* " in
    *" --prepare "*) exit ;;
    *" --locate "*) printf '%s\\n' kernel line qemu; exit ;;
    esac
    trap 'kill $!; rm -rf "$run"' EXIT
    trap 'exit 143' TERM
    run=$(mktemp -d)
    echo >>"$TMPDIR/../started"
    sleep 1000 &
    wait""",
    "top/scripts/guest": 'exec "${0%guest}vm"',
    "top/build/plain/tools/vgfence": """while [ "$1" != --socket ]; do shift; done
    : >"$2"
    exec -a "device of $TMPDIR" sleep 1000""",
    "top/build/plain/tests/guest/vgfence-wayland-proxy": "",
    "top/build/plain/tests/guest/vgfence-frame-compositor":
        'echo descriptors 1; exec -a "compositor of $TMPDIR" sleep 1000',
}


class SessionNice(unittest.TestCase):
    def expect_not_set(self, **opened):
        with mock.patch.object(subprocesses, "open", create=True, **opened) as file:
            with subprocesses.prioritised_session():
                pass
        for call in file.mock_calls:
            self.assertNotIn("write", call[0])

    def test_of_the_first_session_is_not_set(self):
        self.expect_not_set(new=mock.mock_open(read_data=""))

    def test_of_a_kernel_without_is_not_set(self):
        self.expect_not_set(side_effect=FileNotFoundError)

    def test_is_set_and_then_as_before(self):
        files = mock.mock_open(read_data="/autogroup-7 nice 3\n")
        with mock.patch.object(subprocesses, "open", files, create=True):
            with subprocesses.prioritised_session():
                files().write.assert_called_once_with("-10")
            files().write.assert_called_with("3")
            self.assertEqual(subprocesses.set_session_nice("-10", 7), "3")
        files.assert_called_with("/proc/7/autogroup", "w", encoding="ascii")


class Copy(unittest.TestCase):
    """Of the scripts, in which some can be others."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="vgfence-test.")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        shutil.copytree(TOP / "scripts", self.directory / "top/scripts")
        for name, script in PROGRAMS.items():
            self.program(name, script)
        self.temporary = self.directory / "temporary"
        self.session_nice = subprocesses.session_nice()
        self.addCleanup(self.kill_all)

    def program(self, name, script):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def start(self, name, *arguments):
        self.temporary.mkdir()
        environment = dict(os.environ, TMPDIR=str(self.temporary))
        environment["PATH"] = f"{self.directory}/programs:{os.environ['PATH']}"
        environment.pop("WAYLAND_DISPLAY", None)
        with open(self.directory / "said", "w", encoding="utf-8") as said:
            script = subprocess.Popen(
                [self.directory / "top/scripts" / name, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.addCleanup(script.wait)
        self.addCleanup(script.kill)
        return script

    def said(self):
        return (self.directory / "said").read_text(encoding="utf-8")

    def kill_all(self):
        for line in processes_with(str(self.temporary)):
            os.kill(int(line.split()[0]), signal.SIGKILL)

    def expect_end(self, script, status, what=""):
        """It leaves nothing behind."""
        self.assertEqual(script.wait(LIMIT_S), status, self.said())
        self.assertIn(what, self.said())
        # What a signal came before it was known ends by its leash, a moment later.
        wait_until(lambda: not processes_with(str(self.temporary)), "no process is left")
        self.temporary.rmdir()  # is empty
        self.assertEqual(subprocesses.session_nice(), self.session_nice)


class EndedScript(Copy):
    """One that ends by a signal."""

    def started(self, name, *arguments, guests=1):
        """When so many guests have been started."""
        started = self.directory / "started"
        started.write_bytes(b"")
        script = self.start(name, *arguments)
        wait_until(
            lambda: started.stat().st_size >= guests or script.poll() is not None, f"{name} starts"
        )
        self.assertIsNone(script.poll(), self.said())
        return script

    def expect_no_process(self):
        text = str(self.temporary)
        wait_until(lambda: not processes_with(text), f"all end: {processes_with(text)}")

    def expect_nothing_left(self, name, *arguments):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with self.subTest(signal=number):
                script = self.started(name, *arguments)
                script.send_signal(number)
                self.expect_end(script, 128 + number)

    def test_compare_leaves_nothing(self):
        self.expect_nothing_left("compare")

    def test_in_place_leaves_nothing(self):
        self.expect_nothing_left("in-place")

    def test_frames_leaves_nothing(self):
        self.expect_nothing_left("frames")

    def test_gain_leaves_nothing(self):
        self.expect_nothing_left("gain")

    def test_wayland_leaves_nothing(self):
        self.expect_nothing_left("wayland", "--latency")

    def test_console_leaves_nothing(self):
        self.expect_nothing_left("console")

    def test_what_compare_has_started_ends_even_if_it_is_killed(self):
        if self.session_nice is not None:
            self.addCleanup(subprocesses.set_session_nice, self.session_nice)
        self.started("compare", "--way", "passes", guests=2).kill()
        self.expect_no_process()


# Its end takes a second, too, by force.
STUBBORN_WESTON = """trap '' TERM
: >"$XDG_RUNTIME_DIR/wayland"
while :; do sleep 0.1; done"""


class Wayland(Copy):
    """A compositor or a guest that is not what it should be. All limits are 3 s, and that of
    all 10 s."""

    def setUp(self):
        super().setUp()
        for name in ("wayland", "subprocesses.py"):
            path = self.directory / "top/scripts" / name
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"^(\w+_LIMIT_S) = \d+", r"\1 = 3", text, flags=re.MULTILINE)
            text = re.sub(r"^LIMIT_S = \d+", "LIMIT_S = 10", text, flags=re.MULTILINE)
            path.write_text(text, encoding="utf-8")
        self.program("programs/weston", STUBBORN_WESTON)

    def expect(self, status, what, *arguments):
        self.expect_end(self.start("wayland", *arguments), status, what)

    def test_a_guest_that_measures_nothing_fails(self):
        self.program("top/scripts/guest", "echo mark begin")
        self.expect(1, "measured is work of []", "--latency", "--machine", "uml")

    def test_a_compositor_of_frames_that_hangs_is_given_up(self):
        compositor = "top/build/plain/tests/guest/vgfence-frame-compositor"
        self.program(compositor, 'exec -a "compositor of $TMPDIR" sleep 1000')
        self.expect(125, "the compositor did not start", "--latency")

    def test_a_picture_that_does_not_come_is_given_up(self):
        self.program("programs/weston-screenshooter", 'exec -a "shooter of $TMPDIR" sleep 1000')
        self.expect(125, "weston: no picture", "--picture", "picture.png", "client")

    def test_pictures_that_differ_for_ever_are_given_up(self):
        self.program("programs/weston-screenshooter", "date +%N >picture.png")
        self.expect(124, "time is up", "--picture", "picture.png", "client")


# The sums of the sid root are in a file.
SID_VM = """case " $* " in
*" --locate "*) printf '%s\\n' kernel line qemu --library-path "${0%top*}libraries:more" ;;
*" --enter "*) cat "${0%top*}sums" ;;
esac"""


class Libraries(Copy):
    """Of two roots."""

    def setUp(self):
        super().setUp()
        self.program("top/scripts/vm", SID_VM)
        (self.directory / "libraries").mkdir()
        sums = []
        for name in ("libvirglrenderer.so.1", "libgallium-26.so", "libLLVM.so.22"):
            (self.directory / "libraries" / name).write_text(name, encoding="ascii")
            sums.append(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n")
        self.sums = "".join(sums)

    def expect(self, what, sums):
        (self.directory / "sums").write_text(sums, encoding="ascii")
        self.expect_end(self.start("compare", "--way", "passes"), 125, what)

    def test_compare_takes_the_same_ones(self):
        self.expect("the device did not start", self.sums)

    def test_compare_takes_no_others(self):
        what = "do not have the same: libgallium-26.so, libgallium-27.so. Remove qemu-*"
        self.expect(what, self.sums.replace("-26", "-27"))


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, str(TOP / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


class Gain(unittest.TestCase):
    """What is said of numbers."""

    def expect(self, said, mark, **gains):
        gain = load("gain")
        results = {int(length[1:]): (number, 1) for length, number in gains.items()}
        self.assertEqual(gain.say_reach(mark, gain.reach(results, mark)), said)

    def test_a_gain_is_claimed_of_no_length_that_does_not_reach_it(self):
        uml = {"_5": 1.23, "_10": 1.13, "_20": 1.42, "_50": 1.09, "_100": 1.2, "_200": 1.32}
        self.expect("1.2x with jobs of 100 to 500 us or more", 1.2, **uml, _500=1.27)
        self.expect("1.2x with jobs of 100 to 200 us", 1.2, **uml, _500=1.1)
        self.expect("1.4x with jobs of 20 us", 1.4, **uml)
        self.expect("2x never", 2, **uml)


class Machine:
    """A guest that answers at once."""

    def __init__(self, way, answers, log):
        self.way = way
        self.answers = list(answers)
        self.log = log

    def order(self, *words):
        self.log.append((words, self.way))
        return self.answers.pop(0)


class Compare(unittest.TestCase):
    """Guests that take turns, and what is said of numbers."""

    compare = load("compare")

    def measure(self, rows, rounds, **answers):
        """Of ways; which had which turn."""
        log = []
        machines = [Machine(way, answers[way], log) for way in answers]
        with contextlib.redirect_stderr(io.StringIO()):
            for i in range(rounds):
                self.compare.measure(machines, rows, i)
        return log

    def test_each_way_is_the_first_one_as_often_for_each_row(self):
        def take(_):
            return [1]

        orders = [("latency", 0, 1), ("run", "gl_frames", 1, 1)]
        rows = [self.compare.Row(order[0], order, take) for order in orders]
        for ways in ("egl", "passes"), ("egl", "glx", "waits", "passes"):
            rounds = len(ways) * self.compare.MESA_EVERY
            log = self.measure(rows, rounds, **{way: [{}] * 2 * rounds for way in ways})
            for order in orders:
                firsts = [way for words, way in log if words == order][::len(ways)]
                self.assertEqual(
                    {firsts.count(way) for way in ways}, {len(firsts) // len(ways)}, firsts
                )

    def test_only_a_percentile_is_of_all_rounds_together(self):
        median, p99 = rows = self.compare.delay_rows(20000, 3, lambda us: us)
        egl = [{"us": us} for us in ([10, 10, 10], [100, 100, 100], [1000, 1000, 1000])]
        passes = [{"us": us} for us in ([5, 5, 900], [200, 200, 200], [500, 500, 500])]
        self.measure(rows, 3, egl=egl, passes=passes)
        self.assertEqual(sorted(median.ratios("passes")), [0.5, 0.5, 2])
        self.assertEqual((median.ratio("passes"), median.value("passes")), (0.5, 200))
        self.assertEqual(p99.ratios("passes"), [0.9])

    def test_work_is_as_long_as_most_of_such_jobs(self):
        def answers(us, quickest):
            return [{"us": [quickest, us, us]}] * self.compare.CALIBRATION_TURNS

        few, many = self.compare.CALIBRATION_ROWS
        turns = zip(answers(200, 100), answers(200 + 5 * (many - few), 300))
        machine = Machine("egl", [answer for turn in turns for answer in turn], [])
        self.assertEqual(self.compare.calibrate(machine)(1000), 200)
        self.assertEqual(machine.answers, [])

    def test_how_much_work_was_drawn_is_said(self):
        arguments = types.SimpleNamespace(jobs=10, frames=10, delay=10, mesa=10)
        rows = self.compare.make_rows(lambda us: us // 10, arguments)
        self.assertEqual(list(self.compare.work(rows)), [50, 100, 500, 1000, 5000, 20000])
        said = self.compare.say_work(rows)
        self.assertIn(": 0.05 ms of GL are 5, 0.1 ms of GL are 10, ", said)

    def test_the_load_is_that_of_what_else_the_machine_does(self):
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as file:
            command_line = ["compare", "--json", file.name]
            with mock.patch("sys.argv", command_line), mock.patch("os.getloadavg") as load_average:
                load_average.return_value = (0.5, 0, 0)
                arguments = self.compare.parse()
                load_average.return_value = (4, 0, 0)
                with contextlib.redirect_stdout(io.StringIO()):
                    self.compare.report([], arguments)
            self.assertEqual(json.load(file)["load"], 0.5)


if __name__ == "__main__":
    sys.exit(unittest_sum.main())
