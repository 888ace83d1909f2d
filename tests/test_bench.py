#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Every benchmark runs, and says what it is to say: test_bench.py VGFENCE DOCUMENT [MODULE]

MODULE is failing_submit, if there is the plugin.

The numbers are looked at only for being there and above zero: one round on a machine that does
other things means nothing. The command lines of the document, docs/performance.md, are run too.
"""

import contextlib
import glob
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

import unittest_sum

PROGRAM = ""
DOCUMENT = pathlib.Path()
FAILING_SUBMIT = None
LIMIT_S = 280  # only so that a program that hangs ends the test
NAMES = ["core", "wakeup", "virgl", "display", "latency", "monitors", "implicit", "growth",
         "threads"]
WAYS = ["async", "descriptor"]
FEW_DESCRIPTORS = 1024
# For 4096 fences, and as many by the bare calls. With all that a machine may have, growth takes
# minutes; Long has them.
DESCRIPTORS = 2 * 4096 + 512


@contextlib.contextmanager
def weston():
    """A Wayland compositor, if there is one to be had: the environment that names it."""
    environment = {name: value for name, value in os.environ.items() if name != "WAYLAND_DISPLAY"}
    program = shutil.which("weston")
    if program is None:
        yield environment
        return
    with tempfile.TemporaryDirectory(prefix="vgfence-bench.") as directory:
        environment |= {"XDG_RUNTIME_DIR": directory, "WAYLAND_DISPLAY": "wayland"}
        compositor = subprocess.Popen(
            [program, "--backend=headless-backend.so", "--use-pixman", "--no-config",
             "--idle-time=0", "--socket=wayland", "--width=1920", "--height=1080"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        try:
            while not os.path.exists(os.path.join(directory, "wayland")):
                if compositor.poll() is not None:
                    raise AssertionError("Weston did not start")
                time.sleep(0.02)
            yield environment
        finally:
            compositor.terminate()
            compositor.wait()


def vgfence(*arguments, environment=None, descriptors=None):
    """With so many descriptors there can be fewer fences, and growth takes less time."""
    limit = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}"]
    return subprocess.run(
        [*limit, PROGRAM, *arguments],
        env=environment,
        cwd=DOCUMENT.parent.parent,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def documented_commands():
    """What follows ./run vgfence in the document, file names expanded."""
    top = DOCUMENT.parent.parent
    for line in re.findall(r"`\./run vgfence ([^`]+)`", DOCUMENT.read_text(encoding="utf-8")):
        words = []
        for word in shlex.split(line):
            words += sorted(glob.glob(word, root_dir=top)) if "*" in word else [word]
        yield words


def check_wakeups(test, rows):
    for row in rows:
        test.assertEqual(row["wakeups"], 1, row)
        together = min(8, row["pending"])
        test.assertAlmostEqual(row["together_wakeups"], 1 / together, 5, row)


def check_memory(test, rows):
    for row in rows:
        if row["bytes"] is not None:  # a sanitizer's malloc tells nothing
            rings = row["contexts"] * row["rings"]
            test.assertLess(
                row["bytes"],
                28672 + 1280 * row["contexts"] + 224 * rings + 160 * row["pending"], row)


class Json(unittest.TestCase):
    """All benchmarks in one run, as they are run without a name."""

    @classmethod
    def setUpClass(cls):
        with weston() as environment:
            result = vgfence("bench", "--json", "--rounds=1", environment=environment,
                             descriptors=DESCRIPTORS)
        if result.returncode != 0:
            raise AssertionError(f"ends with {result.returncode}: {result.stderr}")
        cls.all = json.loads(result.stdout)
        cls.messages = result.stderr

    def check_numbers(self, row, *keys):
        for key in keys:
            self.assertIsInstance(row[key], (int, float), f"{key} of {row}")
            self.assertGreater(row[key], 0, f"{key} of {row}")

    def test_each_benchmark_is_there(self):
        self.assertEqual(list(self.all), NAMES)

    def test_core_has_fences_by_call_with_few_and_many_pending(self):
        for named in ("oldest", "any"):
            rows = [
                (row["pending"], row["batch"])
                for row in self.all["core"]
                if row["fences"] == "call" and row["named"] == named
            ]
            pending = [16, 256, 4096, 65536]
            self.assertEqual(rows, [(count, batch) for count in pending for batch in (1, 8)])

    def test_core_has_fences_by_descriptor_beside_the_bare_system_calls(self):
        rows = [row for row in self.all["core"] if row["fences"] == "eventfd"]
        self.assertGreaterEqual(len(rows), 2)
        for row in rows:
            self.check_numbers(row, "bare_ns", "of_bare")
        for row in self.all["core"]:
            if row["fences"] == "call":
                self.assertIsNone(row["bare_ns"])
                self.assertIsNone(row["of_bare"])

    def test_core_has_times_and_sizes(self):
        keys = ["fences", "named", "pending", "batch", "ns", "of_256", "bare_ns", "of_bare"]
        for row in self.all["core"]:
            self.assertEqual(list(row), keys + ["bytes"])
            self.check_numbers(row, "pending", "batch", "ns", "of_256")
            # So few are less than what malloc keeps for itself; a sanitizer's malloc tells nothing.
            if row["pending"] < 256:
                self.assertIsNone(row["bytes"])
            elif row["bytes"] is not None:
                self.check_numbers(row, "bytes")

    def test_wakeup_has_every_kind_on_every_place(self):
        places = ["apart", "together"] if len(os.sched_getaffinity(0)) > 1 else ["together"]
        kinds = ["bare", "retire_eventfd", "retire_call", "held_eventfd", "held_call"]
        rows = [(row["processors"], row["name"]) for row in self.all["wakeup"]]
        self.assertEqual(rows, [(place, kind) for place in places for kind in kinds])
        for row in self.all["wakeup"]:
            keys = ["p50_us", "p99_us", "of_bare", "cpu_us"]
            self.assertEqual(list(row), ["processors", "name", *keys])
            self.check_numbers(row, *keys)

    def test_virgl_has_every_way(self):
        skipped = re.search("bench: virgl: (skipped.*)", self.messages)
        if skipped:
            self.assertEqual(self.all["virgl"], [])
            self.skipTest(f"{skipped.group(1)}; libvirglrenderer-dev and Mesa would enable it")
        names = [f"{who}_{way}" for way in WAYS for who in ("bare", "plugin")]
        names += ["bare_polled", "bare_callback"]
        self.assertEqual([row["name"] for row in self.all["virgl"]], names)
        for row in self.all["virgl"]:
            self.assertEqual(list(row), ["name", "p50_us", "p99_us", "of_bare", "cpu_us"])
            self.check_numbers(row, "p50_us", "p99_us", "of_bare", "cpu_us")


    def test_display_has_the_front_ends_and_windows(self):
        rows = {row["name"]: row for row in self.all["display"]}
        for row in rows.values():
            self.assertEqual(list(row), ["name", "cpu_us", "copied_bytes"])
            self.check_numbers(row, "cpu_us")
        frame = 1920 * 1080 * 4
        self.assertEqual(rows["socket"]["copied_bytes"], 2 * frame)
        if "copied" in rows:
            self.assertEqual(rows["copied"]["copied_bytes"], frame)
        if "in_place" in rows:
            self.assertEqual(rows["in_place"]["copied_bytes"], 0)
        for reason in re.findall("bench: display: skipped (.*)", self.messages):
            print(f"skipped: display, {reason}")

    def test_latency_has_a_monitor_beside_a_slow_one(self):
        rows = [row["name"] for row in self.all["latency"] if row["job_us"] is None]
        self.assertEqual(rows, ["alone", "beside", "behind"])

    def test_latency_has_frames_behind_jobs_with_and_without_passing(self):
        keys = ["p50_us", "p99_us", "p50_of_first", "p99_of_first"]
        for row in self.all["latency"]:
            self.assertEqual(list(row), ["name", "job_us", *keys])
            self.check_numbers(row, *keys)
        rows = [(row["job_us"], row["name"]) for row in self.all["latency"] if row["job_us"]]
        reason = re.search("bench: latency: skipped (.*)", self.messages)
        if reason:
            self.assertEqual(rows, [])
            self.skipTest(f"{reason.group(1)}; scripts/test-windows-in-vm has it")
        ways = ["waited", "passed"]
        self.assertEqual(rows, [(job, way) for job in (100, 1000, 5000) for way in ways])


    def test_implicit_has_few_and_many_buffers(self):
        skipped = re.search("bench: implicit: skipped: (.*)", self.messages)
        if skipped:
            self.assertEqual(self.all["implicit"], [])
            self.skipTest(f"{skipped.group(1)}; scripts/test-windows-in-vm has both")
        self.assertEqual([row["buffers"] for row in self.all["implicit"]], [0, 1, 16, 64])
        for row in self.all["implicit"]:
            self.check_numbers(row, "p50_us", "p99_us", "of_none")

    def test_growth_has_what_there_are_descriptors_for(self):
        skipped = re.search("bench: growth: skipped .* for ([0-9]+) fences", self.messages)
        limit = int(skipped.group(1)) if skipped else 1024 * 64 * 64
        if skipped:
            print(f"skipped: growth above {limit} fences; VGF_TEST_LONG_BENCH=1 enables what "
                  "there are descriptors for")
        powers = [4 ** power for power in range(6)]
        rows = [(contexts, rings, deep)
                for contexts in powers for rings in powers[:4] for deep in powers[:4]
                if contexts * rings * deep <= limit]
        self.assertEqual(
            [(row["contexts"], row["rings"], row["deep"]) for row in self.all["growth"]], rows)
        for row in self.all["growth"]:
            self.check_numbers(row, "ns", "together_ns")
            self.assertEqual(row["pending"], row["contexts"] * row["rings"] * row["deep"])
            if row["pending"] <= limit // 2:
                self.check_numbers(row, "bare_ns", "of_bare", "together_bare_ns")
                self.check_numbers(row, "together_of_bare")
            else:
                self.assertIsNone(row["of_bare"])
                self.assertIsNone(row["together_of_bare"])

    def test_threads_has_one_and_more(self):
        rows = self.all["threads"]
        self.assertEqual([row["threads"] for row in rows], [1, 2, 4, 10])
        for row in rows:
            self.check_numbers(row, "ns", "of_one")

    def test_growth_wakes_up_once_for_what_has_signalled(self):
        check_wakeups(self, self.all["growth"])

    def test_growth_takes_memory_for_what_there_is(self):
        check_memory(self, self.all["growth"])

    def test_monitors_has_four_and_what_the_process_has(self):
        *monitors, process = self.all["monitors"]
        self.assertEqual([row["monitor"] for row in monitors], [0, 1, 2, 3])
        for row in monitors:
            self.check_numbers(row, "asked", "shown", "p50_us", "p99_us", "max_us")
        self.assertIsNone(process["monitor"])
        self.check_numbers(process, "known_kib", "end_kib", "known_descriptors")
        self.assertLessEqual(process["end_descriptors"], process["known_descriptors"] + 16)


@unittest.skipUnless(os.environ.get("VGF_TEST_LONG_BENCH"),
                     "five minutes, and numbers that other work on the machine spoils; "
                     "VGF_TEST_LONG_BENCH=1 enables it")
class Long(unittest.TestCase):
    """What the numbers have to be. Each is a ratio, or a count; with doubles for monitors."""

    def rows(self, name, *arguments):
        environment = {key: value for key, value in os.environ.items() if key != "WAYLAND_DISPLAY"}
        result = vgfence("bench", name, "--json", *arguments, environment=environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_a_slow_monitor_leaves_others_alone(self):
        ratios = {"beside": [], "behind": []}
        for _ in range(5):
            for row in self.rows("latency"):
                if row["name"] in ratios:
                    ratios[row["name"]].append(row["p99_of_first"])
        print(f"the 99th percentile, of alone: {ratios}")
        self.assertLessEqual(statistics.median(ratios["beside"]), 1.1)
        # The control: fences of both on one timeline.
        self.assertGreater(statistics.median(ratios["behind"]), 1.5)

    def test_a_fence_costs_no_jump_more_with_four_times_as_many(self):
        rows = self.rows("growth", "--rounds=16")
        check_wakeups(self, rows)
        check_memory(self, rows)
        for key in ("of_bare", "together_of_bare"):
            medians = [
                statistics.median(row[key] for row in rows if row["pending"] == pending)
                for pending in sorted({row["pending"] for row in rows if row[key] is not None})]
            print(f"{key}, with 1, 4, 16 and so on pending: {medians}")
            for before, after in itertools.pairwise(medians):
                self.assertLess(after, 1.25 * before)

    def test_many_threads_are_no_worse_than_one(self):
        rows = self.rows("threads")
        print(rows)
        for row in rows:
            self.assertLessEqual(row["of_one"], 1)

    def test_four_monitors_have_a_minute_of_frames(self):
        *monitors, process = self.rows("monitors")
        print(monitors, process)
        for row in monitors:
            self.assertEqual(row["shown"] + row["replaced"], row["asked"])
            self.assertGreater(row["shown"], 0.9 * 60 * 144)
        self.assertEqual(process["given_up"], 0)
        self.assertLessEqual(process["end_descriptors"], process["known_descriptors"])
        self.assertLess(process["end_kib"] - process["known_kib"], 1024)


class FailingPlugin(unittest.TestCase):
    def test_virgl_fails_and_says_why(self):
        if FAILING_SUBMIT is None:
            self.skipTest("built without virglrenderer")
        if "skipped" in vgfence("bench", "virgl", "--rounds=1").stderr:
            self.skipTest("virglrenderer does not start; Mesa would enable it")
        for way, message in (("fails", "bench: virgl: setup: Input/output error"),
                             ("ends", "plugin, ASYNC_FENCE_CB: Aborted"),
                             ("loses", "bench: virgl: a fence: Connection timed out")):
            environment = os.environ | {"LD_PRELOAD": FAILING_SUBMIT, "VGF_TEST_SUBMIT": way}
            result = vgfence("bench", "virgl", "--rounds=1", environment=environment)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn(message, result.stderr)
            self.assertEqual(result.stdout, "")


class Document(unittest.TestCase):
    def test_its_commands_run(self):
        commands = list(documented_commands())
        for words in commands:
            with self.subTest(command=" ".join(words)):
                rounds = ["--rounds=1"] if words[0] == "bench" else []
                result = vgfence(*words, *rounds, descriptors=FEW_DESCRIPTORS)
                self.assertEqual(result.returncode, 0, result.stderr)
                if "skipped" not in result.stderr:
                    self.assertRegex(result.stdout, r"(?m)^ *\S.* [0-9.]+x?$")

    def test_it_has_every_benchmark(self):
        benchmarks = [words[1] for words in documented_commands() if words[0] == "bench"]
        self.assertEqual(sorted(benchmarks), sorted(NAMES))


class Growth(unittest.TestCase):
    def test_the_bare_calls_memory_is_not_the_librarys(self):
        heaps = {}
        for descriptors in (400, 1024):
            result = vgfence("bench", "growth", "--json", "--rounds=1", descriptors=descriptors)
            row = next(row for row in json.loads(result.stdout) if row["pending"] == 64)
            heaps[row["bare_ns"] is not None] = row["bytes"]
        if heaps[True] is None:
            self.skipTest("malloc does not tell what is in use")
        # A chunk may be some bytes longer, because the one before it in its place was.
        self.assertAlmostEqual(heaps[True], heaps[False], delta=512)


class Picture(unittest.TestCase):
    def test_growth_draws_a_point_for_each_number(self):
        with tempfile.TemporaryDirectory(prefix="vgfence-bench.") as directory:
            path = os.path.join(directory, "growth.svg")
            result = vgfence("bench", "growth", "--json", "--rounds=1", f"--svg={path}",
                             descriptors=FEW_DESCRIPTORS)
            self.assertEqual(result.returncode, 0, result.stderr)
            shapes = [element.tag.rpartition("}")[2]
                      for element in xml.etree.ElementTree.parse(path).iter()]
        rows = json.loads(result.stdout)
        known = sum(row[key] is not None for row in rows for key in (
            "ns", "of_bare", "together_ns", "together_of_bare", "together_wakeups", "bytes"))
        self.assertEqual(shapes.count("polyline"), 6)
        self.assertEqual(shapes.count("circle"), known + 6)  # and the legend's

    def test_a_picture_that_cannot_be_written_is_an_error(self):
        result = vgfence("bench", "growth", "--rounds=1", "--svg=/no/such/folder/growth.svg")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/no/such/folder/growth.svg: No such file", result.stderr)


class Usage(unittest.TestCase):
    def test_only_growth_has_a_picture(self):
        for names in ([], ["core"]):
            result = vgfence("bench", *names, "--svg=picture.svg")
            self.assertEqual(result.returncode, 2, names)
            self.assertIn("usage:", result.stderr)

    def test_rounds_are_a_number_above_zero(self):
        for rounds in ("", "0", "-1", "+1", " 1", "1x", "x", "4294967296"):
            result = vgfence("bench", "wakeup", f"--rounds={rounds}")
            self.assertEqual(result.returncode, 2, rounds)
            self.assertIn("usage:", result.stderr)

    def test_an_unknown_benchmark_is_a_usage_error(self):
        result = vgfence("bench", "speed")
        self.assertEqual(result.returncode, 2)
        self.assertIn("usage:", result.stderr)


def main():
    global PROGRAM, DOCUMENT, FAILING_SUBMIT
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    DOCUMENT = pathlib.Path(sys.argv.pop(1)).resolve()
    FAILING_SUBMIT = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else None
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
