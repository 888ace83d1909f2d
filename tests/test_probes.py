#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""The library's USDT probes, by its notes: test_probes.py LIBRARY SCRIPT"""

import re
import shutil
import subprocess
import sys
import unittest

import unittest_sum

LIBRARY = SCRIPT = ""
PROBES = {"accept", "hold", "run", "signal", "retire", "stall", "refuse"}


class Probes(unittest.TestCase):
    def test_each_has_its_name_and_four_arguments(self):
        if shutil.which("readelf") is None:
            self.skipTest("readelf (binutils) is not installed")
        notes = subprocess.run(["readelf", "-n", LIBRARY], capture_output=True, text=True,
                               check=True).stdout
        found = re.findall(r"Provider: vgfence\n\s*Name: (\w+)\n.*\n\s*Arguments: (.*)", notes)
        self.assertEqual({name for name, _ in found}, PROBES)
        for name, arguments in found:
            sizes = re.findall(r"(?:^| )(-?\d)@", arguments)
            self.assertEqual(len(sizes), 4, name)
            self.assertEqual((sizes[0], sizes[1], sizes[2]), ("4", "-4", "8"), name)

    def test_the_script_uses_no_other(self):
        with open(SCRIPT, encoding="utf-8") as file:
            used = set(re.findall(r"^usdt:\*:vgfence:(\w+)", file.read(), re.MULTILINE))
        self.assertEqual(used, PROBES - {"signal"})


def main():
    global LIBRARY, SCRIPT
    LIBRARY = sys.argv.pop(1)
    SCRIPT = sys.argv.pop(1)
    return unittest_sum.main()


if __name__ == "__main__":
    sys.exit(main())
