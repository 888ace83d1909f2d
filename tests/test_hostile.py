#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Front ends and guests that do all that they can to a 'vgfence gpu': test_hostile.py VGFENCE

VGF_TEST_HOSTILE_SECONDS: for how long, with each renderer; without it each attack comes a number of
times, however slow the machine is. VGF_TEST_SEED: of the random numbers (default 1). In the end it
prints what the program took: its largest memory, lines of its log, and the longest time from
SIGTERM, in the middle of work, to its end.
"""

import array
import fcntl
import mmap
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import unittest_sum
from test_gpu_program import listens

PROGRAM = ""
SECONDS = float(os.environ.get("VGF_TEST_HOSTILE_SECONDS", "0"))
ROUNDS = {"soft": 12, "virgl": 3}  # of all attacks, unless it is to take so many seconds
SEED = int(os.environ.get("VGF_TEST_SEED", "1"))
MAX_MIB = {"soft": 256, "virgl": 1024}  # with one life's front ends, some three times what it has
END_S = 10  # SIGTERM ends it within one, and a slow machine takes its time
LIMIT_S = 60  # only so that a program that hangs ends the test
LIFE_S = 20  # of one process, after which it is terminated in the middle of things

# The guest's memory: a page of rings for each queue, and the rest for requests.
GUEST_ADDR = 0x10000
USER_ADDR = 0x7000_0000_0000
MEMORY_SIZE = 1 << 20
QUEUES = 2
QUEUE_SIZE = 64
PAGE = 4096
LARGE = 2048  # pixels across of what OpenGL takes milliseconds for

# Messages of vhost-user.
SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ENABLE = 12, 13, 18
GET_FEATURES, MAX_REQUEST = 1, 45
SET_PROTOCOL_FEATURES, SET_BACKEND_REQ_FD, ADD_MEM_REG, REM_MEM_REG = 16, 21, 37, 38
# MQ, REPLY_ACK, BACKEND_REQ, CONFIG, CONFIGURE_MEM_SLOTS, SHARED_OBJECT, SHMEM.
PROTOCOL_FEATURES = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 15 | 1 << 18 | 1 << 22
# On the channel of SET_BACKEND_REQ_FD.
SHARED_OBJECT_REMOVE, SHMEM_MAP, SHMEM_UNMAP = 7, 9, 10
REPLY = 4
NEED_REPLY = 8

FENCE_PASSING_BIT = 23
RESOURCE_FLUSH = 0x104
CTX_CREATE, ATTACH_RESOURCE, CREATE_3D, SUBMIT_3D = 0x200, 0x202, 0x204, 0x207
RESOURCE_UNREF, CREATE_BLOB, MAP_BLOB, UNMAP_BLOB = 0x102, 0x10C, 0x208, 0x209

# Commands of virtio-gpu, and how many words each has behind the header.
COMMANDS = (
    [(0x100, 0), (0x101, 4), (0x102, 2), (0x103, 6), (0x104, 6), (0x105, 8), (0x106, 2)]
    + [(0x107, 2), (0x108, 2), (0x109, 2), (0x10A, 2), (0x10B, 2), (0x10C, 8), (0x10D, 18)]
    + [(0x200, 18), (0x201, 0), (0x202, 2), (0x203, 2), (0x204, 12), (0x205, 12)]
    + [(0x206, 12), (0x207, 2), (0x208, 4), (0x209, 2), (0x300, 8), (0x301, 8)]
)
# Numbers that are likely to mean something, somewhere.
NUMBERS = [0, 1, 2, 3, 4, 8, 16, 24, 64, 256, 4096, 16384, 65536, 0x7FFFFFFF, 0x80000000]
NUMBERS += [0xFFFFFFFF, GUEST_ADDR, GUEST_ADDR + MEMORY_SIZE - 1]


def has_address_sanitizer(program):
    with open(program, "rb") as file:
        return b"__asan_init" in file.read()


class Gone(Exception):
    """The program has disconnected, as it may."""


class FrontEnd:
    """A connection, and the memory of a guest. What it does is up to its user."""

    def __init__(self, path, numbers):
        self.numbers = numbers
        self.socket = socket.socket(socket.AF_UNIX)
        # While others are in line connect waits; with settimeout it would not.
        limit = struct.pack("@ll", LIMIT_S, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.socket.connect(path)
        self.socket.settimeout(LIMIT_S)
        self.memory_fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.memory_fd, MEMORY_SIZE)
        self.memory = mmap.mmap(self.memory_fd, MEMORY_SIZE)
        # For what the other side reads meanwhile: struct writes zeroes first, then single bytes.
        self.halves = memoryview(self.memory).cast("H")
        self.kicks = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(QUEUES)]
        self.call = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.available = [0] * QUEUES
        self.fence_id = 0

    def close(self):
        self.socket.close()
        self.halves.release()
        self.memory.close()
        for fd in [self.memory_fd, self.call, *self.kicks]:
            os.close(fd)

    def send(self, request, payload=b"", fds=(), flags=1, size=None):
        header = struct.pack("<III", request, flags, len(payload) if size is None else size)
        ancillary = []
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            self.socket.sendmsg([header + payload], ancillary)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Gone from error

    def ask(self):
        """Whether it still answers: after all that was sent before."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(65536):
                pass
        except BlockingIOError:
            pass
        except ConnectionResetError as error:
            raise Gone from error
        self.socket.settimeout(LIMIT_S)
        self.send(GET_FEATURES)
        try:
            if not self.socket.recv(20):
                raise Gone
        except ConnectionResetError as error:
            raise Gone from error

    def start(self, sealed=True):
        """As a good front end does it."""
        if sealed:
            fcntl.fcntl(self.memory_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.send(SET_OWNER)
        self.send(SET_FEATURES, struct.pack("<Q", 1 << 32 | 1 << FENCE_PASSING_BIT | 0x1F))
        region = struct.pack("<QQQQ", GUEST_ADDR, MEMORY_SIZE, USER_ADDR, 0)
        self.send(SET_MEM_TABLE, struct.pack("<II", 1, 0) + region, [self.memory_fd])
        for queue in range(QUEUES):
            rings = USER_ADDR + queue * PAGE
            self.send(SET_VRING_NUM, struct.pack("<II", queue, QUEUE_SIZE))
            addresses = struct.pack("<QQQQ", rings, rings + 2048, rings + 1024, 0)
            self.send(SET_VRING_ADDR, struct.pack("<II", queue, 0) + addresses)
            self.send(SET_VRING_BASE, struct.pack("<II", queue, 0))
            self.send(SET_VRING_CALL, struct.pack("<Q", queue), [self.call])
            self.send(SET_VRING_KICK, struct.pack("<Q", queue), [self.kicks[queue]])
            self.send(SET_VRING_ENABLE, struct.pack("<II", queue, 1))

    # --- the guest

    def number(self):
        if self.numbers.random() < 0.7:
            return self.numbers.randrange(5)  # IDs, more often
        return self.numbers.choice(NUMBERS)

    def request(self):
        command, words = self.numbers.choice(COMMANDS)
        self.fence_id += self.numbers.randrange(2)
        header = struct.pack(
            "<IIQIB3x",
            command,
            self.numbers.randrange(8),
            self.fence_id,
            self.numbers.randrange(4),
            self.numbers.randrange(70 if self.numbers.random() < 0.1 else 2),
        )
        entries = b"".join(
            struct.pack("<QII", GUEST_ADDR + self.number() % MEMORY_SIZE, self.number() % 8192, 0)
            for _ in range(self.numbers.randrange(4))
        )
        body = [self.number() for _ in range(words)]
        if command == RESOURCE_FLUSH and self.numbers.random() < 0.8:
            ids = [max(self.fence_id - self.numbers.randrange(8), 0) for _ in entries[::8]]
            body = [0, 0, 0, 0, self.numbers.randrange(3), len(ids)]
            entries = struct.pack(f"<{len(ids)}Q", *ids)
        return header + struct.pack(f"<{words}I", *body) + entries

    def fenced_request(self, command, context, body):
        self.fence_id += 1
        return struct.pack("<IIQIB3x", command, 1, self.fence_id, context, 0) + body

    def blob_request(self):
        """A blob of the host's memory is made, mapped, unmapped or ended."""
        command = self.numbers.choice([CREATE_BLOB, MAP_BLOB, MAP_BLOB, UNMAP_BLOB, RESOURCE_UNREF])
        resource = self.numbers.randrange(1, 40)
        self.fence_id += 1
        fenced = self.numbers.randrange(2)
        header = struct.pack("<IIQIB3x", command, fenced, self.fence_id, 0, 0)
        if command == CREATE_BLOB:
            flags = self.numbers.choice([1, 1, 3, 5, 0, 8])
            size = self.numbers.choice([PAGE, 2 * PAGE, 5 * PAGE, 1, 1 << 20, 1 << 40])
            return header + struct.pack("<IIIIQQ", resource, 2, flags, 0, 0, size)
        offset = self.numbers.choice([self.numbers.randrange(64) * PAGE, self.number()])
        return header + struct.pack("<IIQ", resource, 0, offset)

    def offer(self, queue, request=None, room=None):
        """One request of two buffers. Places that are still in use are used once more."""
        if room is None:
            room = self.numbers.choice([24, 24, 23, 32, 48, 408, 1056])
            if self.numbers.random() < 0.002:
                room = 0  # that stops the queue
        head = self.available[queue] * 2 % QUEUE_SIZE
        self.put(queue, head, request or self.request(), room)

    def put(self, queue, head, request, room):
        """A request in the two descriptors from head on, with so many bytes for its response."""
        number = self.available[queue]
        at = PAGE * (QUEUES + 1) + (queue * QUEUE_SIZE + head) * 1024
        self.memory[at : at + len(request)] = request
        rings = queue * PAGE
        struct.pack_into(
            "<QIHHQIHH",
            self.memory,
            rings + head * 16,
            *(GUEST_ADDR + at, len(request), 1, head + 1),
            *(GUEST_ADDR + at + 1024, room, 2, 0),
        )
        self.halves[(rings + 1024 + 4) // 2 + number % QUEUE_SIZE] = head
        self.available[queue] = (number + 1) & 0xFFFF
        self.halves[(rings + 1024 + 2) // 2] = self.available[queue]

    def finish(self, queue):
        """Until all has been given back."""
        while self.halves[(queue * PAGE + 2048) // 2 + 1] != self.available[queue]:
            self.ask()

    def used(self, queue, count):
        """The heads that the device has given back since there were so many."""
        ring = (queue * PAGE + 2048) // 2
        while count != self.halves[ring + 1]:
            yield self.halves[ring + 2 + count % QUEUE_SIZE * 4]
            count = (count + 1) & 0xFFFF

    def kick(self, queue):
        try:
            os.eventfd_write(self.kicks[queue], 1)
        except BlockingIOError:
            pass


# --- What they do. Each takes a new connection, and leaves it as it likes.


def send_requests(front_end):
    front_end.start()
    for _ in range(200):
        queue = front_end.numbers.randrange(QUEUES)
        for _ in range(front_end.numbers.randrange(1, 24)):
            front_end.offer(queue)
        front_end.kick(queue)
        if front_end.numbers.random() < 0.1:
            front_end.ask()


def break_rings(front_end):
    front_end.start()
    front_end.ask()
    for _ in range(50):
        at = front_end.numbers.randrange(PAGE * QUEUES)
        size = front_end.numbers.randrange(1, 64)
        front_end.memory[at : at + size] = front_end.numbers.randbytes(size)
        front_end.kick(front_end.numbers.randrange(QUEUES))
    front_end.ask()


def send_messages(front_end):
    if front_end.numbers.random() < 0.5:
        front_end.start()
    for _ in range(300):
        payload = front_end.numbers.randbytes(front_end.numbers.choice([0, 4, 8, 8, 8, 40, 300]))
        fds = [front_end.memory_fd] * front_end.numbers.choice([0, 0, 0, 1, 1, 2, 8])
        request = front_end.numbers.randrange(MAX_REQUEST)
        if len(payload) == 8 and front_end.numbers.random() < 0.8:
            payload = struct.pack("<II", front_end.number(), front_end.number())
        flags = 1 | front_end.numbers.choice([0, 0, NEED_REPLY])
        front_end.send(request, payload, fds, flags)
        if front_end.numbers.random() < 0.1:
            front_end.ask()


def send_bytes(front_end):
    front_end.start()
    size = front_end.numbers.choice([0, 1, 4095, 4096, 1 << 20, 0xFFFFFFFF])
    front_end.send(front_end.numbers.randrange(MAX_REQUEST), b"", flags=1, size=size)
    for _ in range(20):
        front_end.send(front_end.numbers.randrange(1 << 32), front_end.numbers.randbytes(64))


def flood(front_end):
    """Of what is wrong, and reads no reply."""
    front_end.start()
    front_end.socket.settimeout(0.2)
    try:
        for _ in range(2000):
            for queue in range(QUEUES):
                front_end.offer(queue)
                front_end.kick(queue)
            front_end.send(GET_VRING_BASE + 100, struct.pack("<II", 0, 0), flags=1 | NEED_REPLY)
    except TimeoutError:
        pass


def give_other_files(front_end):
    fds = [os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC), *os.pipe(), front_end.call]
    fds.append(os.open(PROGRAM, os.O_RDONLY | os.O_CLOEXEC))
    try:
        for fd in fds:
            region = struct.pack("<QQQQ", GUEST_ADDR, MEMORY_SIZE, USER_ADDR, 0)
            front_end.send(SET_MEM_TABLE, struct.pack("<II", 1, 0) + region, [fd], 1)
            front_end.ask()
    finally:
        for fd in fds:
            if fd != front_end.call:
                os.close(fd)


def answer(front_end, channel):
    """What the back end has asked for: well, badly, with something else, or not at all. The file is
    touched, shortened, and given as memory of the guest's."""
    try:
        asked, fds, _, _ = socket.recv_fds(channel, 52, 1)
    except BlockingIOError:
        return
    except ConnectionResetError as error:
        raise Gone from error
    for fd in fds:
        try:
            os.ftruncate(fd, 0)
        except OSError:
            pass
        region = struct.pack("<QQQQ", GUEST_ADDR * 1000, PAGE, USER_ADDR * 2, 0)
        front_end.send(ADD_MEM_REG, struct.pack("<Q", 0) + region, [fd], 1 | NEED_REPLY)
        os.close(fd)
    how = front_end.numbers.random()
    request = struct.unpack_from("<I", asked)[0] if asked else 0
    try:
        if how < 0.9:
            well = front_end.numbers.random() < 0.8
            channel.send(struct.pack("<IIIQ", request, 1 | REPLY, 8, 0 if well else 1))
        elif how < 0.92:
            channel.send(front_end.numbers.randbytes(front_end.numbers.randrange(1, 40)))
        elif how < 0.94:
            channel.send(struct.pack("<IIIQ", SHMEM_UNMAP, 1 | REPLY, 8, 0))
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Gone from error


def map_memory(front_end):
    front_end.send(SET_PROTOCOL_FEATURES, struct.pack("<Q", PROTOCOL_FEATURES))
    front_end.start()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        front_end.send(SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
        theirs.close()
        for _ in range(300):
            for _ in range(front_end.numbers.randrange(1, 8)):
                front_end.offer(0, front_end.blob_request())
            front_end.kick(0)
            if front_end.numbers.random() < 0.5:
                front_end.ask()
            answer(front_end, ours)
            if front_end.numbers.random() < 0.02:
                front_end.send(GET_VRING_BASE, struct.pack("<II", 0, 0))


def draw_large(context):
    """Commands of virglrenderer's that keep OpenGL at work for some time: a surface of resource 1
    is cleared twice. The surface may be there already."""
    surface = [1 | 8 << 8 | 5 << 16, context, 1, 1, 0, 0]
    target = [5 | 3 << 16, 1, 0, context]
    clear = [7 | 8 << 16, 4, 0, 0, 0, 0, 0, 0, 0]
    words = surface + target + 2 * clear
    return struct.pack(f"<II{len(words)}I", 4 * len(words), 0, *words)


def shorten_memory(front_end):
    """While work is under way, whose end any thread of the program may tell the guest."""
    front_end.start(sealed=False)
    contexts = range(1, 4)
    resource = struct.pack("<12I", 1, 2, 1, 2, LARGE, LARGE, 1, 1, 0, 0, 0, 0)
    front_end.offer(0, front_end.fenced_request(CREATE_3D, 0, resource), 24)
    for context in contexts:
        body = struct.pack("<II64x", 0, 0)
        front_end.offer(0, front_end.fenced_request(CTX_CREATE, context, body), 24)
        body = struct.pack("<II", 1, 0)
        front_end.offer(0, front_end.fenced_request(ATTACH_RESOURCE, context, body), 24)
    front_end.kick(0)
    front_end.finish(0)
    for _ in range(front_end.numbers.randrange(2, 8)):
        context = front_end.numbers.choice(contexts)
        body = draw_large(context)
        front_end.offer(0, front_end.fenced_request(SUBMIT_3D, context, body), 24)
    front_end.kick(0)
    time.sleep(front_end.numbers.random() / 200)
    # Nobody here touches it from then on.
    size = front_end.numbers.choice([0, 0, PAGE, MEMORY_SIZE // 2])
    os.ftruncate(front_end.memory_fd, size)
    limit = time.monotonic() + LIMIT_S
    if front_end.numbers.random() < 0.3:
        front_end.kick(0)
    front_end.ask()
    while size == 0:
        assert time.monotonic() < limit, "it does not see that its rings are gone"
        time.sleep(0.02)  # the work's end may come first
        front_end.kick(0)
        front_end.ask()


# What the sandbox may deny: Mesa looks for GPUs each time that it is started, the device at what a
# front end gives it that is no memory.
EXPECTED = re.compile(r"openat of (/dev/dri|/proc/self/fdinfo/\d+) was denied$")

ATTACKS = [send_requests, break_rings, send_messages, send_bytes, flood, give_other_files]
# Of the last, one of three comes while a fence of OpenGL's is pending and the loop sleeps.
ATTACKS += [map_memory] + 8 * [shorten_memory]


class Program:
    """A 'vgfence gpu', and what it takes."""

    def __init__(self, directory, renderer, options):
        self.path = os.path.join(directory, "socket")
        self.start_s = time.monotonic()
        self.process = subprocess.Popen(
            [PROGRAM, "gpu", f"--socket={self.path}", f"--renderer={renderer}"]
            + ["--scanouts=2", "--size=640x480", f"--fence-passing-bit={FENCE_PASSING_BIT}"]
            + ["--hostmem=256K", *options],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # The sanitizer would look for leaks in another process, which there cannot be.
            env={**os.environ, **({"ASAN_OPTIONS": "detect_leaks=0"} if options else {})},
        )
        self.lines = []
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        while not listens(self.path) and self.process.poll() is None:
            time.sleep(0.01)

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def status(self, name):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            for line in status:
                if line.startswith(f"{name}:"):
                    return int(line.split()[1])
        return 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self):
        """Terminates it, and says how long that took, and what its status is."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(LIMIT_S)
        end = time.monotonic()
        self.reader.join()
        self.process.stderr.close()
        return end - begin, end - self.start_s, status


class Hostile(unittest.TestCase):
    def attack_once(self, program, numbers):
        """In all ways. Each front end is gone again."""
        for attack in numbers.sample(ATTACKS, len(ATTACKS)):
            front_end = FrontEnd(program.path, numbers)
            try:
                attack(front_end)
            except Gone:
                pass
            finally:
                front_end.close()
            self.assertIsNone(program.process.poll(), "".join(program.lines[-40:]))

    def is_over(self, program):
        """Nobody is connected: one more comes, is answered and goes."""
        front_end = FrontEnd(program.path, random.Random(0))
        front_end.ask()
        front_end.close()

    def goes_on(self, renderer, rounds, until):
        if SECONDS:
            return rounds == 0 or time.monotonic() < until
        return rounds < ROUNDS[renderer]

    def one_life(self, renderer, options, numbers, until, result):
        with tempfile.TemporaryDirectory() as directory:
            program = Program(directory, renderer, options)
            try:
                self.is_over(program)
                before = program.descriptors()
                rounds = 0
                while self.goes_on(renderer, rounds, until):
                    self.attack_once(program, numbers)
                    rounds += 1
                result["front ends"] += rounds * len(ATTACKS)
                self.is_over(program)
                self.wait_for(lambda: program.descriptors() <= before + 1)
                result["MiB"] = max(result["MiB"], program.status("VmHWM") / 1024)
                last = FrontEnd(program.path, numbers)
                send_requests(last)
            finally:
                to_end, lived, status = program.end()
            last.close()
            result["lines"] += len(program.lines)
            result["s"] += lived
            result["SIGTERM, s"] = max(result["SIGTERM, s"], to_end)
            # GL does not end when it is asked to, and a slow machine takes its time.
            given_up = status == 1 and "in the middle of" in program.lines[-1]
            result["given up"] += given_up
            self.assertTrue(status == 0 or given_up, f"{status}: {''.join(program.lines[-60:])}")
            denied = [line for line in program.lines if "was denied" in line]
            self.assertEqual([line for line in denied if not EXPECTED.search(line)], [])
            # Of each kind five a second, and how many more there were; with a second at both ends.
            # gcov, in ./run coverage, says of each file that it cannot be written in the sandbox.
            said = [line for line in program.lines if not line.startswith("profiling:")]
            self.assertLess(len(said), 5 * 6 * (lived + 2))

    def wait_for(self, condition):
        limit = time.monotonic() + LIMIT_S
        while not condition():
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.01)

    def attack_all(self, renderer, *options):
        result = dict.fromkeys(("front ends", "MiB", "lines", "s", "SIGTERM, s", "given up"), 0)
        numbers = random.Random(SEED)
        end = time.monotonic() + SECONDS
        while result["front ends"] == 0 or time.monotonic() < end:
            until = min(end, time.monotonic() + LIFE_S)
            self.one_life(renderer, options, numbers, until, result)
        # The address sanitizer keeps what is freed.
        keeps = 8 if has_address_sanitizer(PROGRAM) else 1
        self.assertLess(result["MiB"], MAX_MIB[renderer] * keeps)
        self.assertLess(result["SIGTERM, s"], END_S)
        name = " ".join([renderer, *options])
        print(f"ran: {name}:", ", ".join(f"{k}: {v:.4g}" for k, v in result.items()))

    def test_the_software_gpu(self):
        self.attack_all("soft")

    def require(self, *options):
        result = subprocess.run(
            [PROGRAM, "gpu", "--socket=/nowhere/s", *options],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        for package in ("libvirglrenderer-dev", "libseccomp-dev"):
            if package in result.stderr:
                self.skipTest(f"built without {package}")

    def test_virglrenderer(self):
        self.require("--renderer=virgl")
        self.attack_all("virgl")

    def test_the_software_gpu_in_the_sandbox(self):
        self.require("--sandbox")
        self.attack_all("soft", "--sandbox")

    def test_virglrenderer_in_the_sandbox(self):
        self.require("--renderer=virgl", "--sandbox")
        self.attack_all("virgl", "--sandbox")


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    suppressions = os.path.join(os.path.dirname(os.path.abspath(__file__)), "virgl.supp")
    os.environ.setdefault("LSAN_OPTIONS", f"suppressions={suppressions}")
    sys.exit(unittest_sum.main())
