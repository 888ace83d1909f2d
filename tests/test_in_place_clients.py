#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""libvgfence-virglrenderer in the place of libvirglrenderer, in programs that nobody rebuilt:
test_in_place_clients.py LIBRARY REAL VTEST_SOCKET FRAMES VGFENCE RESET [VULKAN NO_UDMABUF]

LIBRARY: ours. REAL: virglrenderer's. VTEST_SOCKET: tests/vtest_socket.c. FRAMES:
tests/guest/vtest_frames.c. VGFENCE: the program. RESET: tests/reset_client.c. VULKAN:
vgfence-vulkan of tests/guest. NO_UDMABUF: tests/guest/no_udmabuf.c. The vtest tests need
virgl_test_server (package virgl-server) and Mesa's virpipe, or its Venus; they compare pixels and
print how the rates compare, which nothing depends on.
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

LIBRARY = REAL = VTEST_SOCKET = FRAMES = VGFENCE = RESET = ""
VULKAN = NO_UDMABUF = None
LIMIT_S = 120  # only so that a program that hangs ends the test
NUM_FRAMES = 200
NUM_TURNS = 100
NUM_ROUNDS = int(os.environ.get("VGF_TEST_ROUNDS", "3"))
SERVER = shutil.which("virgl_test_server")


def exported(library):
    text = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                          capture_output=True, text=True).stdout
    names = {line.split()[-1] for line in text.splitlines()}
    return {name for name in names if name.startswith("virgl_")}


class Server:
    """A virgl_test_server. It forks for each client."""

    def __init__(self, directory, name, environment, options=()):
        self.socket = os.path.join(directory, name)
        self.log = open(os.path.join(directory, name + ".log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [SERVER, "--use-egl-surfaceless", *options], stdout=subprocess.DEVNULL, stderr=self.log,
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

    def run_vulkan(self, *arguments):
        """What vgfence-vulkan says by Venus, and the seconds that it takes."""
        environment = {**os.environ, "LD_PRELOAD": VTEST_SOCKET, "VTEST_SOCKET": self.socket,
                       "VN_DEBUG": "vtest"}
        start = time.monotonic()
        client = subprocess.run([VULKAN, "--driver", "venus", *arguments], capture_output=True,
                                text=True, timeout=LIMIT_S, check=False, env=environment)
        seconds = time.monotonic() - start
        if client.returncode == 77:
            raise unittest.SkipTest(client.stdout.strip() or "there is no Venus here")
        if client.returncode != 0 or "FAILED" in client.stdout:
            raise AssertionError(f"{client.stdout}{client.stderr}; server: {self.text()}")
        return client.stdout, seconds

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


class Reset(unittest.TestCase):
    def after_a_reset(self, limit_ms, **environment):
        """Whether a fence comes back then."""
        client = subprocess.run([RESET, str(limit_ms)], capture_output=True, text=True,
                                timeout=LIMIT_S, check=False, env={**os.environ, **environment})
        if client.returncode == 77:
            self.skipTest(client.stderr)
        found = re.fullmatch("before a reset: yes\nafter it: (yes|no)\n", client.stdout)
        self.assertTrue(found and client.returncode == 0, client.stdout + client.stderr)
        return found[1]

    def test_fences_come_back_after_a_reset(self):
        # virglrenderer before 1.1.2 does not start its thread again, so that they do not.
        without = self.after_a_reset(2000)
        self.assertEqual(self.after_a_reset(LIMIT_S * 500, LD_PRELOAD=LIBRARY), "yes")
        print(f"a fence after a reset comes back: yes; without the library: {without}")


@unittest.skipUnless(SERVER, "there is no virgl_test_server: package virgl-server")
class Vtest(unittest.TestCase):
    def setUp(self):
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.directory = work.name

    def serve(self, name, *options, **environment):
        server = Server(self.directory, name, environment, options)
        self.addCleanup(server.end)
        return server

    def in_turns(self, servers, measure):
        """measure(server) for each, in turns; how the second's result compares with the first's."""
        ratios = []
        for i in range(NUM_ROUNDS):
            order = servers if i % 2 == 0 else servers[::-1]
            results = {server: measure(server) for server in order}
            ratios.append(results[servers[1]] / results[servers[0]])
        return (f"median {statistics.median(ratios):.3f} of {NUM_ROUNDS}, {min(ratios):.3f} to "
                f"{max(ratios):.3f}")

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
        pixels = set()

        def measure(server):
            rate, shown = server.draw()
            pixels.add(shown)
            return rate

        compared = self.in_turns([without, preloaded], measure)
        self.assertEqual(len(pixels), 1)
        self.assert_in_place(preloaded, NUM_ROUNDS)
        self.assertNotIn("vgfence: ", without.text())
        print(f"frames a second, preloaded over without: {compared}")

    def test_by_a_library_path_it_draws_the_same_pixels(self):
        os.symlink(LIBRARY, os.path.join(self.directory, "libvirglrenderer.so.1"))
        without = self.serve("without", LD_PRELOAD=VTEST_SOCKET)
        by_path = self.serve("by_path", LD_PRELOAD=VTEST_SOCKET, LD_LIBRARY_PATH=self.directory,
                             VGFENCE_LOG="debug")
        self.assertEqual(by_path.draw()[1], without.draw()[1])
        self.assert_in_place(by_path, 1)
        self.assertIn("vgfence: in place of /", by_path.text())

    def test_preloaded_venus_computes_and_draws_the_same(self):
        if not VULKAN:
            self.skipTest("vgfence-vulkan is not built: packages libvulkan-dev, glslang-tools")
        preload = [VTEST_SOCKET] + ([] if os.path.exists("/dev/udmabuf") else [NO_UDMABUF])
        without, preloaded = (
            self.serve(name, "--venus", LD_PRELOAD=" ".join(libraries), VGFENCE_LOG="debug")
            for name, libraries in (("without", preload), ("preloaded", preload + [LIBRARY])))
        drawn = {re.search("draw: checksum (.*)", server.run_vulkan("compute", "draw")[0])[1]
                 for server in (without, preloaded)}
        self.assertEqual(len(drawn), 1)
        compared = self.in_turns([preloaded, without], lambda server: server.run_vulkan(
            "--rounds", str(NUM_TURNS), "timeline")[1])
        ends = re.findall(r"^vgfence: ends: .*, (\d+) fences, 0 failed", preloaded.text(), re.M)
        self.assertGreaterEqual(sum(map(int, ends)), NUM_ROUNDS * NUM_TURNS)
        self.assertNotIn("vgfence: ", without.text())
        print(f"turns of Vulkan a second, preloaded over without: {compared}; both draw "
              f"{drawn.pop()}")


def main():
    global LIBRARY, REAL, VTEST_SOCKET, FRAMES, VGFENCE, RESET
    global VULKAN, NO_UDMABUF
    LIBRARY, REAL, VTEST_SOCKET, FRAMES, VGFENCE, RESET = map(os.path.abspath, sys.argv[1:7])
    if len(sys.argv) > 7:
        VULKAN, NO_UDMABUF = map(os.path.abspath, sys.argv[7:9])
    del sys.argv[1:9]
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
