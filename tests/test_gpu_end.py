#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""How 'vgfence gpu' ends, with its files: test_gpu_end.py VGFENCE"""

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

import test_gpu_program
import test_hostile
import test_top
import unittest_sum
from test_gpu_program import Gpu, header

PROGRAM = ""
LIMIT_S = 20  # only so that a program that hangs ends the test
NUM_JOBS = 400
CREATE_2D, SET_SCANOUT = 0x101, 0x103
MAX_SIZE = 8192


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


def main():
    global PROGRAM
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    test_gpu_program.PROGRAM = PROGRAM
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
