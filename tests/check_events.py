#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Checks what 'vgfence replay --events' wrote against the trace that was replayed.

Reads both files by itself and believes nothing of the library: what each job was, what it had to
wait for and how long it had to run is taken from the guest's own bytes.

usage: check_events.py TRACE EVENTS              check, one line or the violations
       check_events.py --self-test TRACE EVENTS  spoil good events; each must be noticed
"""

import collections
import copy
import json
import struct
import sys

CTX_CREATE, SUBMIT_3D = 0x0200, 0x0207
FLAG_FENCE, FLAG_RING, FLAG_SHAREABLE = 1, 2, 4
BUSY, NOTHING = 1, 0
MEMORY = range(2, 14)  # what a job does to memory when it is done
KINDS = ("accept", "run", "signal", "retire")


class Violation(Exception):
    """The files cannot be checked any further."""


class Job:
    """A fenced SUBMIT_3D of the trace."""

    def __init__(self, ctx, number, ring, fence, in_fences, busy_ns):
        self.ctx = ctx
        self.number = number  # of the contexts with this ID, one after the other
        self.ring = ring  # None: the global timeline
        self.fence = fence
        self.in_fences = in_fences
        self.busy_ns = busy_ns
        self.events = {kind: [] for kind in KINDS}

    @property
    def key(self):
        return (self.ctx, self.ring, self.fence)

    @property
    def gpu_ring(self):
        return (self.ctx, self.number, self.ring or 0)

    @property
    def timeline(self):
        return None if self.ring is None else (self.ctx, self.ring)

    def __str__(self):
        return f"fence {self.fence} (context {self.ctx}, ring {self.ring})"

    def event(self, kind):
        return self.events[kind][0] if self.events[kind] else None


# ---- The trace --------------------------------------------------------------------------------


def read_requests(path):
    """The requests of a trace, in order."""
    with open(path, "rb") as file:
        data = file.read()
    magic, version, flags = struct.unpack_from("<8sII", data)
    if magic != b"VGTRACE1" or version != 1 or flags != 0:
        raise Violation(f"{path}: not a trace that is understood here")
    at, requests = 16, []
    while at < len(data):
        _, kind, _, _, size = struct.unpack_from("<QIIII", data, at)
        at += 24
        if at + size > len(data):
            raise Violation(f"{path}: cut off")
        if kind == 1:
            requests.append(data[at : at + size])
        at += size
    return requests


def submit_header(request):
    """type, flags, fence, ctx, ring, size, num_in_fences; None for what is no SUBMIT_3D."""
    if len(request) < 32:
        return None
    header = struct.unpack_from("<IIQIB3xII", request)
    return header if header[0] == SUBMIT_3D else None


def shows_fence_passing(request):
    header = submit_header(request)
    if header is None:
        return False
    _, flags, _, _, _, size, count = header
    return bool(flags & FLAG_SHAREABLE) or (count > 0 and 32 + 8 * count + size == len(request))


def busy_time(command):
    total = 0
    for operation, argument in struct.iter_unpack("<II", command):
        if operation not in (BUSY, NOTHING, *MEMORY):
            raise Violation(f"operation {operation} in a command stream")
        total += argument * 1000 if operation == BUSY else 0
    return total


def read_jobs(path):
    """The fenced jobs of a trace, in order. A replay numbers fences from 1, whatever IDs the guest
    gives them, which may come again."""
    requests = read_requests(path)
    passing = any(map(shows_fence_passing, requests))
    jobs, numbers, number, contexts = [], {}, 0, collections.Counter()
    for request in requests:
        kind, flags, fence, ctx = struct.unpack_from("<IIQI", request)
        if kind == CTX_CREATE:
            contexts[ctx] += 1
        if not flags & FLAG_FENCE:
            continue
        number += 1
        header = submit_header(request)
        if header is not None:
            _, _, _, ctx, ring, size, count = header
            count = count if passing else 0
            ids = struct.unpack_from(f"<{count}Q", request, 32)
            command = request[32 + 8 * count : 32 + 8 * count + size]
            ring = ring if flags & FLAG_RING else None
            in_fences = [numbers.get(i) for i in ids]
            jobs.append(Job(ctx, contexts[ctx], ring, number, in_fences, busy_time(command)))
        numbers[fence] = number
    return jobs


# ---- The events -------------------------------------------------------------------------------


def read_events(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def assign(jobs, events):
    """Gives each event its place and its job. Returns what is wrong with the list as such."""
    problems = []
    by_key = {job.key: job for job in jobs}
    last = 0
    for place, event in enumerate(events):
        where = f"line {place + 1}"
        event["place"] = place
        if event["t_ns"] < last:
            problems.append(f"{where}: earlier than the line before")
        last = event["t_ns"]
        job = by_key.get((event["ctx"], event["ring"], event["fence"]))
        if job is None:
            problems.append(f"{where}: the trace has no such fence: {event}")
        elif event["event"] == "reject":
            problems.append(f"{where}: {job} was refused")
        elif event["event"] not in KINDS:
            problems.append(f"{where}: unknown event {event['event']}")
        else:
            job.events[event["event"]].append(event)
    return problems


# ---- The checks: each yields what is violated ---------------------------------------------------


def check_each_once(jobs):
    for job in jobs:
        for kind in KINDS:
            count = len(job.events[kind])
            if count != 1:
                yield f"{job}: {count} times {kind}"


def check_life(jobs):
    """Accepted, run, signalled, retired: in this order."""
    for job in jobs:
        for before, after in zip(KINDS, KINDS[1:]):
            first, second = job.event(before), job.event(after)
            if first and second and first["place"] > second["place"]:
                yield f"{job}: {after} before {before}"


def check_order(jobs, kind, group):
    """Within a group events of a kind come in the order in which the guest submitted."""
    last = {}
    for job in jobs:
        event, key = job.event(kind), group(job)
        if event is None:
            continue
        if key in last and event["place"] < last[key].event(kind)["place"]:
            yield f"{job}: {kind} before that of {last[key]}, which was submitted earlier"
        else:
            last[key] = job


def check_in_fences_named(jobs):
    for job in jobs:
        event = job.event("accept")
        if event and event.get("in") != job.in_fences:
            yield f"{job}: accepted with in-fences {event.get('in')}, not {job.in_fences}"


def producers(jobs):
    """Yields each job with the jobs that it must wait for."""
    by_fence = {}
    for job in jobs:
        yield job, [by_fence.get(fence) for fence in job.in_fences]
        by_fence[job.fence] = job


def check_waits(jobs):
    """Nothing reaches the driver before its in-fences have signalled, unless the driver waits."""
    for job, in_fences in producers(jobs):
        run = job.event("run")
        if run is None:
            continue
        if run.get("how") not in ("now", "driver", "host"):
            yield f"{job}: run without saying how it waited"
        if run.get("how") == "driver" and not in_fences:
            yield f"{job}: the driver was to wait, but for nothing"
        for producer in in_fences:
            if producer is None:
                yield f"{job}: waits for a fence that the trace does not have"
                continue
            signal = producer.event("signal")
            if run.get("how") == "driver":
                signal = producer.event("accept")
            if signal is None or signal["place"] > run["place"]:
                yield f"{job}: run ({run.get('how')}) before its in-fence {producer.fence}"


def check_time(jobs):
    """A job starts after all that it depends on, and takes its time."""
    last = {}
    for job, in_fences in producers(jobs):
        signal, run = job.event("signal"), job.event("run")
        if signal is None or run is None:
            continue
        start = [("it was run", run["t_ns"])]
        for producer in filter(None, in_fences):
            if producer.event("signal"):
                start.append((f"in-fence {producer.fence}", producer.event("signal")["t_ns"]))
        if job.gpu_ring in last:
            before = last[job.gpu_ring]
            start.append((f"{before} on its ring", before.event("signal")["t_ns"]))
        last[job.gpu_ring] = job
        why, earliest = max(start, key=lambda item: item[1])
        if signal["t_ns"] < earliest + job.busy_ns:
            took = signal["t_ns"] - earliest
            yield f"{job}: signalled {took} ns after {why}, but takes {job.busy_ns} ns"


def check(jobs, events):
    """All violations, as text."""
    problems = assign(jobs, events)
    problems += check_each_once(jobs)
    problems += check_life(jobs)
    problems += check_in_fences_named(jobs)
    problems += check_waits(jobs)
    problems += check_time(jobs)
    problems += check_order(jobs, "accept", lambda job: "the device")
    problems += check_order(jobs, "run", lambda job: job.gpu_ring)
    problems += check_order(jobs, "signal", lambda job: job.gpu_ring)
    problems += check_order(jobs, "retire", lambda job: job.timeline)
    return problems


# ---- The self-test: good events, spoilt ---------------------------------------------------------


def find(events, kind, fence):
    return next(e for e in events if e["event"] == kind and e["fence"] == fence)


def swap(events, left, right):
    """Lets two events change places, but not their times."""
    i, j = events.index(left), events.index(right)
    left["t_ns"], right["t_ns"] = right["t_ns"], left["t_ns"]
    events[i], events[j] = right, left


def move(events, event, t_ns):
    """Lets an event happen at another time, and sorts it in."""
    event["t_ns"] = t_ns
    events.sort(key=lambda e: e["t_ns"])


class Spoiler:
    """Ways to spoil good events. Each takes the list and changes it."""

    def __init__(self, jobs):
        on_ring = {}
        for job in jobs:
            on_ring.setdefault(job.gpu_ring, []).append(job)
        pairs = next(ring for ring in on_ring.values() if len(ring) > 2)
        self.first, self.second = pairs[0].fence, pairs[1].fence
        waiting = next(job for job in jobs if job.in_fences and job.busy_ns > 0)
        self.waiting, self.in_fence = waiting.fence, waiting.in_fences[0]

    def drop_accept(self, events):
        events.remove(find(events, "accept", self.second))

    def drop_run(self, events):
        events.remove(find(events, "run", self.second))

    def drop_signal(self, events):
        events.remove(find(events, "signal", self.second))

    def drop_retire(self, events):
        events.remove(find(events, "retire", self.second))

    def drop_last(self, events):
        events.pop()

    def repeat_run(self, events):
        event = find(events, "run", self.second)
        events.insert(events.index(event), dict(event))

    def repeat_retire(self, events):
        event = find(events, "retire", self.second)
        events.append(dict(event, t_ns=events[-1]["t_ns"]))

    def swap_accepts(self, events):
        swap(events, find(events, "accept", self.first), find(events, "accept", self.second))

    def swap_runs(self, events):
        swap(events, find(events, "run", self.first), find(events, "run", self.second))

    def swap_retires(self, events):
        swap(events, find(events, "retire", self.first), find(events, "retire", self.second))

    def retire_before_signal(self, events):
        swap(events, find(events, "signal", self.second), find(events, "retire", self.second))

    def run_early(self, events):
        signal = find(events, "signal", self.in_fence)
        event = find(events, "run", self.waiting)
        event["how"] = "host"
        move(events, event, signal["t_ns"] - 1)

    def claim_ready(self, events):
        signal = find(events, "signal", self.in_fence)
        event = find(events, "run", self.waiting)
        event["how"] = "now"
        move(events, event, signal["t_ns"] - 1)

    def signal_early(self, events):
        in_fence = find(events, "signal", self.in_fence)["t_ns"]
        run = find(events, "run", self.waiting)["t_ns"]
        move(events, find(events, "signal", self.waiting), max(in_fence, run) + 1)

    def jump_back(self, events):
        events[-1]["t_ns"] = events[0]["t_ns"] - 1

    def lose_in_fence(self, events):
        find(events, "accept", self.waiting)["in"].pop()

    def mistake_ring(self, events):
        find(events, "retire", self.second)["ring"] += 1

    def invent_fence(self, events):
        events.append(dict(events[-1], fence=1 << 60))

    def refuse(self, events):
        find(events, "accept", self.second)["event"] = "reject"

    def forget_how(self, events):
        del find(events, "run", self.second)["how"]


def self_test(trace, path):
    events = read_events(path)
    problems = check(read_jobs(trace), copy.deepcopy(events))
    if problems:
        raise Violation(f"{path}: must be good to begin with: {problems[0]}")
    spoiler = Spoiler(read_jobs(trace))
    ways = [name for name in vars(Spoiler) if not name.startswith("_")]
    unnoticed = []
    for name in ways:
        spoilt = copy.deepcopy(events)
        getattr(spoiler, name)(spoilt)
        if not check(read_jobs(trace), spoilt):
            unnoticed.append(f"not noticed: {name}")
    return len(ways), unnoticed


def main(arguments):
    testing = arguments[:1] == ["--self-test"]
    if testing:
        arguments = arguments[1:]
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    trace, path = arguments
    try:
        if testing:
            count, problems = self_test(trace, path)
            print(f"{path}: {count - len(problems)} of {count} kinds of damage noticed")
        else:
            jobs = read_jobs(trace)
            problems = check(jobs, read_events(path))
            verdict = f"{len(problems)} violations" if problems else "all as it should be"
            print(f"{path}: {len(jobs)} jobs, {verdict}")
    except (OSError, ValueError, KeyError, struct.error, Violation) as error:
        problems = [f"cannot be checked: {error!r}"]
    for problem in problems[:20]:
        print(f"  {problem}")
    if len(problems) > 20:
        print(f"  and {len(problems) - 20} more")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
