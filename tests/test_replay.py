#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Replays every recorded trace in every mode, and checks what happened with check_events.py.

Nothing here depends on how fast the machine is. The modes with the kernel's own sync files need
the vgem driver, which a virtual host has: ./run vm. VGF_TEST_FENCES=vgem runs these modes and no
other test, as the rest is slow there and the same anywhere. VGF_TEST_TRACES=TEXT: of the traces
only those with that in their names.

usage: test_replay.py VGFENCE TRACE_DIRECTORY
"""

import ctypes
import fcntl
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import check_events

KEYS = ["trace", "jobs", "in_fences", "ready", "driver", "held", "retired", "refused"]
KEYS += ["makespan_us", "ideal_us", "efficiency", "signal_to_retire_us"]
TIME_LIMIT_S = 120
NO_VGEM = "no node in /dev/dri is vgem's; `./run vm` runs these where there is one"
MISSING, DIRECTORY = "No such file or directory", "Is a directory"
NO_DIRECTORY, UNREADABLE = "Not a directory", "Input/output error"
FULL = "No space left on device"
DRM_IOCTL_VERSION = 0xC0406400


class DrmVersion(ctypes.Structure):
    """struct drm_version of include/uapi/drm/drm.h"""

    _fields_ = [("version", ctypes.c_int * 3)]
    for _string in ("name", "date", "desc"):
        _fields_ += [(_string + "_size", ctypes.c_size_t), (_string, ctypes.c_void_p)]


class Failure(Exception):
    pass


def expect(condition, message):
    if not condition:
        raise Failure(message)


def drm_driver(node):
    """The name of the driver behind a node; None for a node that does not say."""
    name = ctypes.create_string_buffer(32)
    version = DrmVersion(name=ctypes.addressof(name), name_size=31)
    try:
        with open(node, "r+b", buffering=0) as file:
            fcntl.ioctl(file, DRM_IOCTL_VERSION, version)
    except OSError:
        return None
    return name.value.decode()


def has_vgem():
    """Asked of the kernel, not of the program: that could be wrong."""
    return any(drm_driver(node) == "vgem" for node in pathlib.Path("/dev/dri").glob("card*"))


def read_records(path):
    """Kind, sequence number and data of each record of a trace."""
    data, at, records = path.read_bytes(), 16, []
    while at < len(data):
        _, kind, _, number, size = struct.unpack_from("<QIIII", data, at)
        records.append((kind, number, data[at + 24 : at + 24 + size]))
        at += 24 + size
    return records


def write_records(path, records):
    """A trace of them, a microsecond after each other, with sequence numbers that rise."""
    now, numbers, last = 0, {}, 0
    data = b"VGTRACE1" + struct.pack("<II", 1, 0)
    for kind, number, content in records:
        now += 1000
        if kind == 1:
            last += 1
            numbers[number] = last
        data += struct.pack("<QIIII", now, kind, 0, numbers[number], len(content)) + content
    path.write_bytes(data)


class Tests:
    def __init__(self, program, traces, directory):
        self.program = program
        self.traces = traces
        self.directory = pathlib.Path(directory)
        self.vgem = has_vgem()
        self.only = os.environ.get("VGF_TEST_FENCES")
        self.passed = self.failed = self.skipped = 0

    def run(self, name, function, *arguments):
        try:
            detail = function(*arguments)
            self.passed += 1
            print(f"ok    {name}{': ' + detail if detail else ''}", flush=True)
        except (Failure, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            self.failed += 1
            print(f"FAIL  {name}: {error}", flush=True)

    def skip(self, name):
        self.skipped += 1
        print(f"SKIP  {name}", flush=True)

    def replay(self, *arguments):
        command = [self.program, "replay", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )

    def replays_correctly(self, trace, *options):
        events = self.directory / "events"
        result = self.replay("--json", "--events", events, *options, trace)
        expect(result.returncode == 0, f"exit status {result.returncode}: {result.stderr}")
        jobs = check_events.read_jobs(trace)
        problems = check_events.check(jobs, check_events.read_events(events))
        expect(not problems, "; ".join(problems[:5]))
        (row,) = json.loads(result.stdout)
        expect(list(row) == KEYS, f"keys {list(row)}")
        expect(list(row["signal_to_retire_us"]) == ["p50", "p99", "max"], "latency keys")
        expect(row["jobs"] == len(jobs), f"{row['jobs']} jobs instead of {len(jobs)}")
        in_fences = sum(len(job.in_fences) for job in jobs)
        expect(row["in_fences"] == in_fences, f"{row['in_fences']} in-fences, not {in_fences}")
        expect(row["refused"] == 0, f"{row['refused']} refused")
        expect(row["retired"] == len(jobs), f"{row['retired']} of {len(jobs)} retired")
        ran = row["ready"] + row["driver"] + row["held"]
        expect(ran == len(jobs), f"{ran} of {len(jobs)} ran")
        expect("host" not in options or row["driver"] == 0, "the driver waited")
        expect(row["efficiency"] <= 1, f"faster than possible: {row['efficiency']}")
        return f"{len(jobs)} jobs, {in_fences} in-fences"

    def notices_damaged_events(self, trace):
        events = self.directory / "events"
        result = self.replay("--wait", "host", "--events", events, trace)
        expect(result.returncode == 0, result.stderr)
        count, problems = check_events.self_test(trace, events)
        expect(not problems, "; ".join(problems))
        return f"{count} kinds"

    def refuses_trace(self, data, offset):
        trace = self.directory / "damaged.vgtrace"
        trace.write_bytes(data)
        result = self.replay(trace)
        expect(result.returncode == 1, f"exit status {result.returncode}")
        expected = f"vgfence: {trace}: at byte {offset}: "
        expect(result.stderr.startswith(expected), f"says: {result.stderr}")

    def replays_up_to_a_cut(self, data, offset):
        trace = self.directory / "cut.vgtrace"
        trace.write_bytes(data)
        result = self.replay(trace)
        expect(result.returncode == 0, f"exit status {result.returncode}")
        expected = f"vgfence: {trace}: at byte {offset}: cut off; what is before is replayed\n"
        expect(result.stderr == expected, f"says: {result.stderr}")

    def says_file_error(self, path, message):
        result = self.replay(path)
        expect(result.returncode == 1, f"exit status {result.returncode}")
        expect(result.stderr == f"vgfence: {path}: {message}\n", f"says: {result.stderr}")

    def says_events_error(self, trace, path, message):
        result = self.replay("--events", path, trace)
        expect(result.returncode == 1, f"exit status {result.returncode}")
        expect(result.stderr == f"vgfence: {path}: {message}\n", f"says: {result.stderr}")

    def demo_says_error(self, path, message):
        command = [self.program, "demo", str(path)]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
        expect(result.returncode == 1, f"exit status {result.returncode}")
        expect(result.stderr == f"vgfence demo: {path}: {message}\n", f"says: {result.stderr}")
        expect(result.stdout == "", f"says: {result.stdout}")

    def says_that_output_is_lost(self, *arguments):
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = subprocess.run(
                [self.program, *map(str, arguments)],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=TIME_LIMIT_S,
                check=False,
            )
        expect(result.returncode == 1, f"exit status {result.returncode}")
        expect("No space left on device" in result.stderr, f"says: {result.stderr}")

    def refuses_usage(self, *arguments):
        result = self.replay(*arguments)
        expect(result.returncode == 2, f"exit status {result.returncode}")
        expect("usage:" in result.stderr, f"says: {result.stderr}")

    def says_what_vgem_needs(self, trace):
        result = self.replay("--fences", "vgem", trace)
        expect(result.returncode == 1, f"exit status {result.returncode}")
        expect("vgem driver" in result.stderr and "./run vm" in result.stderr, result.stderr)
        expect("VGFENCE_VM" not in os.environ, "a virtual host has vgem")

    def says_nothing(self, trace):
        result = self.replay(trace)
        expect(result.stderr == "", f"says: {result.stderr}")

    def reports_each_trace(self):
        result = self.replay("--json", *self.traces[:2])
        expect(result.returncode == 0, result.stderr)
        names = [row["trace"] for row in json.loads(result.stdout)]
        expect(names == [str(trace) for trace in self.traces[:2]], f"traces {names}")

    def reports_what_it_can(self):
        result = self.replay("--json", self.directory / "missing", self.traces[0])
        expect(result.returncode == 1, f"exit status {result.returncode}")
        expect(len(json.loads(result.stdout)) == 1, "the good trace is not reported")

    def run_mode(self, trace, *options):
        name = f"{trace.stem} {' '.join(options)}"
        if "vgem" in options and not self.vgem:
            self.skip(name)
        elif self.only is None or self.only in options:
            self.run(name, self.replays_correctly, trace, *options)

    def is_wanted(self, trace):
        return os.environ.get("VGF_TEST_TRACES", "") in trace.stem

    def run_modes(self):
        for trace in filter(self.is_wanted, self.traces):
            for wait in ("host", "driver"):
                for fences in ("eventfd", "call", "vgem"):
                    self.run_mode(trace, "--wait", wait, "--fences", fences)

    def run_paces(self, trace):
        all_options = (
            ("--window", "1"),
            ("--window", "3"),
            ("--pace", "recorded"),
            ("--pace", "causal"),
            ("--pace", "causal", "--wait", "host", "--fences", "call"),
            ("--window", "3", "--fences", "vgem"),
            ("--pace", "causal", "--fences", "vgem"),
        )
        for options in all_options:
            self.run_mode(trace, *options)

    def run_usage(self, trace):
        events = self.directory / "events"
        self.run("no trace", self.refuses_usage)
        self.run("a pace that is none", self.refuses_usage, "--pace", "slow", trace)
        self.run("a window of none", self.refuses_usage, "--window", "0", trace)
        self.run("events of two traces", self.refuses_usage, "--events", events, trace, trace)

    def run_all(self):
        by_name = {trace.stem: trace for trace in self.traces}
        chain, storm = by_name["chain-passing"], by_name["storm-passing"]
        self.run_modes()
        if self.is_wanted(storm):
            self.run_paces(storm)
        if self.only is not None:
            return
        self.run_mode(by_name["storm-guestwait"], "--pace", "asap")
        if not self.vgem:
            self.run("without vgem it says what it needs", self.says_what_vgem_needs, chain)
        self.run("damaged events are noticed", self.notices_damaged_events, chain)
        self.run("several traces, one report", self.reports_each_trace)
        self.run("a missing trace does not hide others", self.reports_what_it_can)
        self.run_ids(by_name)
        self.run_damaged(chain.read_bytes())
        self.run_files(chain)
        self.run_usage(chain)

    def run_files(self, trace):
        missing, folder = self.directory / "missing", self.directory
        self.run("a trace that is missing", self.says_file_error, missing, MISSING)
        self.run("a trace that is a directory", self.says_file_error, folder, DIRECTORY)
        self.run("a trace in a file", self.says_file_error, trace / "x", NO_DIRECTORY)
        # Opened by anybody, and read by nobody: there is nothing at address 0.
        self.run("a trace that is not readable", self.says_file_error, "/proc/self/mem", UNREADABLE)
        self.run("events in a directory", self.says_events_error, trace, folder, DIRECTORY)
        self.run("events that do not fit", self.says_events_error, trace, "/dev/full", FULL)
        self.run("a demo that is missing", self.demo_says_error, missing, MISSING)
        self.run("a demo that is a file", self.demo_says_error, trace, NO_DIRECTORY)
        lost = self.says_that_output_is_lost
        self.run("a table that does not fit", lost, "replay", trace)
        self.run("JSON that does not fit", lost, "replay", "--json", trace)
        self.run("a report that does not fit", lost, "info")
        self.run("a version that does not fit", lost, "--version")

    def run_ids(self, by_name):
        """IDs of fences and contexts that come again."""
        for name in ("chain-passing", "storm-passing", "chain-guestwait"):
            records = read_records(by_name[name])
            trace = self.directory / f"{name}-over-a-reset.vgtrace"
            write_records(trace, records[: 3 * len(records) // 4] + records)
            for wait in ("host", "driver"):
                self.run_mode(trace, "--wait", wait)
            self.run(f"{trace.stem} without a message", self.says_nothing, trace)
        trace = self.directory / "chain-without-ids.vgtrace"
        write_records(trace, [(kind, number, data[:8] + bytes(8) + data[16:])
                              for kind, number, data in read_records(by_name["chain-guestwait"])])
        self.run_mode(trace, "--wait", "host")

    def run_damaged(self, data):
        first_size = int.from_bytes(data[36:40], "little")
        second = 16 + 24 + first_size
        damaged = {
            "an empty file": (b"", 0),
            "another kind of file": (b"\x7fELF" + data[4:], 0),
            "an unknown version": (data[:8] + b"\x02" + data[9:], 0),
            "an unknown kind of record": (data[:24] + b"\x09" + data[25:], 16),
            "a completion of nothing": (data[:16] + data[second:], 16),
        }
        for name, (content, offset) in damaged.items():
            self.run(f"trace with {name}", self.refuses_trace, content, offset)
        cut = {
            "half a record header": (data[: second + 10], second),
            "half a record": (data[: second + 30], second),
            "a size past the end": (data[:36] + b"\xff\xff\xff\xff" + data[40:], 16),
        }
        for name, (content, offset) in cut.items():
            self.run(f"trace with {name}", self.replays_up_to_a_cut, content, offset)


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    traces = sorted(pathlib.Path(arguments[1]).glob("*.vgtrace"))
    with tempfile.TemporaryDirectory(prefix="vgfence-") as directory:
        tests = Tests(arguments[0], traces, directory)
        tests.run_all()
    if tests.skipped:
        print(f"skipped: {NO_VGEM}")
    print(f"{tests.passed} passed, {tests.failed} failed, {tests.skipped} skipped")
    return 1 if tests.failed or not traces else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
