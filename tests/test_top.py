#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""The control socket of 'vgfence gpu', and the commands that use it: test_top.py VGFENCE"""

import fcntl
import json
import os
import pathlib
import pty
import random
import re
import select
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

import test_gpu_program
import test_hostile
import unittest_sum
from test_gpu_program import Gpu, header

PROGRAM = ""
LIMIT_S = 20  # only so that a program that hangs ends the test
SUBMIT, CREATE, DESTROY = 0x207, 0x200, 0x201
FENCED = 7  # FENCE, INFO_RING_IDX, FENCE_SHAREABLE
RESPONSE_SIZE = 24
MAX_REQUEST = 4095
MAX_CLIENTS = 8


def ring_header(command, fence_id, ctx_id, ring):
    return struct.pack("<IIQIB3x", command, FENCED, fence_id, ctx_id, ring)


class Guest:
    """Some contexts, and jobs that take as long as they say."""

    def __init__(self, path):
        self.front_end = test_hostile.FrontEnd(path, random.Random(1))
        self.front_end.start()
        self.front_end.ask()
        self.free = list(range(0, test_hostile.QUEUE_SIZE, 2))
        self.used = 0

    def send(self, request):
        self.front_end.put(0, self.free_head(), request, RESPONSE_SIZE)
        self.front_end.kick(0)

    def free_head(self):
        """Where no request is that the device still has, as that of a job that runs."""
        limit = time.monotonic() + LIMIT_S
        while not self.free and time.monotonic() < limit:
            for head in self.front_end.used(0, self.used):
                self.free.append(head)
                self.used = (self.used + 1) & 0xFFFF
            time.sleep(0 if self.free else 0.001)
        return self.free.pop(0)

    def create(self, ctx_id, name):
        self.send(header(CREATE, ctx_id=ctx_id) + struct.pack("<II64s", len(name), 0, name))

    def job(self, fence_id, ctx_id, ring, busy_us, in_fences=()):
        body = struct.pack("<II", 8, len(in_fences)) + struct.pack(
            f"<{len(in_fences)}Q", *in_fences)
        self.send(ring_header(SUBMIT, fence_id, ctx_id, ring) + body +
                  struct.pack("<II", 1, busy_us))

    def close(self):
        self.front_end.close()


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)  # before there is a limit: with one it does not wait in line
        self.socket.settimeout(LIMIT_S)
        self.file = self.socket.makefile("rb")

    def ask(self, **request):
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(self.file.readline())

    def close(self):
        self.file.close()
        self.socket.close()


def run(*arguments, cwd=None):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=LIMIT_S,
                          cwd=cwd, check=False)


class Case(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.control = os.path.join(temporary.name, "control")
        self.gpu = Gpu(temporary.name, f"--control={self.control}", "--fence-passing-bit=23",
                       "--drain-ms=100", stderr=subprocess.DEVNULL)
        self.addCleanup(self.end_gpu)
        self.wait_for_the_socket()

    def wait_for_the_socket(self):
        """It comes after the device's own."""
        limit = time.monotonic() + LIMIT_S
        while True:
            try:
                Client(self.control).close()
                return
            except (FileNotFoundError, ConnectionRefusedError):
                self.assertLess(time.monotonic(), limit)
                time.sleep(0.01)

    def end_gpu(self):
        self.assertEqual(self.gpu.end()[0], 0)
        self.assertFalse(os.path.exists(self.control))

    def start_guest(self):
        guest = Guest(self.gpu.path)
        self.addCleanup(guest.close)
        return guest

    def client(self):
        client = Client(self.control)
        self.addCleanup(client.close)
        return client

    def wait_for(self, client, condition):
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            answer = client.ask(request="list")
            if condition(answer):
                return answer
            time.sleep(0.01)
        self.fail(f"it does not come: {answer}")


def timeline(answer, ctx_id, ring):
    found = [t for t in answer["timelines"] if (t["context"], t["ring"]) == (ctx_id, ring)]
    return found[0] if found else {"pending": 0, "held": 0, "fences": 0}


class Requests(Case):
    def test_timelines_and_contexts_are_listed(self):
        guest, client = self.start_guest(), self.client()
        guest.create(1, b'frames "\x1b[2J')
        guest.create(2, b"idle")
        guest.job(1, 1, 0, 20000)
        guest.job(2, 1, 0, 1000)
        answer = self.wait_for(client, lambda a: timeline(a, 1, 0)["fences"] == 2)
        names = {c["context"]: c["name"] for c in answer["contexts"]}
        self.assertEqual(names, {1: 'frames "?[2J', 2: "idle"})
        ring = timeline(answer, 1, 0)
        self.assertEqual((ring["pending"], ring["held"], ring["failed"]), (0, 0, 0))
        self.assertEqual(sum(ring["latencies"]), 2)
        # The first took 20 ms: bucket 15 or above. The second is behind it, if it came in time.
        self.assertGreaterEqual(sum(ring["latencies"][15:]), 1)
        self.assertGreaterEqual(ring["max_ns"], 20_000_000)
        self.assertGreaterEqual(ring["total_ns"], 21_000_000)
        self.assertGreaterEqual(answer["statistics"]["submissions"], 2)

    def test_the_oldest_fence_of_a_timeline_is_named(self):
        guest, client = self.start_guest(), self.client()
        guest.create(1, b"context")
        guest.job(1, 1, 3, 60_000_000)
        guest.job(2, 1, 3, 1)
        self.wait_for(client, lambda a: timeline(a, 1, 3)["pending"] == 2)
        time.sleep(0.05)
        oldest = timeline(client.ask(request="list"), 1, 3)["oldest"]
        self.assertEqual((oldest["context"], oldest["ring"], oldest["fence"]), (1, 3, 1))
        self.assertEqual(oldest["guest_fence"], 1)
        self.assertEqual(oldest["state"], "runs")
        self.assertNotIn("awaits", oldest)
        self.assertGreaterEqual(oldest["oldest_for_ns"], 50_000_000)
        # The next one is as old, but has not been the oldest for as long.
        client.ask(request="cancel", context=1, ring=3, fence=1)
        answer = self.wait_for(client, lambda a: timeline(a, 1, 3)["pending"] < 2)
        if timeline(answer, 1, 3)["pending"] == 1:
            oldest = timeline(answer, 1, 3)["oldest"]
            self.assertEqual(oldest["fence"], 2)
            self.assertLess(oldest["oldest_for_ns"], oldest["age_ns"])

    def test_a_context_that_comes_again_begins_anew(self):
        guest, client = self.start_guest(), self.client()
        guest.create(1, b"first")
        guest.job(1, 1, 0, 1)
        self.wait_for(client, lambda a: timeline(a, 1, 0)["fences"] == 1)
        guest.send(header(DESTROY, ctx_id=1))
        self.wait_for(client, lambda a: not a["contexts"])
        self.assertEqual(timeline(client.ask(request="list"), 1, 0)["fences"], 0)
        guest.create(1, b"second")
        guest.job(2, 1, 0, 1)
        answer = self.wait_for(client, lambda a: timeline(a, 1, 0)["fences"] > 0)
        self.assertEqual(timeline(answer, 1, 0)["fences"], 1)

    def test_a_fence_is_cancelled(self):
        guest, client = self.start_guest(), self.client()
        guest.create(1, b"hangs")
        guest.job(1, 1, 0, 60_000_000)
        self.wait_for(client, lambda a: timeline(a, 1, 0)["pending"] == 1)
        self.assertIn("is pending", client.ask(
            request="cancel", context=1, ring=0, fence=2)["error"])
        result = run("control", self.control, "dump")
        self.assertRegex(result.stdout, r"context 1 ring 0, .*\n    fence 1, ")
        result = run("control", self.control, "cancel", "1:0:2")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no such fence is pending", result.stderr)
        for ring in ("global", "-1"):
            result = run("control", self.control, "cancel", f"0:{ring}:2")
            self.assertIn("no such fence is pending", result.stderr)
        result = run("control", self.control, "cancel", "1:0:1")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
        answer = self.wait_for(client, lambda a: timeline(a, 1, 0)["fences"] == 1)
        self.assertEqual(timeline(answer, 1, 0)["failed"], 1)
        self.assertEqual(answer["statistics"]["cancelled"], 1)

    def test_a_trace_is_started_and_ended(self):
        guest, client = self.start_guest(), self.client()
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory) / "fences"
            guest.create(1, b"traced")
            self.assertIn("no trace", client.ask(request="end-trace")["error"])
            result = run("control", self.control, "trace", "fences", cwd=directory)
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
            self.assertIn("already", client.ask(request="trace", file=f"{file}2")["error"])
            guest.job(7, 1, 3, 1)
            self.wait_for(client, lambda a: timeline(a, 1, 3)["fences"] == 1)
            result = run("control", self.control, "end-trace")
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
            guest.job(8, 1, 4, 1)
            self.wait_for(client, lambda a: timeline(a, 1, 4)["fences"] == 1)
            result = run("trace", str(file))
            self.assertIn("context 1 ring 3", result.stdout + result.stderr)
            self.assertNotIn("ring 4", result.stdout)
            for path in ("relative", "/nosuch/file", 5):
                self.assertIn("error", client.ask(request="trace", file=path))
            self.assertIn("error", client.ask(request="trace"))

    def test_wrong_requests_are_answered(self):
        client = self.client()
        for line in (b"", b"nonsense", b"[]", b"{}", b'{"request":1}', b'{"request":"boil"}',
                     b'{"request":"list"}\0', b"[" * 4000,
                     b'{"request":"cancel"}',
                     b'{"request":"cancel","context":-1,"ring":0,"fence":1}',
                     b'{"request":"cancel","context":1,"ring":64,"fence":1}',
                     b'{"request":"cancel","context":4294967296,"ring":0,"fence":1}',
                     b'{"request":"cancel","context":1,"ring":"0","fence":1}',
                     b'{"request":"cancel","context":1,"ring":0,"fence":1.5}'):
            client.socket.sendall(line + b"\n")
            self.assertEqual(list(json.loads(client.file.readline())), ["error"], line)
        self.assertIn("statistics", client.ask(request="list"))

    def test_bad_usage_is_explained(self):
        for arguments in (["top"], ["top", "/nowhere", "more"], ["top", "--interval=0", "s"],
                          ["top", "--hung=x", "s"], ["top", "--sort=name", "s"], ["control"],
                          ["control", "s"], ["control", "s", "boil"],
                          ["control", "s", "list", "more"], ["control", "s", "cancel"],
                          ["control", "s", "cancel", "1:0"], ["control", "s", "cancel", "1:64:1"],
                          ["control", "s", "cancel", "1:0:-1"],
                          ["control", "s", "trace"], ["control", "s", "end-trace", "f"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn("usage:", result.stderr)
        for arguments in (["top", "/nowhere/s"], ["control", "/nowhere/s", "list"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 1)
            self.assertIn("/nowhere/s: No such file or directory", result.stderr)


class Hostile(Case):
    def assert_answers(self):
        start = time.monotonic()
        client = Client(self.control)
        self.assertIn("statistics", client.ask(request="list"))
        client.close()
        return time.monotonic() - start

    def test_only_its_user_may_use_it(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.control).st_mode), 0o600)
        if os.geteuid() != 0:
            self.skipTest("needs root, to be another user")
        for directory in (os.path.dirname(self.control), self.control):
            os.chmod(directory, 0o777)  # what is tried is the look at the client
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setuid(65534)
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(LIMIT_S)
                    connection.connect(self.control)
                    try:
                        connection.sendall(b'{"request":"list"}\n')
                        status = 0 if connection.recv(1) == b"" else 2
                    except (BrokenPipeError, ConnectionResetError):
                        status = 0
            finally:
                os._exit(status)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assert_answers()

    def test_half_a_line_keeps_nobody(self):
        client = self.client()
        client.socket.sendall(b'{"request":')
        self.assert_answers()
        client.socket.sendall(b'"list"}\n')
        self.assertIn("statistics", json.loads(client.file.readline()))

    def test_many_requests_at_once_are_answered_in_order(self):
        client = self.client()
        client.socket.sendall(b'{"request":"list"}\n{"request":"boil"}\n' * 50)
        for _ in range(50):
            self.assertIn("statistics", json.loads(client.file.readline()))
            self.assertIn("error", json.loads(client.file.readline()))

    def wait_until_the_loop_sleeps(self):
        """A loop that wakes up by itself never ends this."""
        def read():
            pid = self.gpu.process.pid
            text = pathlib.Path(f"/proc/{pid}/task/{pid}/status").read_text(encoding="ascii")
            return (re.search(r"State:\s(\w)", text).group(1),
                    re.search(r"\nvoluntary_ctxt_switches:\s(\d+)", text).group(1))
        before = None
        limit = time.monotonic() + LIMIT_S
        while before is None or before[0] != "S" or read() != before:
            self.assertLess(time.monotonic(), limit)
            before = read()
            time.sleep(0.1)

    def test_who_does_not_read_is_not_read_from(self):
        client = self.client()
        client.socket.setblocking(False)
        try:
            for _ in range(100000):
                client.socket.send(b'{"request":"list"}\n' * 100)
        except BlockingIOError:
            pass
        else:
            self.fail("all of it was taken")
        guest = self.start_guest()
        guest.create(1, b"works")
        guest.job(1, 1, 0, 1)
        other = self.client()
        self.wait_for(other, lambda a: timeline(a, 1, 0)["fences"] == 1)
        self.wait_until_the_loop_sleeps()

    def test_a_line_that_is_too_long_ends_the_client(self):
        client = self.client()
        client.socket.sendall(b"x" * (MAX_REQUEST + 1))
        self.assertIn("too long", json.loads(client.file.readline())["error"])
        self.assertEqual(client.file.read(), b"")
        other = self.client()
        other.socket.sendall(b"x" * MAX_REQUEST + b"\n")
        self.assertIn("object", json.loads(other.file.readline())["error"])
        self.assertIn("statistics", other.ask(request="list"))

    def test_of_too_many_clients_the_idlest_leaves(self):
        clients = [self.client() for _ in range(MAX_CLIENTS)]
        for client in [*clients[1:], clients[0]]:
            client.ask(request="list")
        last = self.client()
        self.assertIn("statistics", last.ask(request="list"))
        self.assertEqual(clients[1].file.read(), b"")
        for client in [clients[0], *clients[2:]]:
            self.assertIn("statistics", client.ask(request="list"))

    def test_clients_that_leave_leave_nothing(self):
        descriptors = f"/proc/{self.gpu.process.pid}/fd"
        self.assert_answers()
        before = len(os.listdir(descriptors))
        for data in (b"", b"x", b'{"request":"list"}\n', b'{"request":"list"}\n' * 200):
            for _ in range(30):
                client = Client(self.control)
                client.socket.sendall(data)
                client.close()
        limit = time.monotonic() + LIMIT_S
        left = None
        while left is None or (left > before + 1 and time.monotonic() < limit):
            self.assert_answers()  # so those before have been let in
            left = len(os.listdir(descriptors))
        self.assertLessEqual(left, before + 1)

    def test_a_request_may_be_the_last_one(self):
        client = self.client()
        client.socket.sendall(b'{"request":"list"}\n')
        client.socket.shutdown(socket.SHUT_WR)
        self.assertIn("statistics", json.loads(client.file.readline()))
        self.assertEqual(client.file.read(), b"")


class Top(Case):
    def start_storm(self):
        """Short jobs on two contexts, as long as the test goes on; a step is some of them."""
        guest = self.start_guest()
        guest.create(1, b"storm")
        guest.create(2, b"waits")
        self.fence_id = 0

        def step():
            for _ in range(4):
                self.fence_id += 1
                guest.job(self.fence_id, 1, 0, 100)
            time.sleep(0.01)

        return guest, step

    def hang(self, guest, step, top, ring):
        """A fence of this ring hangs, and one that waits for it. Returns what top says until it
        names the first, and how long that takes."""
        hung = self.fence_id + 1
        self.fence_id += 2
        guest.job(hung, 1, ring, 60_000_000)
        guest.job(hung + 1, 2, 0, 1, (hung,))
        start = time.monotonic()
        text = ""
        while f"HUNG 1:{ring}:{hung} " not in text:
            self.assertLess(time.monotonic(), start + LIMIT_S, text)
            step()
            text += self.read_more(top)
        return text, time.monotonic() - start

    def read_more(self, top):
        text = ""
        while select.select([top.stdout], [], [], 0)[0]:
            text += os.read(top.stdout.fileno(), 65536).decode()
        return text

    def test_a_fence_that_hangs_in_a_storm_is_named_within_a_second(self):
        guest, step = self.start_storm()
        top = subprocess.Popen([PROGRAM, "top", self.control], stdout=subprocess.PIPE, text=True)
        self.addCleanup(top.stdout.close)
        start = time.monotonic()
        while time.monotonic() < start + 1.5:
            step()
        hung = self.fence_id + 1
        text, named = self.hang(guest, step, top, 1)
        ring = 1
        while named >= 1 and ring < 5:  # beside others any may be late
            ring += 1
            named = min(named, self.hang(guest, step, top, ring)[1])
        # What waits for the first hangs, too, but is younger. The software GPU waits by itself.
        both = re.compile(rf"HUNG 1:1:{hung} .*\nHUNG 2:0:{hung + 1} for .* \(waits\)")
        limit = time.monotonic() + LIMIT_S
        while not both.search(text):
            self.assertLess(time.monotonic(), limit, text)
            step()
            text += self.read_more(top)
        top.terminate()
        text += top.stdout.read()
        self.assertEqual(top.wait(LIMIT_S), 0)
        print(f"named after {named:.2f} s", file=sys.stderr)
        self.assertLess(named, 1)
        self.assertRegex(text, rf"HUNG 1:1:{hung} for \d\.\d s: runs.* \(storm\)\n")
        # What goes on is not named, the storm is counted.
        self.assertNotIn("HUNG 1:0:", text)
        rates = [int(rate) for rate in re.findall(r"^ +1 +0 +\d+ +\d+ +(\d+) .*storm$", text, re.M)]
        self.assertGreater(max(rates), 50)

    def test_once_is_once(self):
        guest, step = self.start_storm()
        step()
        result = run("top", "--once", "--interval=0.2", self.control)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout.count("vgfence top"), 1)
        self.assertNotIn("\033", result.stdout)
        self.assertRegex(result.stdout, r"(?m)^ +1 +0 +0 +0 .* storm$")
        self.assertRegex(result.stdout, r"(?m)^ +2 +- +- .* waits$")
        guest.front_end.ask()

    def test_the_end_of_the_device_is_the_end(self):
        top = subprocess.Popen([PROGRAM, "top", "--interval=0.1", self.control],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertIn("vgfence top", top.stdout.readline())
        self.gpu.process.terminate()
        _, text = top.communicate(timeout=LIMIT_S)
        self.assertEqual(top.returncode, 1)
        self.assertIn("the device has gone", text)

    def test_a_terminal_is_filled_and_left_as_it_was(self):
        guest, step = self.start_storm()
        step()
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 40, 0, 0))
        before = termios.tcgetattr(slave)
        top = subprocess.Popen([PROGRAM, "top", self.control], stdin=slave, stdout=slave)
        data = b""
        limit = time.monotonic() + LIMIT_S
        while b"\033[J" not in data and time.monotonic() < limit:
            if select.select([master], [], [], 0.1)[0]:
                data += os.read(master, 65536)
        os.write(master, b"q")
        self.assertEqual(top.wait(LIMIT_S), 0)
        screen = data.split(b"\033[J")[0].split(b"\033[H")[-1]
        rows = [re.sub(rb"\033\[K|\r", b"", row) for row in screen.split(b"\n")]
        self.assertLessEqual(len(rows), 4)
        self.assertLessEqual(max(len(row) for row in rows), 40)
        self.assertEqual(termios.tcgetattr(slave), before)
        os.close(master)
        os.close(slave)
        guest.front_end.ask()


class Double:
    """In place of a device: it answers each request with the same line."""

    def __init__(self, directory, answer):
        self.path = os.path.join(directory, "double")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.answer = answer
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rb") as file:
            while file.readline():
                try:
                    connection.sendall(self.answer + b"\n")
                except BrokenPipeError:
                    return

    def close(self):
        self.thread.join(LIMIT_S)
        self.listener.close()


class Untrusted(unittest.TestCase):
    """A guest may have taken the device over: what it says may be anything."""

    def run_against(self, answer, *arguments):
        with tempfile.TemporaryDirectory() as directory:
            double = Double(directory, answer)
            result = run(arguments[0], double.path, *arguments[1:])
            double.close()
        return result

    def top(self, answer):
        return self.run_against(json.dumps(answer).encode(), "top", "--once", "--interval=0.1")

    def test_what_held_work_waits_for_is_shown_behind_what_hangs(self):
        place = {"context": 2, "ring": 0, "pending": 1, "held": 1}
        name = {"context": 2, "ring": 0, "fence": 9, "age_ns": 10**9, "oldest_for_ns": 9 * 10**8,
                "state": "held for a fence", "awaits": {"context": 1, "ring": None, "fence": 5}}
        other = {"context": 0, "ring": None, "pending": 1, "oldest": {
            "context": 1, "ring": None, "fence": 5, "oldest_for_ns": 6 * 10**8, "state": "runs"}}
        young = {"context": 1, "ring": 1, "pending": 1, "oldest": {
            "context": 1, "ring": 1, "fence": 7, "oldest_for_ns": 4 * 10**8, "state": "runs"}}
        result = self.top({"timelines": [{**place, "oldest": name}, other, young]})
        hung = [line for line in result.stdout.split("\n") if line.startswith("HUNG")]
        self.assertEqual(hung, ["HUNG 1:global:5 for 0.6 s: runs ()",
                                "HUNG 2:0:9 for 0.9 s: held for a fence 1:global:5 ()"])

    def test_nothing_moves_the_cursor(self):
        evil = "\033[2J\n\u009b\u202e"
        contexts = [{"context": 1, "name": evil}, {"context": 2, "name": evil}]
        oldest = {"context": 1, "ring": 0, "fence": 1, "oldest_for_ns": 10**9, "state": evil}
        result = self.top({"contexts": contexts, "timelines": [
            {"context": 1, "ring": 0, "pending": 1, "oldest": oldest}]})
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^[\n -~]*$")
        self.assertIn(r"\x1b[2J\x0a", result.stdout)
        for request, key in (("dump", "dump"), ("list", "x"), ("list", "error")):
            answer = json.dumps({key: evil}).encode()
            result = self.run_against(answer, "control", request)
            self.assertRegex(result.stdout + result.stderr, r"^[\n -~]*$")

    def test_answers_of_other_kinds_do_no_harm(self):
        row = {"context": -1, "ring": 10**9, "pending": 2**64 - 1, "latencies": [-1] * 99,
               "oldest": [], "fences": "many", "total_ns": 2**64 - 1}
        for answer in ({}, {"timelines": {}, "contexts": 1, "statistics": []},
                       {"timelines": [1, None, [], row], "contexts": [None, 1, {"name": 1}]},
                       {"timelines": [row] * 3000, "contexts": [{"name": "x" * 999}] * 3000}):
            result = self.top(answer)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
        for answer in (b"", b"[]", b"1", b"{" * 999):
            result = self.run_against(answer, "top", "--once")
            self.assertEqual(result.returncode, 1)
            self.assertIn("Bad message", result.stderr)


class Silent(unittest.TestCase):
    """A device that does not do its part is not waited for without end."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def listen(self, name, backlog):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(os.path.join(self.directory, name))
        listener.listen(backlog)
        return listener

    def start(self, *arguments):
        process = subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def answer_without_reading(self, listener, process):
        """So that there is always one request more."""
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(LIMIT_S)
            limit = time.monotonic() + 3 * LIMIT_S
            while process.poll() is None:
                self.assertLess(time.monotonic(), limit)
                try:
                    connection.sendall(b"{}\n")
                except (BrokenPipeError, ConnectionResetError):
                    pass
                time.sleep(0.01)

    def test_it_is_given_up(self):
        with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
            if int(file.read()) > 1 << 19:
                self.skipTest("net.core.wmem_default is above 512 KiB, which takes long to fill")
        full, mute, deaf = self.listen("full", 0), self.listen("mute", 2), self.listen("deaf", 1)
        in_line = socket.socket(socket.AF_UNIX)
        self.addCleanup(in_line.close)
        in_line.connect(full.getsockname())  # a backlog of 0 has room for one
        processes = [self.start("control", full.getsockname(), "list"),
                     self.start("top", full.getsockname()),
                     self.start("control", mute.getsockname(), "list"),
                     self.start("top", "--once", mute.getsockname()),
                     self.start("top", "--interval=0.1", deaf.getsockname())]
        self.answer_without_reading(deaf, processes[-1])
        for process in processes:
            _, text = process.communicate(timeout=LIMIT_S)
            self.assertEqual(process.returncode, 1, process.args)
            self.assertIn("Connection timed out", text)


def main():
    global PROGRAM
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    test_gpu_program.PROGRAM = PROGRAM
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
