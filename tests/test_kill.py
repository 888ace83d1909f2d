#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Who is killed, stopped or runs out of something, and when: test_kill.py VGFENCE

The cells of the table in docs/testing.md that no other test has. The front end is a process of its
own. It brings its guest into the state, says so, and goes on when it is told to.
"""

import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import unittest_sum
from test_gpu_program import listens
from test_hostile import GUEST_ADDR, PAGE, QUEUE_SIZE, FrontEnd, Gone, has_address_sanitizer

PROGRAM = ""
STATES = ("idle", "storm", "held", "flush_pending")
LIMIT_S = 30  # only so that what hangs ends the test
STOP_S = 2
# What may pass until a peer is noticed to be gone, and until the next guest has an answer: nothing
# of this is waited for by the device, so it is how slow the machine may be.
SOON_S = 10
FORK = multiprocessing.get_context("fork")
FENCED = 7  # FENCE, INFO_RING_IDX, FENCE_SHAREABLE
FOR_EVER_US = 3_600_000_000
MAX_GROWTH_KIB = 16 << 10
OK, OUT_OF_MEMORY = 0x1100, 0x1201
SLOTS = QUEUE_SIZE // 2
FOR_REQUESTS = 16 << 20  # less than one resource of those that there is no memory for
BACKING = GUEST_ADDR + PAGE * 200
STORM_JOBS, STORM_US = 20, 50_000  # one after the other


def command(number, *words, flags=0, fence_id=0, ctx_id=0, more=b""):
    header = struct.pack("<IIQIB3x", number, flags, fence_id, ctx_id, 0)
    return header + struct.pack(f"<{len(words)}I", *words) + more


def blob(ctx_id, resource_id):
    """Of the host's memory, which is a file there."""
    return command(0x10C, resource_id, 2, 1, 0, ctx_id=ctx_id, more=struct.pack("<QQ", 0, PAGE))


def job(ctx_id, fence_id, busy_us, in_fences=()):
    more = struct.pack(f"<{len(in_fences)}Q", *in_fences) + struct.pack("<II", 1, busy_us)
    return command(0x207, 8, len(in_fences), flags=FENCED, fence_id=fence_id, ctx_id=ctx_id,
                   more=more)


class Guest(FrontEnd):
    """A well-behaved guest, with one queue."""

    def __init__(self, path):
        super().__init__(path, random.Random(1))
        self.asked = self.seen = 0
        self.free = list(range(SLOTS))
        self.start()

    def done(self):
        while self.halves[(2048 + 2) // 2] != self.seen & 0xFFFF:
            at = 2048 + 4 + self.seen % QUEUE_SIZE * 8
            self.free.append(struct.unpack_from("<I", self.memory, at)[0] // 2)
            self.seen += 1
        return self.seen

    def wait(self, count, limit_s=LIMIT_S):
        limit = time.monotonic() + limit_s
        while self.done() < count:
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.done()} of {count} are done")
            time.sleep(0.0005)

    def put(self, request):
        """Returns where its response will be. Not more at a time than there is room for."""
        if not self.free:
            self.wait(self.seen + 1)
        head = self.free.pop(0) * 2
        at = PAGE * 4 + head * 1024
        self.memory[at : at + len(request)] = request
        addr = GUEST_ADDR + at
        struct.pack_into("<QIHHQIHH", self.memory, head * 16, addr, len(request), 1, head + 1,
                         addr + 1024, 24, 2, 0)
        self.halves[(1024 + 4) // 2 + self.asked % QUEUE_SIZE] = head
        self.asked += 1
        self.halves[(1024 + 2) // 2] = self.asked & 0xFFFF
        self.kick(0)
        return at + 1024

    def request_now(self, request):
        """The type of the response."""
        at = self.put(request)
        slot = (at - PAGE * 4 - 1024) // 2048
        limit = time.monotonic() + LIMIT_S
        while slot not in self.free:
            self.done()
            if time.monotonic() > limit:
                raise TimeoutError("a request is not answered")
            time.sleep(0.0005)
        return struct.unpack_from("<I", self.memory, at)[0]

    def create_context(self, ctx_id):
        return self.request_now(command(0x200, *[0] * 18, ctx_id=ctx_id))

    def storm(self):
        """Until there are jobs under way."""
        while True:
            for number in range(STORM_JOBS):
                self.put(job(1, 500 + number, STORM_US))
            if self.done() < self.asked:
                return

    def enter(self, state):
        """Returns how many requests are not answered in it, for longer than anybody waits."""
        assert self.create_context(1) == self.create_context(2) == OK
        if state == "storm":
            self.storm()
        if state in ("held", "flush_pending"):
            self.put(job(1, 1, FOR_EVER_US))
        if state == "held":
            for fence_id in range(2, 10):
                self.put(job(2, fence_id, 10, [1]))
            assert self.create_context(4) == OK  # so the device has all of them
            return 9
        if state == "flush_pending":
            entries = struct.pack("<QII", BACKING, 16 * 16 * 4, 0)
            rect = (0, 0, 16, 16)
            for request in (command(0x101, 1, 2, 16, 16), command(0x106, 1, 1, more=entries),
                            command(0x103, *rect, 0, 1), command(0x105, *rect, 0, 0, 1, 0)):
                assert self.request_now(request) == OK
            self.put(command(0x104, *rect, 1, 1, flags=1, fence_id=99, more=struct.pack("<Q", 1)))
            assert self.create_context(4) == OK
            return 2
        return 0

    def go_on(self, state, pending):
        """Of each state something that shows that the device is there for it."""
        if state == "storm":
            for fence_id in range(1000, 1200):
                self.put(job(1, fence_id, 10))
            self.wait(self.asked - pending)
        assert self.create_context(3) == OK


def front_end(pipe, path, state):
    """The process that is killed or stopped."""
    guest = Guest(path)
    pending = guest.enter(state)
    fence_id = 1
    pipe.send("ready")
    while not pipe.poll():
        if state == "storm":
            guest.put(job(1, fence_id, 50))
            fence_id += 1
        else:
            time.sleep(0.01)
    if state == "storm":
        guest.wait(guest.asked)
    guest.go_on("idle", pending)
    pipe.send("went on")


def control_client(pipe, path):
    """It asks without end and reads nothing."""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(path)
        pipe.send("ready")
        while True:
            client.sendall(b'{"request":"list"}\n')


@contextlib.contextmanager
def peer(function, *arguments):
    """A process, when it is ready, and a pipe to it. It is forked: to start Python anew takes many
    times as long as all that it does."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=function, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        assert receive(ours) == "ready"
        yield process, ours
    finally:
        process.kill()
        process.join(LIMIT_S)
        ours.close()


def receive(pipe):
    if not pipe.poll(LIMIT_S):
        raise TimeoutError("a peer says nothing")
    return pipe.recv()


class Device:
    """A 'vgfence gpu'. limits: of its resources, from the beginning."""

    def __init__(self, directory, *options, limits=None):
        self.path = os.path.join(directory, "socket")
        self.control = os.path.join(directory, "control")
        self.log = open(os.path.join(directory, "log"), "w+", encoding="utf-8")

        def set_limits():
            for what, value in (limits or {}).items():
                resource.setrlimit(what, (value, value))

        self.process = subprocess.Popen(  # pylint: disable=subprocess-popen-preexec-fn
            [PROGRAM, "gpu", f"--socket={self.path}", f"--control={self.control}",
             "--fence-passing-bit=23", *options],
            stderr=self.log, preexec_fn=set_limits)
        limit = time.monotonic() + LIMIT_S
        while not listens(self.path) and self.process.poll() is None:
            if time.monotonic() > limit:
                raise TimeoutError("it does not listen")
            time.sleep(0.01)

    def said(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_kib(self, name="VmRSS"):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SOON_S)
            client.connect(self.control)
            client.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(client.makefile().readline())

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        status = self.process.wait(LIMIT_S)
        self.log.close()
        return status


class Kill(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    @contextlib.contextmanager
    def device(self, *options, limits=None):
        """Which ends well, and has no more in the end than before its guests."""
        device = Device(self.directory, *options, limits=limits)
        try:
            self.next_guest_works(device)  # so that what is made once is there
            before, memory = device.descriptors(), device.memory_kib()
            yield device
            self.next_guest_works(device)
            self.wait_for(lambda: device.descriptors() <= before)
            # The address sanitizer keeps what is freed.
            growth = MAX_GROWTH_KIB * (8 if has_address_sanitizer(PROGRAM) else 1)
            self.assertLess(device.memory_kib(), memory + growth)
        finally:
            status = device.end()
        self.assertEqual(status, 0)

    def wait_for(self, condition):
        limit = time.monotonic() + SOON_S
        while not condition():
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.01)

    def next_guest_works(self, device):
        begin = time.monotonic()
        guest = Guest(device.path)
        try:
            guest.enter("idle")
            guest.go_on("storm", 0)
        finally:
            guest.close()
        self.assertLess(time.monotonic() - begin, SOON_S)

    # --- The front end

    def front_end_is_killed(self, state):
        with self.device() as device:
            for _ in range(3):
                with peer(front_end, device.path, state) as (process, _):
                    process.kill()
                    process.join(LIMIT_S)
                    self.assertEqual(process.exitcode, -signal.SIGKILL)
                    self.next_guest_works(device)

    def front_end_is_stopped(self, state):
        with self.device() as device, peer(front_end, device.path, state) as (process, pipe):
            os.kill(process.pid, signal.SIGSTOP)
            end = time.monotonic() + STOP_S
            while time.monotonic() < end:
                begin = time.monotonic()
                self.assertIn("timelines", device.ask({"request": "list"}))
                self.assertLess(time.monotonic() - begin, SOON_S)
                time.sleep(0.1)
            os.kill(process.pid, signal.SIGCONT)
            pipe.send("go on")
            self.assertEqual(receive(pipe), "went on")
            process.join(LIMIT_S)
            self.assertEqual(process.exitcode, 0)

    def test_a_front_end_is_killed_idle(self):
        self.front_end_is_killed("idle")

    def test_a_front_end_is_killed_in_a_storm(self):
        self.front_end_is_killed("storm")

    def test_a_front_end_is_killed_with_held_work(self):
        self.front_end_is_killed("held")

    def test_a_front_end_is_killed_with_a_flush_pending(self):
        self.front_end_is_killed("flush_pending")

    def test_a_front_end_is_stopped_idle(self):
        self.front_end_is_stopped("idle")

    def test_a_front_end_is_stopped_in_a_storm(self):
        self.front_end_is_stopped("storm")

    def test_a_front_end_is_stopped_with_held_work(self):
        self.front_end_is_stopped("held")

    def test_a_front_end_is_stopped_with_a_flush_pending(self):
        self.front_end_is_stopped("flush_pending")

    # --- The device

    def device_is_killed(self, state):
        """Its socket's file stays, and the next one takes its place; the front end is told."""
        device = Device(self.directory)
        guest = Guest(device.path)
        guest.enter(state)
        self.assertEqual(guest.done() < guest.asked, state != "idle")
        begin = time.monotonic()
        device.process.kill()
        with self.assertRaises(Gone):
            while True:
                guest.ask()
        self.assertLess(time.monotonic() - begin, SOON_S)
        guest.close()
        device.end()
        with self.device() as other:
            self.next_guest_works(other)

    def device_is_stopped(self, state):
        with self.device() as device:
            guest = Guest(device.path)
            pending = guest.enter(state)
            self.assertEqual(guest.done() < guest.asked, state != "idle")
            device.process.send_signal(signal.SIGSTOP)
            timer = time.monotonic()
            guest.put(command(0x200, *[0] * 18, ctx_id=5))
            time.sleep(STOP_S)
            self.assertLess(guest.done(), guest.asked - pending)
            device.process.send_signal(signal.SIGCONT)
            guest.go_on(state, pending)
            self.assertLess(time.monotonic() - timer, STOP_S + SOON_S)
            guest.close()

    def test_the_device_is_killed_idle(self):
        self.device_is_killed("idle")

    def test_the_device_is_killed_in_a_storm(self):
        self.device_is_killed("storm")

    def test_the_device_is_killed_with_held_work(self):
        self.device_is_killed("held")

    def test_the_device_is_killed_with_a_flush_pending(self):
        self.device_is_killed("flush_pending")

    def test_the_device_is_stopped_idle(self):
        self.device_is_stopped("idle")

    def test_the_device_is_stopped_in_a_storm(self):
        self.device_is_stopped("storm")

    def test_the_device_is_stopped_with_held_work(self):
        self.device_is_stopped("held")

    def test_the_device_is_stopped_with_a_flush_pending(self):
        self.device_is_stopped("flush_pending")

    # --- What the device has too little of

    def device_lacks(self, what, state):
        """It has no more than it has now, and then again all. Of memory there is some for requests
        themselves: without that the queue stops."""
        if what == resource.RLIMIT_AS and has_address_sanitizer(PROGRAM):
            self.skipTest("the address sanitizer ends a process that has no more addresses")
        with self.device() as device:
            guest = Guest(device.path)
            pending = guest.enter(state)
            before = resource.prlimit(device.process.pid, what)
            least = {
                resource.RLIMIT_NOFILE: device.descriptors(),
                resource.RLIMIT_AS: (device.memory_kib("VmSize") << 10) + FOR_REQUESTS,
            }[what]
            resource.prlimit(device.process.pid, what, (least, before[1]))
            entries = struct.pack("<QII", BACKING, PAGE, 0)
            answers = set()
            for number in range(10, 40):
                guest.create_context(number)
                # 64 MiB of the host's, of which there are no more.
                answers.add(guest.request_now(command(0x101, number, 2, 4096, 4096)))
                guest.request_now(command(0x106, number, 1, more=entries))
                if what == resource.RLIMIT_NOFILE:
                    answers.add(guest.request_now(blob(1, 100 + number)))
                if state == "storm":
                    guest.put(job(1, 5000 + number, 10))
            self.assertTrue(answers <= {OK, OUT_OF_MEMORY}, answers)
            self.assertIn(OUT_OF_MEMORY, answers)
            resource.prlimit(device.process.pid, what, before)
            guest.go_on(state, pending)
            guest.close()

    def test_the_device_has_no_descriptors_idle(self):
        self.device_lacks(resource.RLIMIT_NOFILE, "idle")

    def test_the_device_has_no_descriptors_in_a_storm(self):
        self.device_lacks(resource.RLIMIT_NOFILE, "storm")

    def test_the_device_has_no_descriptors_with_held_work(self):
        self.device_lacks(resource.RLIMIT_NOFILE, "held")

    def test_the_device_has_no_descriptors_with_a_flush_pending(self):
        self.device_lacks(resource.RLIMIT_NOFILE, "flush_pending")

    def test_the_device_has_no_memory_idle(self):
        self.device_lacks(resource.RLIMIT_AS, "idle")

    def test_the_device_has_no_memory_in_a_storm(self):
        self.device_lacks(resource.RLIMIT_AS, "storm")

    def test_the_device_has_no_memory_with_held_work(self):
        self.device_lacks(resource.RLIMIT_AS, "held")

    def test_the_device_has_no_memory_with_a_flush_pending(self):
        self.device_lacks(resource.RLIMIT_AS, "flush_pending")

    def disk_is_full(self, state):
        """Both files end there, with a line each; the guest goes on."""
        files = [os.path.join(self.directory, name) for name in ("record", "trace")]
        options = [f"--{os.path.basename(file)}={file}" for file in files]
        with self.device(*options, limits={resource.RLIMIT_FSIZE: PAGE}) as device:
            guest = Guest(device.path)
            pending = guest.enter(state)
            assert guest.create_context(9) == OK
            for fence_id in range(1, 400):
                guest.request_now(command(0x104, *[0] * 6))
                guest.request_now(job(9, fence_id, 10))
            guest.go_on(state, pending)
            guest.close()
            for what in ("recording", "trace"):
                self.wait_for(lambda end=f"the {what} ends here: File too large":
                              end in device.said())

    def test_the_disk_is_full_idle(self):
        self.disk_is_full("idle")

    def test_the_disk_is_full_in_a_storm(self):
        self.disk_is_full("storm")

    def test_the_disk_is_full_with_held_work(self):
        self.disk_is_full("held")

    def test_the_disk_is_full_with_a_flush_pending(self):
        self.disk_is_full("flush_pending")

    # --- A client of the control socket

    def client_is(self, how, state):
        with self.device() as device:
            guest = Guest(device.path)
            pending = guest.enter(state)
            with peer(control_client, device.control) as (client, _):
                time.sleep(0.1)
                if state == "storm":
                    guest.storm()
                os.kill(client.pid, how)
                begin = time.monotonic()
                guest.go_on(state, pending)
                self.assertIn("timelines", device.ask({"request": "list"}))
                self.assertLess(time.monotonic() - begin, SOON_S)
                if how == signal.SIGSTOP:
                    time.sleep(STOP_S)
                    os.kill(client.pid, signal.SIGCONT)
            guest.close()

    def test_a_control_client_is_killed_idle(self):
        self.client_is(signal.SIGKILL, "idle")

    def test_a_control_client_is_killed_in_a_storm(self):
        self.client_is(signal.SIGKILL, "storm")

    def test_a_control_client_is_killed_with_held_work(self):
        self.client_is(signal.SIGKILL, "held")

    def test_a_control_client_is_killed_with_a_flush_pending(self):
        self.client_is(signal.SIGKILL, "flush_pending")

    def test_a_control_client_is_stopped_idle(self):
        self.client_is(signal.SIGSTOP, "idle")

    def test_a_control_client_is_stopped_in_a_storm(self):
        self.client_is(signal.SIGSTOP, "storm")

    def test_a_control_client_is_stopped_with_held_work(self):
        self.client_is(signal.SIGSTOP, "held")

    def test_a_control_client_is_stopped_with_a_flush_pending(self):
        self.client_is(signal.SIGSTOP, "flush_pending")


def main():
    global PROGRAM
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
