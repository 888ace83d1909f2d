#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""How 'vgfence gpu' ends, with its files: test_gpu_end.py VGFENCE BLOCKED_LOG

BLOCKED_LOG: of blocked_log.c.
"""

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

import test_gpu_program
import test_hostile
import test_top
import unittest_sum
from test_gpu_program import Gpu, header

PROGRAM = ""
BLOCKED_LOG = ""
LIMIT_S = 20  # only so that a program that hangs ends the test
NUM_JOBS = 400
CREATE_2D, SET_SCANOUT = 0x101, 0x103
MAX_SIZE = 8192


def is_pending(pid, number):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        (pending,) = (line.split()[1] for line in status if line.startswith("ShdPnd:"))
    return bool(int(pending, 16) & 1 << (number - 1))


class Ending(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name
        self.recording = os.path.join(self.directory, "recording")

    def start(self, *arguments):
        gpu = Gpu(self.directory, "--fence-passing-bit=23", *arguments)
        guest = test_top.Guest(gpu.path)
        self.addCleanup(guest.close)
        return gpu, guest

    def do_jobs(self, guest):
        """All that is recorded of them is: they are done."""
        guest.create(1, b"")
        for fence_id in range(1, NUM_JOBS + 1):
            guest.job(fence_id, 1, 0, 1)
        limit = time.monotonic() + LIMIT_S
        while len(guest.free) < test_hostile.QUEUE_SIZE // 2:
            for head in guest.front_end.used(0, guest.used):
                guest.free.append(head)
                guest.used = (guest.used + 1) & 0xFFFF
            self.assertLess(time.monotonic(), limit)

    def assert_recording_is_whole(self):
        result = subprocess.run([PROGRAM, "replay", "--json", self.recording], text=True,
                                capture_output=True, timeout=LIMIT_S, check=False)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(json.loads(result.stdout)[0]["jobs"], NUM_JOBS)

    def test_a_slow_trace_costs_no_recording(self):
        trace = os.path.join(self.directory, "trace")
        os.mkfifo(trace)
        reader = os.open(trace, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        gpu, guest = self.start(f"--trace={trace}", f"--record={self.recording}")
        self.do_jobs(guest)
        status, text = gpu.end()
        self.assertEqual(status, 0)
        self.assertIn("events: the file was not fast enough", text)
        self.assert_recording_is_whole()

    def test_a_screenshot_for_which_there_is_no_time_costs_nothing(self):
        picture = os.path.join(self.directory, "picture.png")
        gpu, guest = self.start(f"--screenshot={picture}", f"--record={self.recording}")
        guest.send(header(CREATE_2D) + struct.pack("<IIII", 1, 2, MAX_SIZE, MAX_SIZE))
        guest.send(header(SET_SCANOUT) + struct.pack("<6I", 0, 0, MAX_SIZE, MAX_SIZE, 0, 1))
        self.do_jobs(guest)
        gpu.process.send_signal(signal.SIGUSR1)
        status, text = gpu.end()
        self.assertEqual(status, 0)
        self.assertFalse(os.path.exists(f"{picture}.part"))
        if not os.path.exists(picture):
            self.assertIn(f"no screenshot in {picture}: there is no time for it", text)
        self.assert_recording_is_whole()

    def assert_ends_though_its_log_blocks(self, gpu):
        self.addCleanup(gpu.process.kill)
        start = time.monotonic()
        gpu.process.send_signal(signal.SIGTERM)
        self.assertEqual(gpu.process.wait(LIMIT_S), 1)
        self.assertLess(time.monotonic() - start, 5)
        self.assertFalse(os.path.exists(gpu.path))

    def start_with_a_log_that_blocks(self, *arguments):
        environment = {"LD_PRELOAD": BLOCKED_LOG, "ASAN_OPTIONS": os.environ.get(
            "ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        with unittest.mock.patch.dict(os.environ, environment):
            gpu = Gpu(self.directory, *arguments)
        self.addCleanup(gpu.process.stderr.close)
        return gpu

    def test_a_thread_that_waits_for_the_log_does_not_keep_it(self):
        gpu = self.start_with_a_log_that_blocks()
        gpu.process.send_signal(signal.SIGUSR1)  # there is no --screenshot, which it says
        limit = time.monotonic() + LIMIT_S
        while is_pending(gpu.process.pid, signal.SIGUSR1):
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.001)
        self.assert_ends_though_its_log_blocks(gpu)

    def test_the_log_does_not_keep_it(self):
        os.mkfifo(self.recording)
        reader = os.open(self.recording, os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(self.recording, os.O_WRONLY)
        os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096))
        gpu = self.start_with_a_log_that_blocks(f"--record={self.recording}")
        self.assert_ends_though_its_log_blocks(gpu)
        os.close(reader)
        os.close(writer)


def main():
    global PROGRAM, BLOCKED_LOG
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    BLOCKED_LOG = os.path.abspath(sys.argv.pop(1))
    test_gpu_program.PROGRAM = PROGRAM
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
