#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""What 'vgfence gpu' says and does without a guest: test_gpu_program.py VGFENCE"""

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import unittest_sum

PROGRAM = ""
LIMIT_S = 20  # only so that a program that hangs ends the test


def run(*arguments):
    return subprocess.run(
        [PROGRAM, "gpu", *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def listens(path):
    """The file is there before that."""
    accepts = "00010000"  # __SO_ACCEPTCON
    with open("/proc/net/unix", encoding="utf-8") as sockets:
        return any(line.split()[3] == accepts and line.endswith(f" {path}\n") for line in sockets)


class Gpu:
    """A running 'vgfence gpu' that listens."""

    def __init__(self, directory, *arguments):
        self.path = os.path.join(directory, "socket")
        self.process = subprocess.Popen(
            [PROGRAM, "gpu", f"--socket={self.path}", *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        limit = time.monotonic() + LIMIT_S
        while not listens(self.path) and time.monotonic() < limit:
            time.sleep(0.01)

    def wait_for_line(self):
        ready, _, _ = select.select([self.process.stderr], [], [], LIMIT_S)
        return self.process.stderr.readline() if ready else ""

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, text = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, text


class Options(unittest.TestCase):
    def test_help_says_why_fence_passing_is_off(self):
        result = run("--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("BLOB_ALIGNMENT", result.stdout)

    def test_bad_options_are_explained(self):
        for option, word in (
            ("--size=1x1", "--size"),
            ("--size=1280", "--size"),
            ("--size=1280x800x", "--size"),
            ("--scanouts=17", "--scanouts"),
            ("--scanouts=-1", "--scanouts"),
            ("--fence-passing-bit=3", "--fence-passing-bit"),
            ("--fence-passing-bit=24", "--fence-passing-bit"),
            ("--fence-passing-bit=64", "--fence-passing-bit"),
            ("--fence-passing-bit=on", "--fence-passing-bit"),
            ("--renderer=hard", "--renderer"),
            ("--nonsense", "usage"),
            ("argument", "no option"),
        ):
            result = run("--socket=/nowhere/s", option)
            self.assertEqual(result.returncode, 2, option)
            self.assertIn(word, result.stderr)

    def test_the_socket_is_needed(self):
        result = run()
        self.assertEqual(result.returncode, 2)
        self.assertIn("--socket is missing", result.stderr)

    def test_a_socket_that_cannot_be_made_is_an_error(self):
        result = run("--socket=/nowhere/s")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "vgfence gpu: /nowhere/s: No such file or directory\n")

    def test_a_recording_that_cannot_be_made_is_an_error_of_that_file(self):
        for path, message in (("/nowhere/r", "No such file or directory"), ("/", "Is a directory")):
            result = run("--socket=/nowhere/s", f"--record={path}")
            self.assertEqual(result.returncode, 1)
            self.assertEqual(result.stderr, f"vgfence gpu: {path}: {message}\n")


class Running(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def test_signals_end_it_and_the_socket(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            gpu = Gpu(self.directory)
            status, text = gpu.end(number)
            self.assertEqual((status, text), (0, ""))
            self.assertFalse(os.path.exists(gpu.path))

    def test_a_screenshot_of_nothing_is_explained(self):
        picture = os.path.join(self.directory, "picture.png")
        gpu = Gpu(self.directory, f"--screenshot={picture}")
        gpu.process.send_signal(signal.SIGUSR1)
        self.assertIn("shows nothing", gpu.wait_for_line())
        self.assertEqual(gpu.end()[0], 0)
        self.assertFalse(os.path.exists(picture))

    def test_a_log_that_nobody_reads_does_not_end_it(self):
        gpu = Gpu(self.directory)
        gpu.process.stderr.close()
        gpu.process.send_signal(signal.SIGUSR1)  # there is no --screenshot, which it says
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT_S)
            connection.connect(gpu.path)
            for _ in range(2):  # one more round than the signal's
                connection.sendall(struct.pack("<III", 1, 1, 0))
                self.assertEqual(len(connection.recv(20, socket.MSG_WAITALL)), 20)
        gpu.process.send_signal(signal.SIGTERM)
        self.assertEqual(gpu.process.wait(LIMIT_S), 0)

    def test_statistics_come_at_the_end(self):
        status, text = Gpu(self.directory, "--stats").end()
        self.assertEqual(status, 0)
        self.assertIn("0 on the control queue", text)

    def test_a_recording_begins_as_a_trace(self):
        trace = os.path.join(self.directory, "trace")
        self.assertEqual(Gpu(self.directory, f"--record={trace}").end(), (0, ""))
        with open(trace, "rb") as file:
            self.assertEqual(file.read(), b"VGTRACE1" + struct.pack("<II", 1, 0))

    def test_it_offers_fence_passing_where_it_was_asked_to(self):
        for arguments, offered in (([], False), (["--fence-passing-bit=20"], True)):
            gpu = Gpu(self.directory, *arguments)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(LIMIT_S)
                connection.connect(gpu.path)
                connection.sendall(struct.pack("<III", 1, 1, 0))  # VHOST_USER_GET_FEATURES
                reply = connection.recv(20, socket.MSG_WAITALL)
            features = struct.unpack("<IIIQ", reply)[3]
            self.assertEqual(bool(features & 1 << 20), offered)
            self.assertEqual(features & 0x1F, 0x1F)
            self.assertEqual(gpu.end()[0], 0)


def main():
    global PROGRAM
    PROGRAM = sys.argv.pop(1)
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
