#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""How ./run test counts: the sums of unittest_sum.py and of scripts/count_tests.py."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import unittest_sum

COUNT_TESTS = pathlib.Path(__file__).resolve().parent.parent / "scripts/count_tests.py"


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


if __name__ == "__main__":
    sys.exit(unittest_sum.main())
