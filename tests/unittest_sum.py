# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Runs the tests of a program and prints their sum as ./run test reads it. A test counts once,
whatever fails of it: its body, a part of it, its clean-up."""

import unittest

PASSED, SKIPPED, FAILED = range(3)


class Result(unittest.TextTestResult):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.outcomes = {}

    def _note(self, test, outcome):
        test = getattr(test, "test_case", test)  # of a part
        self.outcomes[test] = max(outcome, self.outcomes.get(test, PASSED))

    def addSuccess(self, test):
        super().addSuccess(test)
        self._note(test, PASSED)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._note(test, SKIPPED)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, FAILED)

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, FAILED)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, FAILED)

    def sum(self):
        """How many passed, were skipped, failed."""
        outcomes = list(self.outcomes.values())
        return [outcomes.count(outcome) for outcome in (PASSED, SKIPPED, FAILED)]


def main(**options):
    """The status to end with."""
    runner = unittest.TextTestRunner(verbosity=2, resultclass=Result)
    result = unittest.main(testRunner=runner, exit=False, **options).result
    for test, reason in result.skipped:
        print(f"skipped: {test}: {reason}")
    passed, skipped, failed = result.sum()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0
