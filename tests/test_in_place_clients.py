#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""libvgfence-virglrenderer in the place of libvirglrenderer, in programs that nobody rebuilt:
test_in_place_clients.py LIBRARY REAL VTEST_SOCKET FRAMES VGFENCE

LIBRARY: ours. REAL: virglrenderer's. VTEST_SOCKET: tests/vtest_socket.c. FRAMES:
tests/guest/vtest_frames.c. VGFENCE: the program. The vtest tests need virgl_test_server (package
virgl-server) and Mesa's virpipe; they compare pixels and print how the rates compare, which nothing
depends on.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import unittest

import unittest_sum

LIBRARY = REAL = VTEST_SOCKET = FRAMES = VGFENCE = ""
LIMIT_S = 120  # only so that a program that hangs ends the test
NUM_FRAMES = 200
NUM_ROUNDS = int(os.environ.get("VGF_TEST_ROUNDS", "3"))
SERVER = shutil.which("virgl_test_server")


def exported(library):
    text = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                          capture_output=True, text=True).stdout
    names = {line.split()[-1] for line in text.splitlines()}
    return {name for name in names if name.startswith("virgl_")}


class Server:
    """A virgl_test_server. It forks for each client."""

    def __init__(self, directory, name, environment):
        self.socket = os.path.join(directory, name)
        self.log = open(os.path.join(directory, name + ".log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [SERVER, "--use-egl-surfaceless"], stdout=subprocess.DEVNULL, stderr=self.log,
            env={**os.environ, "VTEST_SOCKET": self.socket, **environment})
        self.wait_for(lambda: os.path.exists(self.socket))

    def wait_for(self, condition):
        limit = time.monotonic() + LIMIT_S
        while not condition():
            if time.monotonic() > limit or self.process.poll() is not None:
                raise AssertionError(f"virgl_test_server: {self.text()}")
            time.sleep(0.01)

    def text(self):
        with open(self.log.name, encoding="utf-8") as log:
            return log.read()

    def draw(self):
        """Frames a second, and a hash of the last one's pixels."""
        environment = {**os.environ, "LD_PRELOAD": VTEST_SOCKET, "VTEST_SOCKET": self.socket,
                       "LIBGL_ALWAYS_SOFTWARE": "1", "GALLIUM_DRIVER": "virpipe"}
        client = subprocess.run([FRAMES, str(NUM_FRAMES)], capture_output=True, text=True,
                                timeout=LIMIT_S, check=False, env=environment)
        found = re.fullmatch(r"(\S+) frames/s, pixels (\w+), (.*)\n", client.stdout)
        if not found:
            raise AssertionError(f"{client.stdout}{client.stderr}; server: {self.text()}")
        if not found[3].startswith("virgl"):
            raise unittest.SkipTest(f"Mesa has no virpipe here, but {found[3]}")
        return float(found[1]), found[2]

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Symbols(unittest.TestCase):
    def test_no_function_of_the_library_found_is_missing(self):
        names = exported(REAL)
        self.assertIn("virgl_renderer_init", names)
        self.assertEqual(names - exported(LIBRARY), set())

    def test_submit_cmd2_is_there_with_every_version(self):
        self.assertIn("virgl_renderer_submit_cmd2", exported(LIBRARY))

    def test_nothing_else_of_it_can_be_linked(self):
        text = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], check=True,
                              capture_output=True, text=True).stdout
        names = {line.split()[-1] for line in text.splitlines()}
        self.assertEqual({n for n in names if not n.startswith("virgl_")}, {"vgf_real_library"})


class Info(unittest.TestCase):
    def test_it_says_in_whose_place(self):
        text = subprocess.run([VGFENCE, "info", "--json"], check=True, capture_output=True,
                              text=True, timeout=LIMIT_S).stdout
        found = {f["name"]: f for f in json.loads(text)["features"]}["virgl_in_place"]
        self.assertEqual(found["answer"], "yes")
        self.assertIn(os.path.realpath(REAL), found["detail"])


@unittest.skipUnless(SERVER, "there is no virgl_test_server: package virgl-server")
class Vtest(unittest.TestCase):
    def setUp(self):
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.directory = work.name

    def serve(self, name, **environment):
        server = Server(self.directory, name, environment)
        self.addCleanup(server.end)
        return server

    def assert_in_place(self, server, clients):
        """Each client's process has told what it did when it ended."""
        ends = re.compile(r"^vgfence: ends: (\d+) submissions, .*, (\d+) fences, 0 failed",
                          re.MULTILINE)
        server.wait_for(lambda: len(ends.findall(server.text())) == clients)
        for submissions, fences in ends.findall(server.text()):
            self.assertGreaterEqual(int(submissions), NUM_FRAMES)
            self.assertGreaterEqual(int(fences), NUM_FRAMES)

    def test_preloaded_it_draws_the_same_pixels(self):
        without = self.serve("without", LD_PRELOAD=VTEST_SOCKET, VGFENCE_LOG="debug")
        preloaded = self.serve("preloaded", LD_PRELOAD=f"{VTEST_SOCKET} {LIBRARY}",
                               VGFENCE_LOG="debug")
        ratios = []
        pixels = set()
        for i in range(NUM_ROUNDS):
            order = [without, preloaded] if i % 2 == 0 else [preloaded, without]
            rates = {}
            for server in order:
                rates[server], shown = server.draw()
                pixels.add(shown)
            ratios.append(rates[preloaded] / rates[without])
        self.assertEqual(len(pixels), 1)
        self.assert_in_place(preloaded, NUM_ROUNDS)
        self.assertNotIn("vgfence", without.text())
        print(f"frames a second, preloaded over without: median {statistics.median(ratios):.3f}"
              f" of {NUM_ROUNDS}, {min(ratios):.3f} to {max(ratios):.3f}")

    def test_by_a_library_path_it_draws_the_same_pixels(self):
        os.symlink(LIBRARY, os.path.join(self.directory, "libvirglrenderer.so.1"))
        without = self.serve("without", LD_PRELOAD=VTEST_SOCKET)
        by_path = self.serve("by_path", LD_PRELOAD=VTEST_SOCKET, LD_LIBRARY_PATH=self.directory,
                             VGFENCE_LOG="debug")
        self.assertEqual(by_path.draw()[1], without.draw()[1])
        self.assert_in_place(by_path, 1)
        self.assertIn("vgfence: in place of /", by_path.text())


def main():
    global LIBRARY, REAL, VTEST_SOCKET, FRAMES, VGFENCE
    LIBRARY, REAL, VTEST_SOCKET, FRAMES, VGFENCE = map(os.path.abspath, sys.argv[1:6])
    del sys.argv[1:6]
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
