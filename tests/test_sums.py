#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""How ./run test counts: the sums of unittest_sum.py, of scripts/count_tests.py, of
scripts/run_tests.py and of scripts/test.d/lanes.sh."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import unittest_sum

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts"
COUNT_TESTS = SCRIPTS / "count_tests.py"
LIMIT_S = 60  # only so that what hangs ends the test


class Example(unittest.TestCase):
    """What its tests do is for others to count."""

    def passes(self):
        pass

    def is_skipped(self):
        self.skipTest("as an example")

    def fails_in_its_clean_up(self):
        self.addCleanup(self.fail)

    def fails_twice(self):
        self.addCleanup(self.fail)
        self.fail()

    def is_skipped_and_fails(self):
        self.addCleanup(self.fail)
        self.skipTest("as an example")

    def fails_in_two_parts(self):
        for i in range(2):
            with self.subTest(i=i):
                self.fail()

    def ends_with_an_error(self):
        raise OSError


class BrokenClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError

    def passes(self):
        pass


class UnittestSum(unittest.TestCase):
    def sum(self, *tests):
        with open("/dev/null", "w", encoding="ascii") as stream:
            runner = unittest.TextTestRunner(stream, resultclass=unittest_sum.Result)
            return runner.run(unittest.TestSuite(tests)).sum()

    def test_each_test_counts_once(self):
        for name, expected in (
            ("passes", [1, 0, 0]),
            ("is_skipped", [0, 1, 0]),
            ("fails_in_its_clean_up", [0, 0, 1]),
            ("fails_twice", [0, 0, 1]),
            ("is_skipped_and_fails", [0, 0, 1]),
            ("fails_in_two_parts", [0, 0, 1]),
            ("ends_with_an_error", [0, 0, 1]),
        ):
            with self.subTest(name):
                self.assertEqual(self.sum(Example(name)), expected)

    def test_a_class_that_cannot_be_set_up_fails(self):
        self.assertEqual(self.sum(BrokenClass("passes")), [0, 0, 1])

    def test_tests_are_added_up(self):
        tests = map(Example, ("passes", "fails_twice", "is_skipped"))
        self.assertEqual(self.sum(*tests), [1, 1, 1])


class CountTests(unittest.TestCase):
    def count(self, *tests):
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as log:
            for result, output in tests:
                log.write(json.dumps({"result": result, "stdout": output}) + "\n")
            log.flush()
            result = subprocess.run(
                [sys.executable, COUNT_TESTS, log.name], capture_output=True, text=True, check=False
            )
        self.assertEqual(result.returncode, 0, result.stderr)
        return [int(number) for number in result.stdout.split()]

    def test_programs_that_count_themselves_are_believed(self):
        self.assertEqual(self.count(("OK", "7 passed, 0 failed, 2 skipped\n")), [7, 0, 2])
        self.assertEqual(self.count(("OK", "7 passed, 0 failed\n")), [7, 0, 0])

    def test_but_not_that_nothing_failed(self):
        self.assertEqual(self.count(("FAIL", "7 passed, 0 failed, 2 skipped\n")), [7, 1, 2])

    def test_a_crash_is_a_failure(self):
        output = "[ RUN      ] one\n[       OK ] one\n[ RUN      ] two\n"
        self.assertEqual(self.count(("FAIL", output)), [1, 1, 0])

    def test_others_count_as_one(self):
        tests = [("OK", ""), ("SKIP", ""), ("FAIL", ""), ("TIMEOUT", "")]
        self.assertEqual(self.count(*tests), [1, 2, 1])

    def test_no_tests_are_none(self):
        self.assertEqual(self.count(), [0, 0, 0])


class RunTests(unittest.TestCase):
    """Tests of builds that are shell commands."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="vgfence-test.")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)

    def build(self, name, *tests):
        build = self.directory / name
        for directory in ("meson-info", "meson-logs"):
            (build / directory).mkdir(parents=True)
        listed = [
            {
                "name": test,
                "cmd": ["sh", "-c", command],
                "env": {"VALUE": "of the test"},
                "workdir": None,
                "timeout": 6,
                "suite": [f"vgfence:{suite}" for suite in suites.split()] or ["vgfence"],
                "is_parallel": test != "alone",
            }
            for test, suites, command in tests
        ]
        (build / "meson-info" / "intro-tests.json").write_text(json.dumps(listed))
        return build

    def run_tests(self, *arguments):
        result = subprocess.run(
            [sys.executable, SCRIPTS / "run_tests.py", "--log", "log", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        self.assertEqual(result.stderr, "")
        return result.returncode, result.stdout.splitlines()

    def test_each_way_to_end_is_counted_and_failures_are_shown(self):
        build = self.build(
            "build",
            ("good", "", 'echo "7 passed, 0 failed"'),
            ("skipped", "", "echo why; exit 77"),
            ("bad", "", "echo what was wrong; exit 3"),
            ("crash", "", "kill -SEGV $$"),
        )
        status, lines = self.run_tests(build)
        self.assertEqual((status, lines[-1]), (1, "7 passed, 2 failed, 1 skipped"))
        self.assertIn("what was wrong", lines)
        self.assertNotIn("why", lines)
        self.assertIn("why", (build / "meson-logs" / "log.txt").read_text().splitlines())

    def test_one_that_hangs_ends_with_all_that_it_started(self):
        build = self.build("build", ("hangs", "", "sleep 1000 & echo $!; wait"))
        listed = build / "meson-info" / "intro-tests.json"
        listed.write_text(listed.read_text().replace('"timeout": 6', '"timeout": 0.1'))
        status, lines = self.run_tests(build)
        self.assertEqual((status, lines[-1]), (1, "0 passed, 1 failed, 0 skipped"))
        self.assertRegex(lines[0], "^hangs +TIMEOUT")
        (child,) = (line for line in lines if line.isdigit())
        self.assertFalse(os.path.exists(f"/proc/{child}/exe"))

    def test_suites_and_names_choose(self):
        tests = [("one", "slow kernel", ":"), ("two", "kernel", ":"), ("three", "", ":")]
        build = self.build("build", *tests)
        for arguments, expected in (
            ([], 3),
            (["--suite", "kernel"], 2),
            (["--suite", "kernel", "--no-suite", "slow"], 1),
            (["one", "three"], 2),
            (["--no-suite", "slow", "two", "one"], 1),
        ):
            with self.subTest(arguments):
                status, lines = self.run_tests(build, *arguments)
                self.assertEqual(status, 0)
                self.assertEqual(lines[-1], f"{expected} passed, 0 failed, 0 skipped")

    def test_none_is_a_failure(self):
        self.assertEqual(self.run_tests(self.build("build"))[0], 1)

    def test_a_name_of_none_is_a_failure(self):
        build = self.build("build", ("one", "", ":"))
        status, lines = self.run_tests(build, "one", "two")
        self.assertEqual((status, lines), (1, ["there is no test two"]))

    def test_a_suite_comes_from_another_build(self):
        own = self.build("own", ("a", "drm", "echo own"), ("b", "", "echo own"))
        other = self.build("other", ("a", "drm", "echo other"), ("b", "", "echo other"))
        status, lines = self.run_tests("--from", f"drm={other}", own)
        self.assertEqual((status, lines[-1]), (0, "2 passed, 0 failed, 0 skipped"))
        said = (own / "meson-logs" / "log.txt").read_text().split()
        self.assertEqual((said.count("own"), said.count("other")), (1, 1))

    def test_it_runs_in_its_build_with_its_environment(self):
        command = '[ -d meson-info ] && [ "$VALUE" = "of the test" ]'
        self.assertEqual(self.run_tests(self.build("build", ("here", "", command)))[0], 0)

    def test_one_that_wants_to_be_alone_is(self):
        running = self.directory / "running"
        beside = f"touch {running}; sleep 0.3; rm {running}"
        build = self.build("build", ("alone", "", f"! [ -e {running} ]"), ("beside", "", beside))
        self.assertEqual(self.run_tests(build)[0], 0)


class LanesTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="vgfence-test.")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        (self.directory / "build").mkdir()

    def start(self, *lines):
        script = ["set -euo pipefail", f". {SCRIPTS}/test.d/lanes.sh", *lines]
        process = subprocess.Popen(
            ["bash", "-c", "\n".join(script)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def run_lanes(self, *lines):
        """Its status, and the lines that it prints."""
        process = self.start(*lines, "show_parts", "summary")
        output, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, output.splitlines()


class Lanes(LanesTest):
    def test_parts_are_shown_in_the_order_of_the_list(self):
        status, lines = self.run_lanes(
            "first() { until [ -e last ]; do sleep 0.01; done; step first true; }",
            "second() { step second true; }",
            "third() { step third true; touch last; }",
            "open_lanes",
            "lane first second",
            "lane third",
        )
        self.assertEqual(status, 0, lines)
        shown = [line.split()[:2] for line in lines[:3]]
        self.assertEqual(shown, [["first", "ok"], ["second", "ok"], ["third", "ok"]])
        self.assertEqual(lines[-1], "3 passed, 0 failed, 0 skipped")

    def test_lanes_share_groups_and_a_group_has_one_lane(self):
        # Each of the first two ends only when the other runs; what is in a group has an order.
        meets = "touch $1; until [ -e $2 ]; do sleep 0.01; done; step $1 true"
        status, lines = self.run_lanes(
            f"meets() {{ {meets}; }}",
            "one() { meets one two; }",
            "two() { meets two one; touch done; }",
            "after_two() { step after_two test -e done; }",
            "last() { step last true; }",
            "open_lanes",
            "shared_lanes 2 one 'two after_two' last",
        )
        self.assertEqual(status, 0, lines)
        shown = [line.split()[0] for line in lines[:4]]
        self.assertEqual(shown, ["one", "two", "after_two", "last"])
        self.assertEqual(lines[-1], "4 passed, 0 failed, 0 skipped")

    def test_what_failed_and_what_was_skipped_is_named(self):
        status, lines = self.run_lanes(
            "fails() { step fails ls /nonexistent; }",
            "is_skipped() { skip 'is skipped' 'as an example'; }",
            "many() { counted many log echo '5 passed, 2 failed, 1 skipped'; }",
            "open_lanes",
            "lane fails is_skipped many",
        )
        self.assertEqual(status, 1, lines)
        self.assertIn("/nonexistent", "\n".join(lines))
        for line in ("skipped: is skipped: as an example", "failed: fails", "failed: many"):
            self.assertIn(line, lines)
        self.assertEqual(lines[-1], "5 passed, 3 failed, 2 skipped")

    def test_what_ends_early_or_counts_nothing_has_failed(self):
        status, lines = self.run_lanes(
            "exits() { exit 0; }",
            "counts_nothing() { :; }",
            "says_nothing() { counted 'says nothing' log true; }",
            "has_none() { counted 'has none' log echo '0 passed, 0 failed, 0 skipped'; }",
            "dies() { kill -KILL $BASHPID; }",
            "its_lane_dies() { kill -KILL 0; }",
            "is_not_reached() { :; }",
            "open_lanes",
            "lane exits counts_nothing says_nothing has_none dies",
            "lane its_lane_dies is_not_reached",
        )
        self.assertEqual(status, 1, lines)
        failed = [line for line in lines if line.startswith("failed: ")]
        names = ("exits: ended early", "counts_nothing: counted nothing", "says nothing",
                 "has none", "dies", "its_lane_dies", "is_not_reached")
        for name, line in zip(names, failed):
            self.assertIn(name, line)
        self.assertEqual(lines[-1], "0 passed, 7 failed, 0 skipped")

    def test_a_part_is_one_word(self):
        for part, expected in (("formatting", 0), ("virgl_plain", 0), ("formatting documents", 2)):
            process = self.start(
                f"cd {SCRIPTS.parent}", ". scripts/test.sh", f"check_parts '{part}'"
            )
            self.assertEqual(process.wait(timeout=LIMIT_S), expected, part)

    def test_a_signal_ends_all_lanes(self):
        waits = "echo $BASHPID >$1.new; mv $1.new $1; sleep 1000"
        process = self.start(
            f"wait_here() {{ {waits}; }}",
            "one() { wait_here one; }",
            "two() { wait_here two; }",
            "open_lanes",
            "lane one",
            "lane two",
            "show_parts",
        )
        files = [self.directory / name for name in ("one", "two")]
        while not all(file.exists() for file in files):
            self.assertIsNone(process.poll())
        process.terminate()
        self.assertEqual(process.wait(timeout=LIMIT_S), 143)
        for file in files:
            self.assertFalse(os.path.exists(f"/proc/{file.read_text().strip()}"))

    def test_two_in_one_checkout_do_not_mix(self):
        first = self.start("open_lanes", "echo open", "sleep 1000")
        self.assertEqual(first.stdout.readline(), "open\n")
        second = self.start("open_lanes")
        self.assertIn("another one runs", second.communicate(timeout=LIMIT_S)[0])
        self.assertEqual(second.returncode, 1)


class VirtualHosts(LanesTest):
    """Parts of scripts/test.sh, with something else in the place of scripts/vm."""

    parts = ("host_uml", "host_qemu", "virgl_sid", "guest_tests", "console_tests")

    def program(self, name, text=""):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)

    def run_parts(self, *parts, check=0, prepare=0, run=0, says="as a test", before=":"):
        """All in one lane. Returns its status, its sum, and what it printed."""
        (self.directory / "scripts/test.d").mkdir(parents=True, exist_ok=True)
        for name in ("test.sh", "test.d/lanes.sh"):
            shutil.copy(SCRIPTS / name, self.directory / "scripts" / name)
        self.program(
            "scripts/vm",
            f"echo {says}\n"
            f"case $1 in --check) exit {check} ;; --prepare) exit {prepare} ;;\n"
            f"*) exit {run} ;; esac\n",
        )
        lane = f"lane {' '.join(parts)}"
        status, lines = self.run_lanes(". scripts/test.sh", before, "open_lanes", lane)
        return status, lines[-1], "\n".join(lines)

    def test_one_in_which_all_is_skipped_has_failed(self):
        status, total, output = self.run_parts("host_qemu", says="0 passed, 0 failed, 3 skipped")
        self.assertEqual((status, total), (1, "0 passed, 1 failed, 3 skipped"), output)
        status, total, output = self.run_parts("host_qemu", says="1 passed, 0 failed, 2 skipped")
        self.assertEqual((status, total), (0, "1 passed, 0 failed, 2 skipped"), output)

    def test_what_the_machine_lacks_is_skipped(self):
        for statuses in ({"check": 77}, {"prepare": 77}):
            with self.subTest(**statuses):
                status, total, output = self.run_parts(*self.parts, **statuses)
                self.assertEqual((status, total), (0, "0 passed, 0 failed, 5 skipped"), output)
                self.assertEqual(output.count("SKIPPED: as a test"), 5, output)

    def test_what_cannot_be_prepared_otherwise_has_failed(self):
        for statuses in ({"check": 1}, {"prepare": 125}):
            with self.subTest(**statuses):
                status, total, output = self.run_parts(*self.parts, **statuses)
                self.assertEqual((status, total), (1, "0 passed, 5 failed, 0 skipped"), output)
                self.assertEqual(output.count("failed: "), 5, output)

    def test_dead_hosts_that_cannot_be_prepared_are_told_apart(self):
        for prepare, sums in ((77, (0, 0, 3)), (125, (0, 3, 0))):
            status, total, output = self.run_parts("dead_hosts", prepare=prepare)
            passed, failed, skipped = sums
            # The tests themselves are not in this directory.
            expected = f"{passed} passed, {failed + 1} failed, {skipped} skipped"
            self.assertEqual((status, total), (1, expected), output)

    def test_a_kernel_that_does_not_boot_is_one_failure(self):
        status, total, output = self.run_parts(*self.parts[:4], run=125)
        self.assertEqual((status, total), (1, "0 passed, 4 failed, 0 skipped"), output)
        self.assertEqual(output.count("failed: "), 4, output)
        self.assertIn("as a test", output)

    def test_a_root_that_cannot_be_entered_is_skipped_for_what_is_lacking_alone(self):
        parts = ("windows_sid", "guest_vulkan", "in_place_stock", "compare_stock")
        for name in ("gl_jobs", "gl_frames"):
            self.program(f"build/plain/tests/guest/{name}")
        status, total, output = self.run_parts(*parts, run=77)
        self.assertEqual((status, total), (0, "0 passed, 0 failed, 4 skipped"), output)
        self.assertEqual(output.count("SKIPPED: as a test"), 4, output)
        status, total, output = self.run_parts(*parts, run=125)
        self.assertEqual((status, total), (1, "0 passed, 4 failed, 0 skipped"), output)

    def test_nor_is_labwc_s_root(self):
        for name in ("weston", "weston-simple-shm", "grim"):
            self.program(f"bin/{name}")
        for name in ("build/plain/tests/guest/vgfence-frame-compositor", "scripts/wayland"):
            self.program(name)
        path = f"PATH={self.directory}/bin:$PATH"
        _, _, output = self.run_parts("guest_wayland", before=path, run=77)
        self.assertIn("skipped: Wayland clients under stock QEMU, labwc: as a test", output)


if __name__ == "__main__":
    sys.exit(unittest_sum.main())
