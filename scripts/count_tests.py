#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints how many tests a meson run passed, failed and skipped, from its testlog.json.

A program that uses cmocka counts as its tests, any other as one; one that crashed or timed out
counts as a failed test more.
"""

import json
import re
import sys

# A library's message may be in front of it, without an end of line.
CMOCKA = re.compile(r"\[ +(RUN|OK|FAILED|ERROR|SKIPPED) +\] (\w+)$", re.MULTILINE)
COUNTED_BY_ITSELF = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.MULTILINE)


def cmocka_outcomes(output):
    """How each test ended. A program may run its tests several times over, and lists what failed or
    was skipped once more at the end: only what follows RUN counts. One that does not end has
    crashed."""
    outcomes = []
    running = None
    for outcome, name in CMOCKA.findall(output):
        if outcome == "RUN":
            running = name
            outcomes.append("ERROR")
        elif name == running:
            outcomes[-1] = outcome
            running = None
    return outcomes


def count(test):
    output = test.get("stdout", "") + test.get("stderr", "")
    ok = test["result"] in ("OK", "EXPECTEDFAIL")
    outcomes = cmocka_outcomes(output)
    passed, skipped = outcomes.count("OK"), outcomes.count("SKIPPED")
    failed = outcomes.count("FAILED") + outcomes.count("ERROR")
    by_itself = COUNTED_BY_ITSELF.search(output)
    if by_itself:
        passed, failed, skipped = (int(number or 0) for number in by_itself.groups())
    elif not outcomes:
        passed, skipped = int(ok), int(test["result"] == "SKIP")
    if not ok and test["result"] != "SKIP":
        failed = max(failed, 1)
    return passed, failed, skipped


def main():
    with open(sys.argv[1], encoding="utf-8") as log:
        counts = [count(json.loads(line)) for line in log]
    print(*(sum(column) for column in zip((0, 0, 0), *counts)))


if __name__ == "__main__":
    main()
