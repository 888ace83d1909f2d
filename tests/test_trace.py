#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Checks 'vgfence trace': of files of events that are made up here, of recordings, of garbage.

usage: test_trace.py VGFENCE TRACE_DIRECTORY
"""

import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

import unittest_sum

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM, TRACES = sys.argv[1], pathlib.Path(sys.argv[2])
ACCEPT, WAIT, HOLD, RUN, SIGNAL, RETIRE, STALL, REFUSE, LOST = *range(1, 9), 0xFFFF
FENCED = 1
HEADER = b"VGEVENT1" + struct.pack("<II", 1, 0)
SVG = "{http://www.w3.org/2000/svg}"


def record(us, kind, fence, in_fence=(0, 0, 0), flags=FENCED, status=0, wait=0, held=0):
    context, ring, number = fence
    return struct.pack("<QQQIiIiIiIIIHH", 1000000 + us * 1000, number, in_fence[2], context, ring,
                       in_fence[0], in_fence[1], flags, status, 1, held, 2, kind, wait)


A, B, C = (1, 0, 1), (2, 0, 2), (2, 0, 3)
# B waits for A; C is done at once and has to wait for its turn.
STORY = [
    record(0, ACCEPT, A), record(0, RUN, A),
    record(10, ACCEPT, B), record(10, WAIT, B, A), record(10, HOLD, B, held=1),
    record(20, ACCEPT, C), record(20, RUN, C), record(30, SIGNAL, C),
    record(100, SIGNAL, A), record(101, RETIRE, A),
    record(102, RUN, B, wait=3), record(150, SIGNAL, B),
    record(151, RETIRE, B), record(151, RETIRE, C),
    record(160, REFUSE, (1, 0, 4), status=-22),
]


def run(*arguments):
    return subprocess.run([PROGRAM, "trace", *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, check=False)


def decode(path):
    """The packets that protoc finds, as text; a field that it does not know is a number."""
    with open(path, "rb") as file:
        result = subprocess.run(
            ["protoc", f"--proto_path={HERE}", "--decode=perfetto.protos.Trace",
             str(HERE / "perfetto.proto")], stdin=file, capture_output=True, check=True)
    return result.stdout.decode()


class TraceTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, data, name="story.vgevents"):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def story(self):
        return self.write(HEADER + b"".join(STORY))

    def test_the_text_says_who_waited_for_what(self):
        result = run(self.story())
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("4 fences in 160.0 us: 1 held, 1 refused, 0 stalled", result.stdout)
        self.assertIn("91.0 us  context 1 ring 0 fence 1, by context 2 ring 0 fence 2",
                      result.stdout)

    def test_the_way_to_a_fence_is_what_it_waited_for(self):
        result = run("--fence=2:0:2", self.story())
        self.assertEqual(result.returncode, 0)
        way = result.stdout[result.stdout.index("the way to"):]
        self.assertRegex(way, r"(?s)fence 2: accepted; 92\.0 us until it began, 48\.0 us.*"
                              r"it waited for context 1 ring 0 fence 1\n.*"
                              r"fence 1: accepted; 0\.0 us until it began, 100\.0 us")
        self.assertIn("there is no fence", run("--fence=9:0:2", self.story()).stderr)

    def test_a_fence_has_the_name_that_other_commands_print(self):
        story = [record(us, kind, (0, -1, 5)) for us, kind in enumerate((ACCEPT, SIGNAL, RETIRE))]
        file = self.write(HEADER + b"".join(story))
        for ring in ("global", "-1"):
            result = run(f"--fence=0:{ring}:5", file)
            self.assertIn("fence 5: accepted", result.stdout, result.stderr)
        for name in ("0:global", "0:glob:5", "0:-2:5", "0:64:5", "-1:0:5", "0:global:5:1"):
            self.assertEqual(run(f"--fence={name}", file).returncode, 2, name)

    def test_what_is_missing_is_told(self):
        story = HEADER + record(0, ACCEPT, A) + record(1, LOST, (0, 0, 77), flags=0)
        self.assertIn("77 events are missing", run(self.write(story)).stdout)

    @unittest.skipUnless(shutil.which("protoc"), "protoc (protobuf-compiler) is not installed")
    def test_perfettos_file_decodes(self):
        path = self.path("p")
        self.assertEqual(run(f"--perfetto={path}", self.story()).returncode, 0)
        text = decode(path)
        self.assertEqual(re.findall(r"^\s*\d+:", text, re.MULTILINE), [], "unknown fields")
        for name in ("fence 1", "fence 2", "held", "in the GPU", "waits for its turn", "refused",
                     "context 2 ring 0", "pending fences", "held submissions", "descriptors"):
            self.assertIn(f'name: "{name}"', text)
        begun, ended = text.count("TYPE_SLICE_BEGIN"), text.count("TYPE_SLICE_END")
        self.assertEqual(begun, ended)
        # Four fences; held, the GPU's two and a bit of C; turns of all three but the refused one.
        self.assertEqual(len(re.findall(r'name: "fence \d+"', text)), 4)
        flows = re.findall(r"^ *flow_ids: (\d+)", text, re.MULTILINE)
        ends = re.findall(r"terminating_flow_ids: (\d+)", text)
        self.assertEqual((len(flows), flows), (1, ends))

    @unittest.skipUnless(shutil.which("protoc"), "protoc (protobuf-compiler) is not installed")
    def test_a_fence_that_many_wait_for_has_its_slice(self):
        # Names of different lengths, so that one of them fills a message to each of its last bytes.
        for number in (1, 10, 100, 1000, 10000, 100000, 10**6, 10**7, 10**8, 10**9):
            story = [record(0, ACCEPT, (1, 0, number))]
            for waiter in range(500):
                fence = (2, 0, waiter + 1)
                story += [record(1, ACCEPT, fence), record(1, WAIT, fence, (1, 0, number))]
            path = self.path("p")
            self.assertEqual(
                run(f"--perfetto={path}", self.write(HEADER + b"".join(story))).returncode, 0)
            text = decode(path)
            self.assertIn(f'name: "fence {number}"', text)
            self.assertEqual(text.count("TYPE_SLICE_BEGIN"), text.count("TYPE_SLICE_END"))
            self.assertGreater(len(re.findall(r"^ *flow_ids: ", text, re.MULTILINE)), 350)

    @unittest.skipUnless(shutil.which("protoc"), "protoc (protobuf-compiler) is not installed")
    def test_a_recording_has_a_slice_for_each_job_and_an_arrow_for_each_wait(self):
        path = self.path("p")
        self.assertEqual(
            run(f"--perfetto={path}", TRACES / "frames-passing.vgtrace").returncode, 0)
        text = decode(path)
        self.assertEqual(re.findall(r"^\s*\d+:", text, re.MULTILINE), [])
        self.assertEqual(len(re.findall(r'name: "fence \d+"', text)), 600)
        flows = sorted(re.findall(r"^ *flow_ids: (\d+)", text, re.MULTILINE))
        ends = sorted(re.findall(r"terminating_flow_ids: (\d+)", text))
        self.assertEqual(flows, ends)
        self.assertGreater(len(flows), 300)
        # On each track slices are nested: none ends that has not begun.
        depth = {}
        for kind, track in re.findall(r"type: TYPE_SLICE_(\w+)\n\s*track_uuid: (\d+)", text):
            depth[track] = depth.get(track, 0) + (1 if kind == "BEGIN" else -1)
            self.assertIn(depth[track], (0, 1, 2))
        self.assertEqual(set(depth.values()), {0})

    def test_a_refused_fence_may_have_any_ring(self):
        """What cannot be counted one further, a build with sanitizers notices."""
        for ring in (2**31 - 1, -2**31):
            story = self.write(HEADER + record(0, REFUSE, (1, ring, 1), status=-22))
            for option in ("--wait=host", "--svg=/dev/null", "--perfetto=/dev/null"):
                self.assertNotIn("runtime error", run(option, story).stderr)

    def test_a_guest_that_did_nothing_for_long_is_not_waited_for(self):
        data = bytearray((TRACES / "chain-guestwait.vgtrace").read_bytes())
        at = 16
        while at < len(data):
            time_ns, size = struct.unpack_from("<Q12xI", data, at)
            if at > len(data) / 2:
                struct.pack_into("<Q", data, at, time_ns + (1 << 62))
            at += 24 + size
        self.assertIn("400 fences in", run(self.write(data)).stdout)

    def test_the_picture_has_all_jobs_and_arrows(self):
        path = self.path("s.svg")
        story = self.story()
        result = run(f"--svg={path}", "--from=0", "--length=200", story, story)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        root = xml.etree.ElementTree.parse(path).getroot()
        self.assertEqual(len([g for g in root.iter(SVG + "g") if g.get("class") == "job"]), 8)
        lines = [e for e in root.iter(SVG + "line") if e.get("class") == "in-fence"]
        self.assertEqual(len(lines), 2)
        for element in root.iter(SVG + "rect"):
            self.assertGreaterEqual(float(element.get("width")), 0)

    def test_the_pictures_window_leaves_out_the_rest(self):
        path = self.path("s.svg")
        self.assertEqual(
            run(f"--svg={path}", "--from=155", "--length=10", self.story()).returncode, 0)
        root = xml.etree.ElementTree.parse(path).getroot()
        titles = [e.text for e in root.iter(SVG + "title")]
        self.assertEqual(titles, ["fence 4"])

    def test_a_damaged_file_is_an_error_that_says_where(self):
        for data, message in (
            (HEADER + STORY[0][:-1], "at byte 16: cut off in a record"),
            (HEADER[:12], "at byte 8: a version"),
            (HEADER[:8] + struct.pack("<II", 2, 0), "at byte 8: a version"),
            (HEADER + record(0, 9, A), "at byte 16: a kind of event"),
            (HEADER + record(5, ACCEPT, A) + record(4, RUN, A), "at byte 80: an event is earlier"),
            (HEADER + record(0, ACCEPT, (1, 64, 1)), "at byte 16: a ring"),
            (HEADER + record(0, SIGNAL, A, status=5), "at byte 16: a value"),
            (b"", "the file is empty"),
            (b"garbage" * 9, "not a trace"),
            (b"short", "at byte 0: "),
        ):
            result = run(self.write(data))
            self.assertEqual(result.returncode, 1, message)
            self.assertIn(message, result.stderr)

    def test_either_file_may_come_from_a_pipe(self):
        for path in (TRACES / "chain-passing.vgtrace", self.story()):
            data = pathlib.Path(path).read_bytes()
            result = subprocess.run([PROGRAM, "trace", "/dev/stdin"], input=data,
                                    capture_output=True, timeout=60, check=False)
            self.assertEqual((result.returncode, result.stderr), (0, b""))
            self.assertIn(b" fences in ", result.stdout)

    def test_files_that_cannot_be_read_or_written_are_errors(self):
        self.assertIn("No such file", run("/nowhere/x").stderr)
        self.assertIn(f"{TRACES}: Is a directory", run(TRACES).stderr)
        for option in ("--svg", "--perfetto"):
            result = run(f"{option}=/nowhere/x", self.story())
            self.assertEqual(result.returncode, 1)
            self.assertIn("/nowhere/x: No such file", result.stderr)
            if os.path.exists("/dev/full"):
                result = run(f"{option}=/dev/full", self.story())
                self.assertEqual(result.returncode, 1)
                self.assertIn("No space left", result.stderr)

    def test_bad_options_are_errors(self):
        for arguments in ((), ("--from=x", "f"), ("--length=0", "f"), ("--fence=1", self.story()),
                          ("--wait=gl", "f"), ("--perfetto=p", "f", "g")):
            self.assertEqual(run(*arguments).returncode, 2, arguments)

    def test_mutated_files_never_crash_it(self):
        seed = int(os.environ.get("VGF_TEST_SEED", "1"))
        chance = random.Random(seed)
        good = []
        for number in range(150):
            data = bytearray(HEADER + b"".join(STORY) * 2)
            if number % 3:  # else the second half is earlier than the first
                data = bytearray(HEADER + b"".join(STORY))
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(16, len(data))] = chance.choice((0, 1, 2, 0xFF))
            del data[chance.choice((len(data), chance.randrange(len(data)))):]
            path = self.write(bytes(data), f"mutated{number}")
            # What is damaged is an error before any of it is shown.
            result = run(f"--svg={self.path('o')}", f"--perfetto={self.path('o.perfetto')}",
                         "--from=0", f"--length={1 << 40}", path)
            self.assertIn(result.returncode, (0, 1), f"seed {seed}, file {number}")
            if result.returncode == 0:
                xml.etree.ElementTree.parse(self.path("o"))
                good.append(path)
        self.assertGreater(len(good), 0)
        self.assertEqual(run("--wait=host", *good).returncode, 0, f"seed {seed}")
        self.assertEqual(run(f"--svg={self.path('o')}", *good).returncode, 0, f"seed {seed}")
        xml.etree.ElementTree.parse(self.path("o"))


if __name__ == "__main__":
    sys.exit(unittest_sum.main(argv=sys.argv[:1]))
