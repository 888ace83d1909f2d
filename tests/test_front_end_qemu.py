#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""What a guest shows in the window of a stock QEMU that 'vgfence gpu --front-end-dma-bufs' gives it
as dma-bufs (VHOST_USER_GPU_DMABUF_SCANOUT2), pixel by pixel by pictures of the window.

QEMU imports the dma-bufs with EGL, and draws them with OpenGL in software: for a virtual host,
which has /dev/udmabuf. The window is on an X server without a screen. No guest runs: this program
is the guest's driver, over QEMU's interface for tests (qtest).

usage: test_front_end_qemu.py PATH_OF_VGFENCE QEMU [ARGUMENT...]
"""

import importlib.machinery
import importlib.util
import mmap
import os
import pathlib
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path += [str(TOP / "tests"), str(TOP / "scripts")]
import unittest_sum  # noqa: E402


def load(name):
    path = str(TOP / "scripts" / name)
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


flips = load("flips")
flips.SCREEN = (800, 600)  # the window has a place there

VGFENCE, QEMU = sys.argv[1], sys.argv[2:]
LIMIT_S = 30
CEILING_MS = 10000  # a first picture takes long in software
NUM_PICTURES = 6
MEMORY = 16 << 20
# What of the guest's memory is used: the queues, a request with its response, pictures.
QUEUE_AT, REQUEST_AT, RESPONSE_AT, PICTURE_AT = 0x100000, 0x110000, 0x118000, 0x200000
SLOT, BAR_AT = 5, 0xe0000000
WIDTH, HEIGHT = 640, 480
PICTURE = WIDTH * HEIGHT * 4

OK_NODATA, FENCE = 0x1100, 1
CREATE_2D, UNREF, SET_SCANOUT, FLUSH, TRANSFER, ATTACH = 0x101, 0x102, 0x103, 0x104, 0x105, 0x106
BGRX = 2
RECT = struct.pack("<4I", 0, 0, WIDTH, HEIGHT)


class Machine:
    """What a guest has of QEMU's: ports, memory of devices."""

    def __init__(self, path, qemu):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_S)
        while self.socket.connect_ex(path) != 0:
            if qemu.poll() is not None:
                raise OSError("QEMU has ended")
            time.sleep(0.05)
        self.file = self.socket.makefile("rw")

    def ask(self, line):
        self.file.write(line + "\n")
        self.file.flush()
        answer = self.file.readline().split()
        if answer[:1] != ["OK"]:
            raise OSError(f"{line}: {answer}")
        return int(answer[1], 16) if len(answer) > 1 else None

    def config(self, offset, value=None, size="l"):
        self.ask(f"outl 0xcf8 {0x80000000 | SLOT << 11 | offset & 0xfc:#x}")
        port = 0xcfc + (offset & 3)
        if value is None:
            return self.ask(f"in{size} {port:#x}")
        return self.ask(f"out{size} {port:#x} {value:#x}")

    def read(self, at, size="l"):
        return self.ask(f"read{size} {at:#x}")

    def write(self, at, value, size="l"):
        self.ask(f"write{size} {at:#x} {value:#x}")


class Gpu:
    """The driver of a virtio-gpu on PCI: one request at a time, by the control queue."""

    QUEUE_SIZE = 16

    def __init__(self, machine, memory):
        self.machine, self.memory = machine, memory
        self.places, self.multiplier = self.find_places()
        machine.config(0x20, BAR_AT)
        machine.config(0x24, 0)
        machine.config(0x04, 6, "w")  # answers to memory addresses, and reads memory
        self.start()
        self.index = 0
        self.last_fence = 0

    def find_places(self):
        """Where in its BAR the parts are: by the capabilities of a vendor."""
        places, multiplier, at = {}, 0, self.machine.config(0x34, size="b")
        while at != 0:
            kind = self.machine.config(at, size="b")
            part, bar = (self.machine.config(at + i, size="b") for i in (3, 4))
            if kind == 9 and bar == 4 and part not in places:
                places[part] = BAR_AT + self.machine.config(at + 8)
                if part == 2:
                    multiplier = self.machine.config(at + 16)
            at = self.machine.config(at + 1, size="b")
        return places, multiplier

    def start(self):
        common, write = self.places[1], self.machine.write
        for status in (0, 1, 3):
            write(common + 0x14, status, "b")
        write(common + 8, 1)
        write(common + 12, 1)  # VIRTIO_F_VERSION_1
        write(common + 0x14, 11, "b")
        for queue in range(2):
            at = QUEUE_AT + queue * 0x1000
            write(common + 0x16, queue, "w")
            write(common + 0x18, self.QUEUE_SIZE, "w")
            for offset, part in ((0x20, at), (0x28, at + 0x400), (0x30, at + 0x800)):
                write(common + offset, part)
                write(common + offset + 4, 0)
            if queue == 0:
                notify_at = self.machine.read(common + 0x1e, "w") * self.multiplier
                self.notify_at = self.places[2] + notify_at
            write(common + 0x1c, 1, "w")
        write(common + 0x14, 15, "b")

    def put(self, at, data):
        self.memory[at:at + len(data)] = data

    def get(self, form, at):
        return struct.unpack_from(form, self.memory, at)[0]

    def send(self, kind, body, fenced=False):
        self.last_fence += fenced
        request = struct.pack("<IIQII", kind, FENCE if fenced else 0, self.last_fence, 0, 0) + body
        self.put(REQUEST_AT, request)
        self.put(RESPONSE_AT, bytes(24))
        self.put(QUEUE_AT, struct.pack("<QIHHQIHH", REQUEST_AT, len(request), 1, 1,
                                       RESPONSE_AT, 24, 2, 0))
        self.put(QUEUE_AT + 0x404 + self.index % self.QUEUE_SIZE * 2, struct.pack("<H", 0))
        self.index += 1
        self.put(QUEUE_AT + 0x402, struct.pack("<H", self.index))
        self.machine.write(self.notify_at, 0, "w")

    def is_answered(self):
        return self.get("<H", QUEUE_AT + 0x802) == self.index

    def wait(self):
        end = time.monotonic() + LIMIT_S
        while not self.is_answered():
            if time.monotonic() > end:
                raise TimeoutError("the device does not answer")
            time.sleep(0.001)
        kind = self.get("<I", RESPONSE_AT)
        if kind != OK_NODATA:
            raise OSError(f"the device answers {kind:#x}")

    def call(self, *arguments, **options):
        self.send(*arguments, **options)
        self.wait()

    # --- what a driver does with a picture

    def create(self, resource):
        self.call(CREATE_2D, struct.pack("<4I", resource, BGRX, WIDTH, HEIGHT))
        self.call(ATTACH, struct.pack("<IIQII", resource, 1, self.picture_at(resource), PICTURE,
                                      0))

    @staticmethod
    def picture_at(resource):
        return PICTURE_AT + resource * 0x200000

    def draw(self, resource, pixels):
        self.put(self.picture_at(resource), pixels)
        self.call(TRANSFER, RECT + struct.pack("<QII", 0, resource, 0))

    def show(self, resource):
        self.call(SET_SCANOUT, RECT + struct.pack("<II", 0, resource))

    def flush(self, resource):
        """With a fence: answered when the display is done with it."""
        self.call(FLUSH, RECT + struct.pack("<II", resource, 0), fenced=True)


def make_picture(seed):
    """Noise, so that no other place and no other picture looks like it."""
    pixels = bytearray(random.Random(seed).randbytes(PICTURE))
    pixels[3::4] = bytes(WIDTH * HEIGHT)
    return bytes(pixels)


def rows_of(picture):
    if picture is None:
        return None
    return [picture[at:at + WIDTH * 4] for at in range(0, PICTURE, WIDTH * 4)]


class FrontEnd(unittest.TestCase):
    def setUp(self):
        if not os.access("/dev/udmabuf", os.R_OK | os.W_OK):
            self.skipTest("there is no /dev/udmabuf: ./run vm has one")
        self.directory = tempfile.TemporaryDirectory()
        self.path = self.directory.name
        self.processes, self.passed, self.place = [], False, None
        self.log = open(f"{self.path}/log", "w+", encoding="utf-8", errors="replace")
        self.addCleanup(self.end)
        try:
            server, self.x_display, vnc_path = flips.start_screen(self.path)
        except flips.Lack as lack:
            self.skipTest(str(lack))
        self.processes.append(server)
        self.window = flips.Vnc(vnc_path)
        with open(f"{self.path}/memory", "w+b") as file:
            file.truncate(MEMORY)
            self.memory = mmap.mmap(file.fileno(), MEMORY)
        self.start_device()
        self.start_qemu()

    def end(self):
        self.end_processes()
        if not self.passed:
            print(self.said(), file=sys.stderr)
        self.log.close()
        self.directory.cleanup()

    def end_processes(self):
        while self.processes:
            process = self.processes.pop()
            process.terminate()
            process.wait()

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def start(self, command, **options):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log,
                                   stderr=subprocess.STDOUT, **options)
        self.processes.append(process)
        return process

    def start_device(self):
        device = self.start([VGFENCE, "gpu", f"--socket={self.path}/gpu", "--stats",
                             "--front-end-dma-bufs", f"--display-ceiling={CEILING_MS}"])
        while not os.path.exists(f"{self.path}/gpu"):
            self.assertIsNone(device.poll(), "vgfence gpu has ended")
            time.sleep(0.05)

    def start_qemu(self):
        qemu = self.start(
            [*QEMU, "-accel", "qtest", "-qtest", f"unix:{self.path}/qtest,server=on,wait=off",
             "-qtest-log", "/dev/null", "-machine", "pc,memory-backend=memory",
             "-m", f"{MEMORY >> 20}", "-nodefaults", "-object",
             f"memory-backend-file,id=memory,size={MEMORY},share=on,mem-path={self.path}/memory",
             "-chardev", f"socket,id=gpu,path={self.path}/gpu", "-vga", "none",
             "-device", f"vhost-user-gpu-pci,chardev=gpu,addr={SLOT}",
             "-display", "gtk,gl=on,show-menubar=off,show-tabs=off"],
            env={**os.environ, **flips.window_environment(self.x_display)})
        self.gpu = Gpu(Machine(f"{self.path}/qtest", qemu), self.memory)

    # --- pictures

    def screen(self):
        """Its rows. X has anything in each pixel's last byte."""
        width, height = flips.SCREEN
        pixels = bytearray(b"".join(self.window.picture(width, height)))
        pixels[3::4] = bytes(width * height)
        return [bytes(pixels[y * width * 4:(y + 1) * width * 4]) for y in range(height)]

    def window_rows(self, first_row):
        """What is where the first picture begins."""
        screen = self.screen()
        if self.place is None:
            for top, row in enumerate(screen):
                if (left := row.find(first_row)) >= 0:
                    self.place = left, top
                    break
            else:
                return None
        left, top = self.place
        return [row[left:left + WIDTH * 4] for row in screen[top:top + HEIGHT]]

    def wait_for(self, picture, before):
        """The X server draws a moment later than QEMU. Until then there is the one before."""
        rows, old_rows = rows_of(picture), rows_of(before)
        end = time.monotonic() + LIMIT_S
        while (seen := self.window_rows(rows[0])) != rows:
            if before is not None:
                of_others = [y for y in range(HEIGHT) if seen[y] not in (rows[y], old_rows[y])]
                self.assertEqual(of_others, [], "rows of neither picture")
            self.assertLess(time.monotonic(), end, "the picture is not on the screen")
            time.sleep(0.02)

    def show(self, number, before):
        resource, picture = 1 + number % 2, make_picture(number)
        self.gpu.draw(resource, picture)
        self.gpu.show(resource)
        self.gpu.flush(resource)
        self.wait_for(picture, before)
        return picture

    def told(self):
        """What the device tells at its end: of flushes that waited for the display, of those that
        were given up on, of buffers that the display has released, and that it has not."""
        self.end_processes()
        found = re.search(r"(\d+) waited until they were shown, (\d+) were given up on; "
                          r"(\d+) buffers were released, (\d+) given up on", self.said())
        self.assertIsNotNone(found)
        return tuple(map(int, found.groups()))

    def test_each_picture_is_in_the_window_once_its_flush_is_answered(self):
        picture = None
        for resource in (1, 2):
            self.gpu.create(resource)
        for number in range(NUM_PICTURES):
            picture = self.show(number, picture)
        # What is shown goes, and is released then.
        self.gpu.call(UNREF, struct.pack("<II", 1 + (NUM_PICTURES - 1) % 2, 0))
        waited, given_up, released, lost = self.told()
        self.assertEqual((waited, given_up, lost), (NUM_PICTURES, 0, 0))
        self.assertGreater(released, 0)
        self.passed = True


if __name__ == "__main__":
    sys.exit(unittest_sum.main(argv=sys.argv[:1]))
