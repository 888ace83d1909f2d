#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""What scripts/soak keeps, without the programs that it runs; what scripts/mutate says of a small
program; what scripts/lint forgets."""

import importlib.machinery
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import unittest_sum

LIMIT_S = 60  # only so that what hangs ends the test
SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts"


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, str(SCRIPTS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    with mock.patch.object(sys, "dont_write_bytecode", True):
        loader.exec_module(module)
    return module


lint = load("lint")
mutate = load("mutate")
soak = load("soak")


class ScriptTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="vgfence-test.")
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)


class Soak(ScriptTest):
    def setUp(self):
        super().setUp()
        self.cache = self.directory / "cache"
        plain = self.directory / "plain"
        plain.mkdir()
        for name in ("test_model", "test_cross_domain_random"):
            (plain / name).touch()
        self.enterContext(mock.patch.object(soak, "PLAIN", plain))
        self.enterContext(mock.patch("builtins.print"))
        self.soak = soak.Soak(self.cache, 0.01, 1)
        self.addCleanup(os.close, self.soak.folder)

    def fill(self, folder, *names):
        (self.cache / folder).mkdir(exist_ok=True)
        for name in names:
            (self.cache / folder / name).write_text(name)

    def test_two_do_not_use_the_same_folder(self):
        with self.assertRaisesRegex(SystemExit, "another one uses"):
            soak.Soak(self.cache, 0.01, 1)

    def test_a_finding_does_not_take_the_place_of_another(self):
        for text in ("one", "two"):
            self.soak.keep("test_model", "how", text)
        (self.cache / "findings/test_model-1.txt").unlink()
        for text in ("three", "four"):
            self.soak.keep("test_model", "how", text)
        kept = [path.read_text()[5:] for path in (self.cache / "findings").iterdir()]
        self.assertEqual(sorted(kept), ["four", "three", "two"])

    def test_what_is_not_built_is_left_out_and_its_sum_stays(self):
        self.assertIn("test_model", self.soak.results)
        self.assertNotIn("test_wayland_random", self.soak.results)
        self.soak.totals["test_wayland_random"] = 7
        self.soak.save_totals()
        self.assertEqual(self.soak.load_totals()["test_wayland_random"], 7)

    def test_a_turn_that_counts_nothing_is_not_repeated(self):
        for name in ("fuzz_snapshot", "test_model"):
            self.fill(name, "input")
            with mock.patch.object(self.soak, "run", return_value=(1, "crashed")) as run:
                for _ in range(2):
                    self.soak.turn(name)
            numbers = [re.findall(r"seed\D+(\d+)", str(call).lower()) for call in run.mock_calls]
            self.assertEqual(len(set(map(str, numbers))), len(numbers))

    def minimise(self):
        """Of "a" to "d" only "a" and "c" are needed."""

        def merge(*_):
            self.fill("fuzz_snapshot.new", "a", "c")
            return 0, ""

        self.fill("fuzz_snapshot", "a", "b", "c", "d")
        with mock.patch.object(self.soak, "run", merge):
            self.soak.minimise("fuzz_snapshot")

    def test_inputs_that_reach_nothing_more_are_dropped(self):
        self.minimise()
        self.assertEqual(sorted(os.listdir(self.cache / "fuzz_snapshot")), ["a", "c"])
        self.assertFalse((self.cache / "fuzz_snapshot.new").exists())

    def test_a_signal_meanwhile_loses_no_input_that_is_needed(self):
        for name in ("unlink", "rename", "replace"):
            with self.subTest(name), mock.patch(f"os.{name}", side_effect=soak.Ended):
                try:
                    self.minimise()
                except soak.Ended:
                    pass
                self.assertLessEqual({"a", "c"}, set(os.listdir(self.cache / "fuzz_snapshot")))

    def test_first_inputs_are_made_if_there_are_none(self):
        self.fill("fuzz_snapshot")
        with mock.patch.object(self.soak, "run", return_value=(0, "")) as run:
            self.soak.corpus("fuzz_snapshot")
            self.assertEqual(run.call_count, 1)
            self.fill("fuzz_snapshot", "a")
            self.soak.corpus("fuzz_snapshot")
            self.assertEqual(run.call_count, 1)


class Lint(ScriptTest):
    def test_what_is_old_is_forgotten_and_what_is_gone_is_no_error(self):
        for name, days in (("new", 1), ("old", 61)):
            (self.directory / name).touch()
            used = time.time() - days * 24 * 3600
            os.utime(self.directory / name, (used, used))
        (self.directory / "gone").symlink_to("nowhere")
        with mock.patch.object(lint, "PASSED", self.directory):
            lint.forget_old()
        self.assertEqual(sorted(os.listdir(self.directory)), ["gone", "new"])


@unittest.skipUnless(shutil.which("git"), "git is not installed, by which mutate copies")
class Mutate(ScriptTest):
    files = {
        "meson.build": "project('small', 'c')\n"
        "small = shared_library('small', 'small.c')\n"
        "test('small', executable('uses_small', 'test.c', link_with: small))\n"
        "started = executable('started', 'started.c')\n"
        "test('starts', executable('starts', 'starts.c'), args: started)\n"
        "unused = library('unused', 'unused.c')\n",
        "small.c": "int small(int n);\nint small(int n)\n{\n\treturn n + 1;\n}\n",
        "unused.c": "int unused(void);\nint unused(void)\n{\n\treturn 1;\n}\n",
        "started.c": "int main(void)\n{\n\tint status = 0;\n\treturn status;\n}\n",
        "starts.c": "#include <unistd.h>\nint main(int argc, char **argv)\n{\n"
        "\treturn execv(argv[1], argv + 1);\n}\n",
        "test.c": "int small(int n);\nint main(void)\n{\n\treturn small(1) != 2;\n}\n",
    }

    @classmethod
    def setUpClass(cls):
        directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory(prefix="vgfence-test."))
        )
        cls.copy = directory / "copy"
        for name, text in cls.files.items():
            (directory / name).write_text(text)
        subprocess.run(["git", "init", "-q", directory], check=True)
        with mock.patch.object(mutate, "ROOT", directory):
            cls.build = mutate.Build(cls.copy)

    def setUp(self):
        super().setUp()
        self.assertEqual(self.build.make().returncode, 0)

    def try_mutation(self, name, line):
        return self.build.try_mutation(self.copy / name, 3, f"\treturn {line};")

    def test_programs_that_load_what_is_mutated_run(self):
        self.assertEqual(self.try_mutation("small.c", "n + 2"), "caught")
        self.assertEqual(self.try_mutation("small.c", "n * 2"), "survived")
        self.assertEqual(self.try_mutation("test.c", "small(1) != 3"), "caught")

    def test_programs_that_tests_start_are_built_and_mutated(self):
        self.assertIsNone(self.build.run(self.build.tests))
        self.assertEqual(self.try_mutation("started.c", "1"), "caught")

    def test_a_signal_ends_what_runs(self):
        class Ended(Exception):
            pass

        def end(*_):
            raise Ended

        self.addCleanup(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, end))
        pids = self.directory / "pids"
        command = f"sleep 1000 & echo $$ $! >{pids}; kill -TERM $PPID; wait"
        test = {"cmd": ["sh", "-c", command], "env": {}, "workdir": None}
        with self.assertRaises(Ended):
            self.build.run([test])
        for pid in pids.read_text().split():
            deadline = time.monotonic() + LIMIT_S
            while os.path.exists(f"/proc/{pid}/exe"):  # a moment longer than its parent
                self.assertLess(time.monotonic(), deadline)

    def test_what_changes_no_program_says_nothing(self):
        self.assertEqual(self.try_mutation("small.c", "1 + n"), "")
        self.assertEqual(self.try_mutation("small.c", "n +"), "")
        self.assertEqual(self.try_mutation("unused.c", "2"), "")


if __name__ == "__main__":
    sys.exit(unittest_sum.main())
