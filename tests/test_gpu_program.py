#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""What 'vgfence gpu' says and does without a guest: test_gpu_program.py VGFENCE JSON RENDERER

JSON: the file that management software finds. RENDERER: virgl if that was built, else soft.
"""

import fcntl
import json
import os
import select
import shutil
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
JSON = ""
RENDERER = ""
LIMIT_S = 20  # only so that a program that hangs ends the test


def run(*arguments, environment=None):
    return subprocess.run(
        [PROGRAM, "gpu", *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False,
        env={**os.environ, **(environment or {})},
    )


def listens(path):
    """The file is there before that."""
    accepts = "00010000"  # __SO_ACCEPTCON
    with open("/proc/net/unix", encoding="utf-8") as sockets:
        return any(line.split()[3] == accepts and line.endswith(f" {path}\n") for line in sockets)


class Gpu:
    """A running 'vgfence gpu' that listens."""

    def __init__(self, directory, *arguments, stderr=subprocess.PIPE):
        self.path = os.path.join(directory, "socket")
        self.process = subprocess.Popen(
            [PROGRAM, "gpu", f"--socket={self.path}", *arguments], stderr=stderr, text=True
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
            ("--size=8193x800", "--size"),
            ("--scanouts=17", "--scanouts"),
            ("--scanouts=-1", "--scanouts"),
            ("--fence-passing-bit=4", "have\na meaning"),
            ("--fence-passing-bit=5", "BLOB_ALIGNMENT"),
            ("--fence-passing-bit=6", "proposed for other"),
            ("--fence-passing-bit=7", "proposed for other"),
            ("--fence-passing-bit=24", "--fence-passing-bit"),
            ("--fence-passing-bit=64", "--fence-passing-bit"),
            ("--fence-passing-bit=on", "--fence-passing-bit"),
            ("--renderer=hard", "--renderer"),
            ("--fd=x", "--fd"),
            ("--fd=0", "instead of --socket-path"),
            ("--drain-ms=-1", "--drain-ms"),
            ("--display-ceiling=0", "--display-ceiling"),
            ("--display-ceiling=3600001", "--display-ceiling"),
            ("--drain-ms=3600001", "--drain-ms"),
            ("--render-node=/dev/dri/renderD128", "--renderer=virgl"),
            ("--vulkan", "--renderer=virgl"),
            ("--nonsense", "usage"),
            ("--input=/nowhere/i", "--input needs --display"),
            ("--display=x11", "--display must be"),
            ("--display=wayland=", "--display must be"),
            ("--display=vnc=", "--display must be"),
            ("--display=vnc=unix:", "--display must be"),
            ("--display=vnc=0.0.0.0:1", "--display must be"),
            ("--display=vnc=localhost:59636", "--display must be"),
            ("--sandbox=maybe", "--sandbox must be"),
            ("argument", "no option"),
        ):
            result = run("--socket=/nowhere/s", option)
            self.assertEqual(result.returncode, 2, option)
            self.assertIn(word, result.stderr)

    def test_the_sandbox_refuses_what_goes_on_opening_connecting_or_starting(self):
        if "libseccomp" in run("--sandbox", "--socket=/nowhere/s").stderr:
            self.skipTest("built without libseccomp (libseccomp-dev)")
        for options in (["--screenshot=/nowhere/p"], ["--wayland-socket=/nowhere/w"],
                        ["--vulkan", "--renderer=virgl"]):
            if "virgl" in options[-1] and RENDERER == "soft":
                continue
            result = run("--socket=/nowhere/s", "--sandbox", *options)
            self.assertEqual(result.returncode, 2, options)
            self.assertIn("not with --sandbox", result.stderr)
            result = run("--socket=/nowhere/s", "--sandbox", *options, "--sandbox=off")
            self.assertEqual(result.returncode, 1, options)

    def test_the_socket_is_needed(self):
        result = run()
        self.assertEqual(result.returncode, 2)
        self.assertIn("--socket-path is missing", result.stderr)

    def test_the_software_gpus_options_are_no_others(self):
        if RENDERER == "soft":
            self.skipTest("built without virglrenderer")
        for option in ("--realtime", "--sync-files"):
            result = run("--socket=/nowhere/s", "--renderer=virgl", option)
            self.assertEqual(result.returncode, 2, option)
            self.assertIn(f"{option} is of --renderer=soft", result.stderr)

    def test_libraries_of_opengl_get_its_own_pthread_mutex_destroy(self):
        if RENDERER == "soft":
            self.skipTest("built without virglrenderer")
        if shutil.which("nm") is None:
            self.skipTest("nm is missing (binutils)")
        symbols = subprocess.run(["nm", "-D", PROGRAM], check=True, stdout=subprocess.PIPE,
                                 text=True).stdout
        self.assertRegex(symbols, r"\bT pthread_mutex_destroy\n")

    def test_a_render_node_that_is_none_is_an_error(self):
        if RENDERER == "soft":
            self.skipTest("built without virglrenderer")
        for path, message in (
            ("/nowhere/n", "No such file or directory"),
            ("/etc/passwd", "No such device"),
        ):
            result = run("--socket=/nowhere/s", "--virgl", f"--render-node={path}")
            self.assertEqual(result.returncode, 1)
            self.assertIn(message, result.stderr)

    def test_a_render_server_that_is_none_is_an_error(self):
        if RENDERER == "soft":
            self.skipTest("built without virglrenderer")
        for path, message in (
            ("/nowhere/s", "No such file or directory"),
            ("/etc/passwd", "Permission denied"),
            ("/bin/true", "it does not answer"),
        ):
            result = run("--socket=/nowhere/s", "--virgl", "--vulkan",
                         environment={"RENDER_SERVER_EXEC_PATH": path})
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"render server {path}: {message}", result.stderr)

    def test_what_is_no_connection_is_an_error(self):
        with open("/dev/null", "rb") as file, socket.socket(socket.AF_UNIX) as unconnected:
            for other, message in ((file, "non-socket"), (unconnected, "not connected")):
                result = subprocess.run(
                    [PROGRAM, "gpu", f"--fd={other.fileno()}"], pass_fds=[other.fileno()],
                    capture_output=True, text=True, timeout=LIMIT_S, check=False,
                )
                self.assertEqual(result.returncode, 1)
                self.assertIn(message, result.stderr)

    def test_a_socket_that_cannot_be_made_is_an_error(self):
        result = run("--socket=/nowhere/s")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "vgfence gpu: /nowhere/s: No such file or directory\n")

    def test_a_file_that_cannot_be_made_is_an_error_of_that(self):
        with tempfile.TemporaryDirectory() as directory:
            for option in ("record", "trace"):
                for path, message in (("/nowhere/r", "No such file or directory"),
                                      ("/", "Is a directory")):
                    result = run(f"--socket={directory}/s", f"--{option}={path}")
                    self.assertEqual(result.returncode, 1)
                    self.assertEqual(result.stderr, f"vgfence gpu: {path}: {message}\n")
            self.assertEqual(os.listdir(directory), [])

    def test_a_compositors_socket_with_too_long_a_name_is_an_error_of_that(self):
        path = "/" + "w" * 107
        result = run("--socket=/nowhere/s", f"--wayland-socket={path}")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, f"vgfence gpu: {path}: File name too long\n")


def header(command, flags=0, fence_id=0, ctx_id=0):
    """struct virtio_gpu_ctrl_hdr, on ring 0"""
    return struct.pack("<IIQIB3x", command, flags, fence_id, ctx_id, 0)


class Replay(unittest.TestCase):
    def test_the_fence_of_any_command_may_be_shareable(self):
        fenced = 7  # FENCE, INFO_RING_IDX, FENCE_SHAREABLE
        requests = [
            *(header(0x200, ctx_id=ctx_id) + bytes(72) for ctx_id in (1, 2)),
            # A long job, what is behind it, and what waits for that in another context.
            header(0x207, fenced, 1, 1) + struct.pack("<IIII", 8, 0, 1, 20000),
            header(0x100, fenced, 2, 1),
            header(0x207, fenced, 3, 2) + struct.pack("<IIQII", 8, 1, 2, 1, 10),
        ]
        with tempfile.NamedTemporaryFile(suffix=".vgtrace") as file:
            file.write(b"VGTRACE1" + struct.pack("<II", 1, 0))
            for number, request in enumerate(requests):
                file.write(struct.pack("<QIIII", number, 1, 0, number + 1, len(request)))
                file.write(request)
            file.flush()
            result = subprocess.run(
                [PROGRAM, "replay", file.name], capture_output=True, timeout=LIMIT_S, check=False
            )
        self.assertEqual((result.returncode, result.stderr), (0, b""))


class Management(unittest.TestCase):
    """What libvirt relies on: QEMU, docs/interop/vhost-user.json and vhost-user.rst."""

    def test_capabilities_are_as_the_schema_says(self):
        for arguments in ([], ["--nonsense", "argument"], ["--fd=99", "--socket-path=/nowhere/s"]):
            result = run(*arguments, "--print-capabilities")
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            capabilities = json.loads(result.stdout)
            self.assertEqual(set(capabilities), {"type", "features"})  # both are needed
            self.assertEqual(capabilities["type"], "gpu")
            features = capabilities["features"]
            self.assertEqual(len(features), len(set(features)))
            self.assertLessEqual(set(features), {"render-node", "virgl"})
            self.assertEqual("virgl" in features, RENDERER == "virgl")

    def test_each_capability_is_an_option(self):
        features = json.loads(run("--print-capabilities").stdout)["features"]
        for feature in features:
            option = {"virgl": "--virgl", "render-node": "--render-node=/nowhere/n"}[feature]
            self.assertEqual(run(option, "--help").returncode, 0, option)

    def test_the_file_is_as_the_schema_says(self):
        with open(JSON, encoding="utf-8") as file:
            backend = json.load(file)
        self.assertEqual(set(backend), {"description", "type", "binary"})
        self.assertEqual(backend["type"], "gpu")
        self.assertTrue(os.path.isabs(backend["binary"]))
        self.assertEqual(os.path.basename(backend["binary"]), "vgfence-gpu")

    def test_it_is_started_as_libvirt_does(self):
        with tempfile.TemporaryDirectory() as directory:
            binary = os.path.join(directory, "vgfence-gpu")
            os.symlink(os.path.abspath(PROGRAM), binary)
            ours, its = socket.socketpair()
            with ours:
                process = subprocess.Popen(
                    [binary, f"--fd={its.fileno()}"], pass_fds=[its.fileno()],
                    stderr=subprocess.PIPE, text=True,
                )
                its.close()
                ours.settimeout(LIMIT_S)
                ours.sendall(struct.pack("<III", 1, 1, 0))
                self.assertEqual(len(ours.recv(20, socket.MSG_WAITALL)), 20)
            # The front end has left, and no other one can come.
            _, text = process.communicate(timeout=LIMIT_S)
            self.assertEqual((process.returncode, text), (0, ""))


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

    def assert_answers(self, gpu):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT_S)
            connection.connect(gpu.path)
            connection.sendall(struct.pack("<III", 1, 1, 0))
            self.assertEqual(len(connection.recv(20, socket.MSG_WAITALL)), 20)

    def answers_though_its_log_is_full(self, gpu, read_all):
        gpu.process.send_signal(signal.SIGUSR1)  # there is no --screenshot, which it says
        for _ in range(2):  # one more round than the signal's
            self.assert_answers(gpu)
        read_all()
        gpu.process.send_signal(signal.SIGUSR1)
        for _ in range(2):
            self.assert_answers(gpu)
        gpu.process.send_signal(signal.SIGTERM)
        self.assertEqual(gpu.process.wait(LIMIT_S), 0)
        self.assertIn("1 lines were lost", read_all())

    def test_a_pipe_that_nobody_reads_is_not_waited_for(self):
        reader, writer = os.pipe()
        gpu = Gpu(self.directory, stderr=writer)
        size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.write(writer, b"x" * size)

        def read_all():
            return os.read(reader, 65536).decode()

        self.answers_though_its_log_is_full(gpu, read_all)
        # The flags are of all who have the pipe.
        self.assertEqual(fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK, 0)
        os.close(reader)
        os.close(writer)

    def test_a_socket_that_nobody_reads_is_not_waited_for(self):
        reader, writer = socket.socketpair()
        with reader, writer:
            gpu = Gpu(self.directory, stderr=writer)
            try:
                while True:
                    writer.send(b"x" * 4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass

            def read_all():
                data = b""
                try:
                    while True:
                        data += reader.recv(65536, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return data.decode()

            self.answers_though_its_log_is_full(gpu, read_all)
            self.assertTrue(writer.getblocking())

    def test_a_signal_ends_it_whatever_it_waits_for(self):
        recording = os.path.join(self.directory, "recording")
        os.mkfifo(recording)
        reader = os.open(recording, os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(recording, os.O_WRONLY)
        os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096))
        gpu = Gpu(self.directory, f"--record={recording}")
        status, text = gpu.end()  # the recording is to be written now
        self.assertEqual(status, 1)
        self.assertIn("in the middle of something", text)
        self.assertFalse(os.path.exists(gpu.path))
        os.close(reader)
        os.close(writer)

    def test_no_thread_has_realtime_priority_unless_that_is_asked_for(self):
        def policies(*arguments):
            gpu = Gpu(self.directory, *arguments)
            tasks = f"/proc/{gpu.process.pid}/task"
            result = {os.sched_getscheduler(int(task)) for task in os.listdir(tasks)}
            affinity = os.sched_getaffinity(gpu.process.pid)
            self.assertEqual(gpu.end()[0], 0)
            return result, affinity

        self.assertEqual(policies(), ({os.SCHED_OTHER}, os.sched_getaffinity(0)))
        result, affinity = policies("--realtime")
        if os.SCHED_FIFO in result:  # it is allowed here, and there are several processors
            self.assertLess(affinity, os.sched_getaffinity(0))
        else:
            self.assertEqual(result, {os.SCHED_OTHER})

    def test_displays_input_and_the_control_socket_work_in_the_sandbox(self):
        if "libseccomp" in run("--sandbox", "--socket=/nowhere/s").stderr:
            self.skipTest("built without libseccomp (libseccomp-dev)")
        display = [f"--display=vnc=unix:{self.directory}/vnc", f"--input={self.directory}/input"]
        if "libvncserver" in run("--socket=/nowhere/s", *display).stderr:
            display = []
        control = f"{self.directory}/control"
        # The address sanitizer would look for leaks in another process.
        os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        gpu = Gpu(self.directory, "--sandbox", f"--control={control}", *display)
        self.addCleanup(gpu.process.kill)
        self.assert_answers(gpu)

        def ask(*request):
            return subprocess.run([PROGRAM, "control", control, *request], capture_output=True,
                                  text=True, timeout=LIMIT_S, check=False)

        self.assertEqual(ask("list").returncode, 0)
        self.assertIn("Operation not permitted", ask("trace", f"{self.directory}/trace").stderr)
        if display:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(LIMIT_S)
                client.connect(f"{self.directory}/vnc")
                self.assertEqual(client.recv(12, socket.MSG_WAITALL)[:4], b"RFB ")
                client.sendall(b"RFB 003.008\n")
                self.assertEqual(client.recv(2, socket.MSG_WAITALL), b"\x01\x01")
                client.sendall(b"\x01")
                self.assertEqual(client.recv(4, socket.MSG_WAITALL), bytes(4))
                client.sendall(b"\x01")
                size = struct.unpack(">HH", client.recv(4, socket.MSG_WAITALL))
                self.assertEqual(size, (640, 480))  # as long as nothing is shown
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(LIMIT_S)
                connection.connect(f"{self.directory}/input")
                connection.sendall(struct.pack("<III", 1, 1, 0))
                self.assertEqual(len(connection.recv(20, socket.MSG_WAITALL)), 20)
        status, text = gpu.end()
        self.assertEqual(status, 0)
        denied = f"sandbox: system call openat of {self.directory}/trace was denied"
        # Counters of coverage complain, too, in their own name.
        lines = [line for line in text.splitlines() if line.startswith("vgfence")]
        self.assertEqual(lines, [f"vgfence gpu: {denied}"])

    def unit(self):
        path = os.path.join(os.path.dirname(JSON), "vgfence-gpu.service")
        if not os.path.exists(path):
            self.skipTest("built with -Dsystemd=false")
        with open(path, encoding="utf-8") as file:
            return dict(line.strip().split("=", 1) for line in file if "=" in line)

    def test_the_unit_of_systemd_has_the_sandbox(self):
        built = "libseccomp" not in run("--sandbox", "--socket=/nowhere/s").stderr
        self.assertIn(f"--sandbox={'on' if built else 'off'} ", self.unit()["ExecStart"])

    def test_the_unit_allows_the_sandbox_to_any_systemd(self):
        """An older systemd ignores sets of system calls that it does not know."""
        allowed = self.unit()["SystemCallFilter"].split()
        self.assertEqual([word for word in allowed if word.startswith("@")], ["@system-service"])
        for call in ("seccomp", "landlock_create_ruleset", "landlock_restrict_self"):
            self.assertIn(call, allowed)

    def test_statistics_come_at_the_end(self):
        status, text = Gpu(self.directory, "--stats").end()
        self.assertEqual(status, 0)
        self.assertIn("0 on the control queue", text)

    def test_a_recording_begins_as_a_trace(self):
        trace = os.path.join(self.directory, "trace")
        self.assertEqual(Gpu(self.directory, f"--record={trace}").end(), (0, ""))
        with open(trace, "rb") as file:
            self.assertEqual(file.read(), b"VGTRACE1" + struct.pack("<II", 1, 0))

    def test_a_second_one_leaves_the_files_of_the_first_as_they_are(self):
        files = [os.path.join(self.directory, name) for name in ("recording", "trace")]
        control = f"--control={self.directory}/control"
        options = [f"--record={files[0]}", f"--trace={files[1]}"]
        gpu = Gpu(self.directory, control, *options)
        self.addCleanup(gpu.end)
        limit = time.monotonic() + LIMIT_S
        while not os.path.exists(files[1]) or os.path.getsize(files[1]) == 0:  # the last thing
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.01)
        for path in files:
            with open(path, "wb") as file:
                file.write(b"what was written so far")
        for sockets in ([f"--socket={gpu.path}"], [f"--socket={gpu.path}-2", control]):
            result = run(*sockets, *options)
            self.assertEqual(result.returncode, 1)
            self.assertIn("Address already in use", result.stderr)
        for path in files:
            with open(path, "rb") as file:
                self.assertEqual(file.read(), b"what was written so far")

    def test_it_offers_fence_passing_where_it_was_asked_to(self):
        for arguments, offered in (([], False), (["--fence-passing-bit=23"], True)):
            gpu = Gpu(self.directory, *arguments)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(LIMIT_S)
                connection.connect(gpu.path)
                connection.sendall(struct.pack("<III", 1, 1, 0))  # VHOST_USER_GET_FEATURES
                reply = connection.recv(20, socket.MSG_WAITALL)
            features = struct.unpack("<IIIQ", reply)[3]
            self.assertEqual(bool(features & 1 << 23), offered)
            self.assertEqual(features & 0x3F, 0x3F)
            self.assertEqual(gpu.end()[0], 0)


def main():
    global PROGRAM
    global JSON, RENDERER
    PROGRAM = sys.argv.pop(1)
    JSON = sys.argv.pop(1)
    RENDERER = sys.argv.pop(1)
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
