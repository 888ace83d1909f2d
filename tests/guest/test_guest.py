#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""A guest, its device, and what becomes of one when the other goes away; and what a device does of
which a guest sees nothing. Needs the kernel of scripts/vm; ./run test runs it.

usage: test_guest.py DIRECTORY_OF_BUILDS [TEST...]

VGF_TEST_ALL=1: as many rounds as it takes to find what is rare.
"""

import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from machines import LIMIT_S, TOP, Device, Guest, SlowCompositor
from machines import add_device, processes_with, shell, wait_until

sys.path.insert(0, str(TOP / "tests"))
import check_events  # noqa: E402
import unittest_sum  # noqa: E402

BUILDS = pathlib.Path()
NUM_PENDING = 240  # of 'vgfence-guest pending'
PENDING = f"{NUM_PENDING} fences pending"
# What is done again and again takes a start of a guest each time.
FULL = os.environ.get("VGF_TEST_ALL") == "1"


@functools.cache
def patches_left_out():
    """Each line begins with the name of a kernel patch that does not fit the kernel's source."""
    command = ["scripts/vm", "--locate"]
    result = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True)
    left_out = pathlib.Path(result.stdout.strip()).with_name("left-out")
    return left_out.read_text(encoding="utf-8").splitlines()


class GuestTest(unittest.TestCase):
    # What a test cannot do without, by the start of the name. That one does not fit is our fault,
    # not the machine's.
    patches = ()

    def setUp(self):
        for line in patches_left_out():
            if line.startswith(self.patches):
                self.fail(f"the kernel was built without {line}")
        temporary = tempfile.TemporaryDirectory(prefix="vgfence-test.")
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name
        self.addCleanup(self.expect_no_process)

    def expect_no_process(self):
        """Whatever the test was: nothing that it started is left."""
        wait_until(
            lambda: not processes_with(self.directory), f"all end: {processes_with(self.directory)}"
        )

    def device(self, *options, build="plain", environment=()):
        if not (BUILDS / build / "tools/vgfence").exists():
            self.skipTest(f"not built: {BUILDS / build}")
        # The thread sanitizer does not find its way with the address space of newer kernels.
        wrapper = ["setarch", "-R"] if build == "tsan" else []
        device = Device(
            BUILDS / build, self.directory, *options, wrapper=wrapper, environment=environment
        )
        self.addCleanup(self.expect_end, device)
        return device

    def expect_end(self, device):
        """Whatever the test was: the device was there until it was told to end, which it does in
        a second, though with status 1 if the machine is too slow for that."""
        status = device.end()
        if device.was_killed or (status == 1 and "in the middle of" in device.messages()):
            return
        self.assertEqual(status, 0, device.messages())

    def guest(self, device, *program, **options):
        guest = Guest(device, *program, build=BUILDS / "plain", **options)
        self.addCleanup(guest.errors.close)
        self.addCleanup(guest.process.stdout.close)
        self.addCleanup(guest.process.wait)
        self.addCleanup(guest.process.terminate)
        return guest

    def run_guest(self, device, *program, **options):
        guest = self.guest(device, *program, **options)
        status, output = guest.finish()
        self.assertEqual(status, 0, guest.complaints())
        return output

    def end_well(self, device):
        """With the sanitizers it would tell by now of what it did wrong."""
        self.assertEqual((device.end(), device.messages()), (0, ""))


def endless_storm(passing):
    return ["vgfence-guest", passing, "--rounds", "100", "storm"]


def workloads(passing, *names):
    """One after the other in one guest, whose start takes longer than they do."""
    return shell(*(f"vgfence-guest {passing} --rounds 1 {name}" for name in names))


def wait_for_storm(device):
    """Until it is somewhere in the middle of it: the device has worked for a while."""
    enough_ns = device.cpu_ns() + 50_000_000
    wait_until(lambda: device.cpu_ns() > enough_ns, "the device is busy")


class KilledGuest(GuestTest):
    def kill_many(self, device, rounds):
        """Returns what the device had before, and after each."""
        samples = []
        for _ in range(rounds + 1):
            device.wait_until_idle()
            samples.append((device.descriptors(), device.threads(), device.memory_kib()))
            if len(samples) <= rounds:
                guest = self.guest(device, "vgfence-guest", "--passing", "pending")
                guest.expect_line(PENDING)
                self.assertGreater(device.descriptors(), samples[0][0])
                guest.kill()
        return samples

    def test_a_killed_guest_leaves_nothing_in_the_device(self):
        warm_up, rounds = (4, 12) if FULL else (3, 7)
        device = self.device()
        samples = self.kill_many(device, rounds)
        self.assertEqual({sample[:2] for sample in samples}, {samples[0][:2]})
        # A fence and its submission have more than 256 bytes: rounds that left theirs would show.
        left_kib = (rounds - warm_up) * NUM_PENDING * 256 // 1024
        self.assertLess(samples[-1][2] - samples[warm_up][2], left_kib // 4, samples)
        self.run_guest(device, "vgfence-guest", "--rounds", "1", "storm")
        self.end_well(device)

    def test_nor_does_the_address_sanitizer_find_anything(self):
        device = self.device(build="asan")
        samples = self.kill_many(device, 3 if FULL else 2)
        self.assertEqual({sample[:2] for sample in samples}, {samples[0][:2]})
        self.run_guest(device, "vgfence-guest", "--rounds", "1", "storm")
        self.end_well(device)

    def test_guests_may_be_killed_in_full_swing(self):
        for build in ("asan", "tsan"):
            with self.subTest(build=build):
                device = self.device(build=build)
                for passing in ("--passing", "--no-passing") * (2 if FULL else 1):
                    guest = self.guest(device, *endless_storm(passing))
                    wait_for_storm(device)
                    guest.kill()
                self.run_guest(device, "vgfence-guest", "--rounds", "1", "chain")
                self.end_well(device)


class KilledKernel(GuestTest):
    """The kernel of a guest, which is only one of its processes."""

    patches = ("0002-um", "0004-um")

    def end_by(self, number):
        device = self.device()
        guest = self.guest(device, "vgfence-guest", "--passing", "pending")
        guest.expect_line(PENDING)
        self.assertGreater(len(processes_with(device.socket)), 2)
        os.kill(guest.kernel(), number)
        guest.process.wait(LIMIT_S)
        self.run_guest(device, "vgfence-guest", "--rounds", "1", "chain")
        self.expect_end(device)
        self.expect_no_process()

    def test_a_terminated_kernel_ends_and_so_do_its_processes(self):
        for _ in range(8 if FULL else 2):
            self.end_by(signal.SIGTERM)

    def test_the_processes_of_a_killed_kernel_end(self):
        self.end_by(signal.SIGKILL)


class LargeHost(GuestTest):
    """A host with more registers than this one has: see large_host.c."""

    patches = ("0003-um-ask",)

    def run_on_host_with(self, state_bytes):
        guest_builds = BUILDS / "plain/tests/guest"
        used = pathlib.Path(self.directory, "used")
        if not (guest_builds / "registers").exists():
            self.skipTest("made for x86-64")
        result = subprocess.run(
            # That is what it does with ptrace. With seccomp, which newer kernels have, the sizes
            # are in signal frames.
            ["scripts/vm", "--append", "seccomp=off", "--timeout", str(LIMIT_S)]
            + ["--build", self.directory]
            + ["--", guest_builds / "registers"],
            cwd=TOP,
            capture_output=True,
            text=True,
            check=False,
            env=dict(
                os.environ,
                LD_PRELOAD=str(guest_builds / "large_host.so"),
                VGF_TEST_HOST_STATE=str(state_bytes),
                VGF_TEST_HOST_STATE_USED=str(used),
            ),
        )
        if result.returncode == 77:
            self.skipTest(result.stdout)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("registers kept", result.stdout)
        self.assertTrue(used.exists())

    def test_the_kernel_keeps_registers_as_large_as_the_host_has_them(self):
        # AMX makes it 11008 bytes.
        for state_bytes in (11008, 65536):
            with self.subTest(state_bytes=state_bytes):
                self.run_on_host_with(state_bytes)


class KilledDevice(GuestTest):
    patches = ("0003-um-virtio", "0005-drm")

    def restart(self, device):
        """At the socket that the one before has left."""
        device.kill()
        self.assertTrue(os.path.exists(device.socket))
        return self.device()

    def test_a_running_guest_gets_a_killed_device_back(self):
        device = self.device()
        rounds = 3
        guest = self.guest(
            device,
            *shell(
                f"for round in $(seq {rounds}); do",
                "    vgfence-guest --passing pending",
                f"    until [ -e {self.directory}/again$round ]; do sleep 0.05; done",
                f"    {add_device(device)}",
                "done",
                "vgfence-guest --rounds 1 storm >&2",
                "vgfence-guest driver >&2",
            ),
        )
        for i in range(rounds):
            guest.expect_line(PENDING)
            device = self.restart(device)
            guest.expect_line(f"{NUM_PENDING} of {NUM_PENDING} fences failed: No such device")
            pathlib.Path(self.directory, f"again{i + 1}").touch()
        self.assertEqual(guest.finish(), (0, b""), guest.complaints())

    def test_programs_in_full_swing_end_with_an_error_and_the_guest_goes_on(self):
        for passing in ("--passing", "--no-passing"):
            device = self.device()
            storm = " ".join(endless_storm(passing))
            guest = self.guest(device, *shell(f"{storm} || echo failed", "echo 'goes on'"))
            wait_for_storm(device)
            device.kill()
            self.assertEqual(guest.finish(), (0, b"failed\ngoes on\n"), guest.complaints())

    def test_the_next_guest_gets_the_device_at_the_same_socket(self):
        device = self.device()
        guest = self.guest(device, "vgfence-guest", "--no-passing", "pending")
        guest.expect_line(PENDING)
        device = self.restart(device)
        guest.finish()
        self.run_guest(device, "vgfence-guest", "--rounds", "1", "chain")


class SlowMonitor(GuestTest):
    """Two monitors, and a display that shows a frame of one when it has shown some of the other."""

    patches = ("0003-um-virtio", "0005-drm", "0006-drm")
    beside = 20

    def start(self, count, ceiling_ms):
        if not (BUILDS / "plain/tests/vgfence-slow-compositor").exists():
            self.skipTest("libwayland-dev or wayland-protocols is not installed")
        compositor = SlowCompositor(BUILDS / "plain", count)
        self.addCleanup(compositor.end)
        return self.device(
            *("--scanouts", "2", "--stats", f"--display=wayland={compositor.socket}"),
            *("--display-ceiling", str(ceiling_ms)),
        )

    def flip(self, count, ceiling_ms, *arguments):
        """What the guest says, and how many flushes were given up on."""
        device = self.start(count, ceiling_ms)
        options = [word for argument in arguments for word in ("--append", argument)]
        output = self.run_guest(device, "vgfence-guest", "monitors", options=options)
        device.end()
        given_up = re.findall(r"shown, (\d+) were given up on; \d+ buffers", device.messages())
        return output.decode().splitlines(), int(given_up[-1])

    def said(self, beside):
        end = f"{beside} flips of the other monitor were over before the slow one's"
        cursor = "a cursor is set before the slow flip"
        return [f"one by one: {end}", f"both at once: {end}", cursor]

    def test_holds_up_no_other(self):
        # One more, as the last of them and the slow one are over at once.
        self.assertEqual(self.flip(self.beside + 1, 300_000), (self.said(self.beside), 0))

    def test_holds_up_the_other_on_a_common_timeline(self):
        """The control. The slow frame waits for the other's, which waits for the slow one's fence,
        so nothing goes on before the device gives up. In a commit of both the other's flush may be
        the first."""
        output, given_up = self.flip(self.beside + 1, 1000, "virtio_gpu.one_timeline=1")
        none, one = self.said(0), self.said(1)
        self.assertIn(output, (none, [none[0], one[1], none[2]]))
        self.assertGreaterEqual(given_up, 2)

    def test_the_flip_of_a_device_that_is_gone_is_over(self):
        device = self.start(10**9, 3_600_000)
        guest = self.guest(
            device,
            *shell(
                "vgfence-guest monitors 2>&1 || echo over",
                "dmesg | grep 'timed out' || echo 'nothing has timed out'",
            ),
        )
        guest.expect_line(self.said(self.beside)[0])
        device.kill()
        status, output = guest.finish()
        self.assertEqual(status, 0, guest.complaints())
        self.assertEqual(output.decode().splitlines()[-2:], ["over", "nothing has timed out"])


class Idle(GuestTest):
    def test_a_device_with_an_idle_guest_never_runs(self):
        device = self.device()
        guest = self.guest(
            device,
            *shell(
                "vgfence-guest --rounds 1 --passing storm",
                "echo idle",
                f"until [ -e {self.directory}/over ]; do sleep 0.2; done",
            ),
        )
        start = device.activity()
        self.assertIn("storm", guest.read_line())
        guest.expect_line("idle")
        device.wait_until_idle()
        before = device.activity()
        self.assertNotEqual(start, before)
        time.sleep(2)
        self.assertEqual(device.activity(), before)
        pathlib.Path(self.directory, "over").touch()
        self.assertEqual(guest.finish(), (0, b""), guest.complaints())

    def test_nor_does_one_without_a_guest(self):
        device = self.device()
        self.run_guest(device, "vgfence-guest", "--rounds", "1", "chain")
        device.wait_until_idle()
        before = device.activity()
        time.sleep(2)
        self.assertEqual(device.activity(), before)


class Recording(GuestTest):
    def replay(self, trace):
        events = os.path.join(self.directory, "events")
        result = subprocess.run(
            [BUILDS / "plain/tools/vgfence", "replay", "--json", "--events", events, trace],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return check_events.read_events(events)

    def record(self, passing):
        trace = os.path.join(self.directory, "trace")
        device = self.device("--record", trace)
        self.run_guest(device, *workloads(passing, "chain", "storm", "sparse"))
        self.end_well(device)
        return trace

    def test_a_recorded_guest_is_replayed_and_keeps_its_order(self):
        for passing in ("--passing", "--no-passing"):
            with self.subTest(passing=passing):
                trace = self.record(passing)
                jobs = check_events.read_jobs(trace)
                # Of each workload the jobs of the run that warms up, and of the other; of the last
                # one also what both contexts bind for themselves.
                self.assertEqual(len(jobs), 2 * 400 + 2 * 1000 + 2 * 900 + 2)
                for of_one in (jobs[: 2 * 400], jobs[2 * 400 : 2 * 1400], jobs[2 * 1400 :]):
                    has_in_fences = any(job.in_fences for job in of_one)
                    self.assertEqual(has_in_fences, passing == "--passing")
                self.assertEqual(check_events.check(jobs, self.replay(trace)), [])


class Threads(GuestTest):
    def test_the_thread_sanitizer_finds_nothing(self):
        device = self.device(build="tsan")
        self.run_guest(device, *workloads("--passing", "storm", "teardown", "sparse"))
        self.end_well(device)


class Sparse(GuestTest):
    """Pages are bound at GPU addresses, used and unbound, in the order of fences alone."""

    def test_content_is_right_with_fence_passing_and_without(self):
        device = self.device("--stats", build="asan")
        output = self.run_guest(device, "vgfence-guest", "--rounds", "1", "sparse").decode()
        self.assertIn("sparse, guest waits", output)
        self.assertIn("sparse, fences passed", output)
        self.assertEqual(device.end(), 0)
        # Twice two runs of 100 pages with nine jobs, and two binds of the contexts' own buffers.
        self.assertRegex(device.messages(), "submissions +3604: .* 0 refused")
        self.assertRegex(device.messages(), "fences +3604 retired: 0 with an error, 0 cancelled")

    def test_the_cpu_time_of_the_device_and_of_the_renderer_is_told(self):
        device = self.device("--stats")
        self.run_guest(device, "vgfence-guest", "--passing", "--rounds", "1", "sparse")
        self.assertEqual(device.end(), 0)
        told = re.search("CPU time +([0-9.]+) us a submission, in its main thread: ([0-9.]+) and "
                         "the renderer's ([0-9.]+); ([0-9.]+) sleeps", device.messages())
        self.assertIsNotNone(told, device.messages())
        whole, device_part, renderer_part, sleeps = map(float, told.groups())
        self.assertAlmostEqual(whole, device_part + renderer_part, delta=0.11)
        self.assertGreater(min(device_part, renderer_part, sleeps), 0)

    def test_control_without_the_waits_a_page_that_is_not_bound_is_a_fault(self):
        device = self.device("--stats")
        guest = self.guest(device, "vgfence-guest", "--passing", "--no-wait", "sparse")
        self.assertEqual(guest.finish()[0], 1)
        self.assertRegex(guest.complaints(), "the fence of job [0-9]+ came before its value")
        self.assertEqual(device.end(), 0)
        self.assertNotIn(" 0 with an error", device.messages())


class Negotiation(GuestTest):
    """A guest and a device that disagree find out: both say so, and the guest works."""

    WORKS = "vgfence-guest --rounds 1 --jobs 20 chain"

    def test_another_bit_is_reported_on_both_sides(self):
        device = self.device()
        said = self.run_guest(device, *shell("dmesg", self.WORKS), bit=22).decode()
        self.assertIn("fences are not passed: the device does not offer bit 22", said)
        self.assertNotIn("chain, fences passed", said)
        self.assertEqual(device.end(), 0)
        self.assertIn("does not pass fences on feature bit 23", device.messages())

    def test_another_features_bit_is_refused(self):
        device = self.device()
        said = self.run_guest(device, *shell("dmesg", self.WORKS), bit=5).decode()
        self.assertIn("bit 5 cannot be that of fence passing", said)
        self.assertNotIn("chain, fences passed", said)
        self.assertEqual(device.end(), 0)

    def test_of_a_parameter_that_is_given_twice_the_last_one_counts(self):
        for bits, is_there in (((22, 23), True), ((23, -1), False)):
            device = self.device()
            options = ["--append", f"virtio_gpu.fence_passing_bit={bits[0]}"]
            said = self.run_guest(
                device, *shell("dmesg", self.WORKS), bit=bits[1], options=options
            ).decode()
            self.assertEqual("fences are passed to the host (bit 23," in said, is_there)
            self.assertEqual("chain, fences passed" in said, is_there)
            self.assertEqual(device.end(), 0)


class Leash(GuestTest):
    """scripts/guest, whose directories are in the test's."""

    def start(self):
        process = subprocess.Popen(
            ["scripts/guest", "vgfence-guest", "pending"],
            cwd=TOP,
            env=dict(os.environ, TMPDIR=self.directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline().decode(), PENDING + "\n")
        self.assertTrue(processes_with(self.directory))
        return process

    def test_nothing_is_left_of_a_killed_run(self):
        process = self.start()
        process.kill()
        process.wait()
        self.expect_no_process()
        wait_until(lambda: not os.listdir(self.directory), "its directories are gone")

    def test_nor_of_one_that_is_killed_with_its_process_group(self):
        process = self.start()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.expect_no_process()


class DeviceAtItsEnd(unittest.TestCase):
    """scripts/guest with a device that is none, and a guest that has nothing to do."""

    def run_with(self, at_term, *program, temporary=""):
        device = f"""#!{sys.executable}
import signal, socket, sys
signal.signal(signal.SIGTERM, {at_term})
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[sys.argv.index("--socket") + 1])
while True:
    signal.pause()
"""
        with tempfile.TemporaryDirectory(prefix="vgfence-test.") as directory:
            files = {"build/plain/tools/vgfence": device, "scripts/vm": "#!/bin/sh\n"}
            files["scripts/guest"] = (TOP / "scripts/guest").read_text()
            for name, text in files.items():
                file = pathlib.Path(directory, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                file.chmod(0o755)
            result = subprocess.run(
                [f"{directory}/scripts/guest", *program],
                env=dict(os.environ, TMPDIR=directory + temporary),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            wait_until(lambda: not processes_with(directory), "all end")
        return result

    def test_one_that_does_not_end_is_killed(self):
        result = self.run_with("signal.SIG_IGN", "true")
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_none_is_started_at_a_socket_that_the_kernel_cannot_be_told(self):
        result = self.run_with("signal.SIG_DFL", "true", temporary="/with space")
        self.assertEqual(result.returncode, 125, result.stderr)
        self.assertIn("TMPDIR has a space", result.stderr)

    def test_one_that_fails_at_its_end_is_told(self):
        result = self.run_with("lambda *_: sys.exit(3)")
        self.assertEqual(result.returncode, 125, result.stderr)
        self.assertIn("the device ended with status 3", result.stderr)


class Graphics(GuestTest):
    """The same frame by virtio-gpu's driver in the guest, and by that of the host."""

    llvmpipe = {"LIBGL_ALWAYS_SOFTWARE": "1"}

    def setUp(self):
        super().setUp()
        self.program = BUILDS / "plain/tests/guest/gl_frame"
        vgfence = BUILDS / "plain/tools/vgfence"
        has_virgl = subprocess.run(
            [vgfence, "gpu", "--renderer=virgl", "--help"], capture_output=True, check=False
        )
        if has_virgl.returncode != 0 or not self.program.exists():
            self.skipTest("needs libvirglrenderer-dev, libepoxy-dev, libegl-dev")

    def draw_on_host(self, draws):
        frame = os.path.join(self.directory, "host.ppm")
        subprocess.run(
            [self.program, frame, draws],
            check=True,
            timeout=LIMIT_S,
            stdout=subprocess.DEVNULL,
            env=dict(os.environ, **self.llvmpipe),
        )
        return pathlib.Path(frame).read_bytes()

    def draw_in_guest(self, device, *all_draws):
        """A frame of each, in one guest."""
        frames = [os.path.join(self.directory, f"guest-{draws}.ppm") for draws in all_draws]
        programs = [f"gl_frame {frame} {draws}" for frame, draws in zip(frames, all_draws)]
        names = self.run_guest(device, *shell(*programs)).decode().splitlines()
        self.assertEqual(len(names), len(frames))
        for name in names:
            self.assertIn("virgl", name)
        return [pathlib.Path(frame).read_bytes() for frame in frames]

    def test_a_frame_of_the_guest_is_that_of_the_host(self):
        device = self.device("--renderer", "virgl", environment=self.llvmpipe)
        # Another frame has to be another one, or comparing tells nothing.
        all_draws = ("8", "7")
        frames = self.draw_in_guest(device, *all_draws)
        for draws, frame in zip(all_draws, frames):
            expected = self.draw_on_host(draws)
            self.assertTrue(frame == expected, f"{draws} draws: the frames differ")
        self.assertNotEqual(*frames)
        self.assertEqual(device.end(), 0)

    def test_guests_killed_while_they_draw_leave_nothing_in_the_device(self):
        device = self.device("--renderer", "virgl", environment=self.llvmpipe)
        samples = []
        # The first leaves what is made once, as the threads of llvmpipe.
        for _ in range(5 if FULL else 3):
            script = "echo draws; while gl_frame /dev/null; do :; done"
            guest = self.guest(device, *shell(script))
            guest.expect_line("draws")
            self.assertIn("virgl", guest.read_line())
            guest.kill()
            device.wait_until_idle()
            samples.append((device.descriptors(), device.threads()))
        self.assertEqual(set(samples[1:]), {samples[0]})
        self.draw_in_guest(device, "8")
        self.assertEqual(device.end(), 0)

    def test_fences_are_passed_between_contexts_of_virgl(self):
        device = self.device("--renderer", "virgl", "--stats", environment=self.llvmpipe)
        self.run_guest(device, "vgfence-guest", "virgl")
        self.assertEqual(device.end(), 0)
        # Each job but the first comes with one, unless the guest has seen that it has signalled;
        # where the guest waits itself there are none.
        self.assertRegex(device.messages(), "submissions +120: .* 0 refused")
        self.assertRegex(device.messages(), "in-fences +[1-9][0-9]*,")
        self.assertRegex(device.messages(), "fences +120 retired: 0 with an error, 0 cancelled")


def main():
    global BUILDS
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    BUILDS = pathlib.Path(sys.argv.pop(1)).resolve()
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
