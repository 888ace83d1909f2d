# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""A device and guests of it, as processes: to be started, looked at, and killed."""

import os
import pathlib
import shlex
import signal
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
GPU_DEVICE_ID = 16
FENCE_PASSING_BIT = 23

# Only so that what hangs ends the test.
LIMIT_S = 300
SETTLE_S = 120

# A child that does not outlive this process.
LEASH = ["setpriv", "--pdeathsig", "TERM", "--"]


def wait_until(condition, what, limit_s=SETTLE_S):
    limit = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > limit:
            raise AssertionError(f"not in {limit_s} s: {what}")
        time.sleep(0.02)


def processes_with(text):
    """Those that have it in their command line: the path of a test's directory, say."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        command = b" ".join(words).decode(errors="replace")
        if text in command and int(process.name) != os.getpid():
            found.append(f"{process.name} {command}")
    return found


def children(parent):
    """Its child processes, each with its name."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # PID (NAME) STATE PARENT ...: there may be anything in the name.
        name, _, rest = stat.partition("(")[2].rpartition(")")
        if int(rest.split()[1]) == parent:
            found.append((int(process.name), name))
    return found


class Device:
    """A running 'vgfence gpu' that listens in a directory of the test's."""

    def __init__(self, build, directory, *options, wrapper=(), environment=()):
        self.socket = os.path.join(directory, "gpu")
        self.log = os.path.join(directory, "gpu.log")
        self.was_killed = False
        before = self._socket_file()
        command = [*LEASH, *wrapper, f"{build}/tools/vgfence", "gpu", "--socket", self.socket]
        command += ["--scanouts", "0", "--fence-passing-bit", str(FENCE_PASSING_BIT), *options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=dict(os.environ, **dict(environment)),
            )
        wait_until(lambda: self._listens(before), "the device starts")

    def _listens(self, before):
        if self.process.poll() is not None:
            raise AssertionError(f"the device did not start: {self.messages()}")
        return self._socket_file() not in (None, before)

    def _socket_file(self):
        """Tells one from that of the device before."""
        try:
            return os.stat(self.socket).st_ctime_ns
        except FileNotFoundError:
            return None

    def messages(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def kill(self):
        self.was_killed = True
        self.process.kill()
        self.process.wait()

    def end(self):
        """Its status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=LIMIT_S)

    # What it has, and what it does.

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def memory_kib(self):
        """Its own, in whatever way it has it; not what it shares with a guest."""
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

    def activity(self):
        """Changes whenever a thread of it runs: how long each had a CPU, and how often."""
        tasks = sorted(pathlib.Path(f"/proc/{self.process.pid}/task").iterdir())
        return [(task.name, (task / "schedstat").read_text(encoding="ascii")) for task in tasks]

    def cpu_ns(self):
        return sum(int(schedstat.split()[0]) for _, schedstat in self.activity())

    def wait_until_idle(self):
        """It has done all there was to do: it does not run for a tenth of a second."""

        def is_idle():
            before = self.activity()
            time.sleep(0.1)
            return self.activity() == before

        wait_until(is_idle, "the device is idle")


class SlowCompositor:
    """A Wayland compositor that is slow with a frame of one window until the other window has had
    `count` more."""

    def __init__(self, build, count):
        command = [*LEASH, f"{build}/tests/vgfence-slow-compositor", str(count)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self.socket = self.process.stdout.readline().strip()

    def end(self):
        """What it says that it did."""
        self.process.terminate()
        lines = self.process.stdout.read().splitlines()
        self.process.stdout.close()
        self.process.wait(timeout=LIMIT_S)
        return lines


class Guest:
    """A guest with that device, in which a program runs; it can write to the test's directory. The
    options are those of scripts/vm."""

    def __init__(
        self, device, *program, limit_s=LIMIT_S, build=None, bit=FENCE_PASSING_BIT, options=()
    ):
        directory = os.path.dirname(device.socket)
        path = f"{build}/tests/guest:{os.environ['PATH']}"
        command = [*LEASH, "scripts/vm", "--timeout", str(limit_s), "--build", directory, *options]
        for argument in (
            f"virtio_uml.device={device.socket}:{GPU_DEVICE_ID}",
            f"virtio_gpu.fence_passing_bit={bit}",
        ):
            command += ["--append", argument]
        self.errors = open(os.path.join(directory, "guest.log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [*command, "--", *program],
            cwd=TOP,
            env=dict(os.environ, PATH=path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    def read_line(self):
        """The next line of its output; nothing at its end. The guest's time limit bounds it."""
        return self.process.stdout.readline().decode().rstrip("\n")

    def expect_line(self, expected):
        line = self.read_line()
        if line != expected:
            raise AssertionError(f"'{line}' instead of '{expected}'; {self.complaints()}")

    def complaints(self):
        self.errors.seek(0)
        return self.errors.read()

    def finish(self):
        """Its status, and the rest of its output."""
        output = self.process.stdout.read()
        status = self.process.wait(timeout=LIMIT_S)
        return status, output

    def kernel(self):
        """Its process, which is also the guest's process group."""
        (kernel,) = [
            child
            for child, name in children(self.process.pid)
            if name.startswith(("linux", "qemu", "ld-linux"))
        ]
        return kernel

    def kill(self):
        """All of it at once, as if the host had run out of memory."""
        os.killpg(self.kernel(), signal.SIGKILL)
        self.finish()


def shell(*lines):
    return ["bash", "-euc", "\n".join(lines)]


def add_device(device):
    """A line of shell that gives the running guest a device anew."""
    parameter = "/sys/module/virtio_uml/parameters/device"
    return f"printf %s {shlex.quote(device.socket)}:{GPU_DEVICE_ID} >{parameter}"
