#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Checks the model in device.pml with spin: nothing is wrong in any order of its threads, and each
mistake that can be put into it is found. VGF_TEST_ALL=1 adds the models that take minutes.

What a search says depends on the model, its flags, spin and the compiler alone. So it is kept in
the cache, as scripts/lint keeps what passed, and a search is made anew when one of these has
changed, or with VGF_TEST_ALL=1."""

import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

import unittest_sum

MODEL = HERE / "device.pml"
LIMIT_S = 3600  # only so that what hangs ends the test
MEMORY_MIB = 4000
SEARCH = ["./pan", "-m100000", "-w22"]
FULL = os.environ.get("VGF_TEST_ALL") == "1"
# To optimise takes longer than most searches do.
SMALL, FAST = ["-O0"], ["-O2", "-DCOLLAPSE"]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
SEARCHED = CACHE / "vgfence/promela"
KEPT_DAYS = 60

# What each thread may do. The first two are about wake-ups: nobody gives up on anything.
QUIET = ("QUIET", "ITEMS=2", "DISPATCHES")
QUIET_SAVES = ("QUIET", "ITEMS=2", "DISPATCHES", "SAVES")
QUIET_LARGE = ("QUIET", "ITEMS=3")
QUIET_OWN = ("QUIET", "ITEMS=2", "OWN_THREAD")
CANCELS = ("ITEMS=2", "CANCELS")
RESETS = ("ITEMS=2", "RESETS")
RESETS_ALL = ("ITEMS=2", "CANCELS", "RESETS", "SAVES")
RESETS_OWN = (*RESETS_ALL, "OWN_THREAD")
DRAINS = ("ITEMS=2", "DRAINS")
DRAINS_ALL = (*DRAINS, "CANCELS")
HERE = (*QUIET, "SIGNALS_HERE")
HERE_RESETS = (*RESETS, "SIGNALS_HERE")
HERE_ALL = (*RESETS_ALL, "SIGNALS_HERE")

# Mistakes, and where each is found: a promise that is broken, or threads that wait for ever.
ASSERTION, DEADLOCK = "assertion violated", "invalid end state"
MISTAKES = {
    "turn": (QUIET, ASSERTION),  # a fence retires out of its turn
    "in_fence": (QUIET, ASSERTION),  # work is not held back
    "barrier": (QUIET_LARGE, ASSERTION),  # destroying a context overtakes its work
    "kick": (QUIET, DEADLOCK),  # nobody wakes up the dispatching thread
    "take_kick": (QUIET, DEADLOCK),  # a wake-up is not noted as taken
    "role": (QUIET, ASSERTION),  # two threads dispatch at once
    "take_over": (QUIET_SAVES, DEADLOCK),  # who waits for the role does not say so
    "save": (QUIET_SAVES, ASSERTION),  # a snapshot is taken beside callbacks
    "settle": (CANCELS, ASSERTION),  # a cancelled fence is signalled once more
    "broadcast": (RESETS, DEADLOCK),  # who waits for the end of a driver's call is not told
    "running": (RESETS, ASSERTION),  # a reset does not wait for a driver's call
    "end": (RESETS, ASSERTION),  # the device is freed under a dispatching thread
    "here": (HERE, ASSERTION),  # a fence retires where it is signalled, beside who dispatches
    "left": (HERE, DEADLOCK),  # who has retired there does not say what is left
    "drain": (DRAINS, DEADLOCK),  # a drain does not make way for a reset
}


def commands(flags):
    """Which make the program that searches, from the model."""
    return (
        ["spin", *(f"-D{flag}" for flag in flags), "-a", MODEL.name],
        ["cc", *(FAST if FULL else SMALL), "-w", "-DSAFETY", "-DVECTORSZ=4096"]
        + [f"-DMEMLIM={MEMORY_MIB}", "-o", "pan", "pan.c"],
    )


def search(flags):
    """Returns what pan says."""
    with tempfile.TemporaryDirectory(prefix="vgfence-promela.") as directory:
        shutil.copy(MODEL, directory)
        for command in commands(flags):
            subprocess.run(command, cwd=directory, check=True, timeout=LIMIT_S)
        ran = subprocess.run(SEARCH, cwd=directory, check=True, timeout=LIMIT_S,
                             stdout=subprocess.PIPE, text=True)
    return ran.stdout


@functools.cache
def versions():
    """Of the programs that make the search."""
    return [subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for command in (["spin", "-V"], ["cc", "--version"])]


def searched(flags):
    """The file that has what pan says."""
    what = [MODEL.read_text(), *versions(), SEARCH, *commands(flags)]
    return SEARCHED / hashlib.sha256(json.dumps(what).encode()).hexdigest()


def keep(path, said):
    """It appears when it is whole. Without room, or rights, it is searched again the next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix="new.", delete=False) as file:
            file.write(said)
        os.replace(file.name, path)
        for old in path.parent.iterdir():
            if time.time() - old.stat().st_mtime > KEPT_DAYS * 24 * 3600:
                old.unlink()
    except OSError as error:
        print(f"not kept: {error}")


def check(flags):
    """Returns what pan says, and how many states it saw."""
    path = searched(flags)
    try:
        said = "" if FULL else path.read_text()
    except OSError:
        said = ""
    known = bool(said)
    said = said or search(flags)
    # It may give up: at that depth, or without memory.
    if "errors: 0" in said and re.search("max search depth too small|reached -DMEMLIM", said):
        raise RuntimeError(f"the search was not complete:\n{said}")
    if not known:
        keep(path, said)
    return said, int(re.search(r"(\d+) states, stored", said).group(1))


slow = unittest.skipUnless(FULL, "minutes: with VGF_TEST_ALL=1")


@unittest.skipUnless(shutil.which("spin"), "spin is not installed")
class Model(unittest.TestCase):
    """No order of the threads breaks a promise or leaves one waiting for ever."""

    def right(self, flags):
        said, states = check(flags)
        self.assertIn("errors: 0", said)
        print(f"{' '.join(flags)}: {states} states")

    def test_quiet(self):
        self.right(QUIET)

    def test_quiet_own(self):
        self.right(QUIET_OWN)

    @slow
    def test_resets(self):
        self.right(RESETS)

    def test_drains(self):
        self.right(DRAINS)

    def test_here(self):
        self.right(HERE)

    @slow
    def test_here_resets(self):
        self.right(HERE_RESETS)

    @slow
    def test_here_all(self):
        self.right(HERE_ALL)

    @slow
    def test_quiet_saves(self):
        self.right(QUIET_SAVES)

    @slow
    def test_quiet_large(self):
        self.right(QUIET_LARGE)

    @slow
    def test_cancels(self):
        self.right(CANCELS)

    @slow
    def test_resets_all(self):
        self.right(RESETS_ALL)

    @slow
    def test_resets_own(self):
        self.right(RESETS_OWN)

    @slow
    def test_drains_all(self):
        self.right(DRAINS_ALL)


@unittest.skipUnless(shutil.which("spin"), "spin is not installed")
class Mistakes(unittest.TestCase):
    """Each is found, and there is no other in the model."""

    def test_mistakes(self):
        for name, (flags, finding) in MISTAKES.items():
            with self.subTest(name):
                said, _ = check((*flags, f"BREAK_{name}"))
                self.assertIn(finding, said)

    def test_all_are_tried(self):
        named = set(re.findall(r"\bBREAK_(\w+)", MODEL.read_text()))
        self.assertEqual(named - {"name"}, set(MISTAKES))


class Names(unittest.TestCase):
    """What the model names is in the library."""

    def test_functions(self):
        for path, names in re.findall(r"(src/\w+\.c): ([\w, ]+)", MODEL.read_text()):
            source = (ROOT / path).read_text()
            for name in filter(None, re.split(r",? (?:or|and|with) |, | ", names)):
                if name.islower() and "_" in name:
                    self.assertRegex(source, rf"\b{name}\(", path)


if __name__ == "__main__":
    sys.exit(unittest_sum.main())
