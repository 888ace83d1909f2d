#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Runs tests of builds as `meson test` does, which takes 17 seconds only to start in an emulated
processor. What it runs is in the list that meson made when it configured the build.

usage: run_tests.py [--suite SUITE] [--no-suite SUITE]... [--from SUITE=BUILD]... --log NAME
                    BUILD [TEST...]

--from: the tests of this suite are those of another build.
The outputs are in BUILD/meson-logs/NAME.txt; those of tests that have failed are printed too. Each
test has ten times its time limit. The last line is the sum, "N passed, N failed, N skipped".
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from count_tests import count

PROCESSES = 4  # more than there are processors: some tests only wait for the kernel
PATIENCE = 10
RESULTS = {0: "OK", 77: "SKIP"}
BAD = ("FAIL", "TIMEOUT")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite")
    parser.add_argument("--no-suite", action="append", default=[])
    parser.add_argument("--from", dest="others", action="append", default=[])
    parser.add_argument("--log", required=True)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("tests", nargs="*")
    return parser.parse_intermixed_args()


def listed(build):
    """The tests of a build, each with its suites as meson.build names them."""
    with open(build / "meson-info" / "intro-tests.json", encoding="utf-8") as file:
        tests = json.load(file)
    for test in tests:
        test["build"] = build
        test["suites"] = {suite.partition(":")[2] for suite in test["suite"]}
    return tests


def wanted(test, arguments):
    return (
        (arguments.suite is None or arguments.suite in test["suites"])
        and not test["suites"] & set(arguments.no_suite)
        and (not arguments.tests or test["name"] in arguments.tests)
    )


def choose(arguments):
    tests = listed(arguments.build)
    for other in arguments.others:
        suite, _, build = other.partition("=")
        tests = [test for test in tests if suite not in test["suites"]]
        tests += [test for test in listed(pathlib.Path(build)) if suite in test["suites"]]
    unknown = set(arguments.tests) - {test["name"] for test in tests}
    if unknown:
        print(f"there is no test {', '.join(sorted(unknown))}")
        sys.exit(1)
    return [test for test in tests if wanted(test, arguments)]


def output_of(process, limit):
    """What it wrote, and whether it took too long; then all that it started ends too."""
    try:
        return process.communicate(timeout=limit)[0], False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], True


def run(test):
    start = time.monotonic()
    process = subprocess.Popen(
        test["cmd"],
        cwd=test["workdir"] or test["build"],
        env={**os.environ, **test["env"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    output, late = output_of(process, (test["timeout"] or 30) * PATIENCE)
    return {
        "name": test["name"],
        "result": "TIMEOUT" if late else RESULTS.get(process.returncode, "FAIL"),
        "returncode": process.returncode,
        "duration": time.monotonic() - start,
        "stdout": output,
    }


def run_all(tests):
    """In the order in which they end. Those that may not run beside others come last."""
    beside = [test for test in tests if test["is_parallel"]]
    alone = [test for test in tests if not test["is_parallel"]]
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run, test) for test in beside]):
            yield future.result()
    yield from map(run, alone)


def show(result, outputs):
    line = "%-24s %-8s %7.2f s" % (result["name"], result["result"], result["duration"])
    print(line, result["stdout"], sep="\n", file=outputs)
    print(line, flush=True)
    if result["result"] in BAD:
        print(f"status {result['returncode']}:", result["stdout"], sep="\n", flush=True)


def main():
    arguments = parse()
    counts = [(0, 0, 0)]
    log = arguments.build / "meson-logs" / f"{arguments.log}.txt"
    with open(log, "w", encoding="utf-8") as outputs:
        for result in run_all(choose(arguments)):
            show(result, outputs)
            counts.append(count(result))
    passed, failed, skipped = (sum(column) for column in zip(*counts))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if failed == 0 and len(counts) > 1 else 1


sys.exit(main())
