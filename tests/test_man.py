#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""The man pages and the completion say what the program and the headers say, and all of it.

usage: test_man.py VGFENCE DIRECTORY_OF_PAGES
"""

import collections
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "man"))
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import roff  # noqa: E402
import unittest_sum  # noqa: E402

LIMIT_S = 60  # only so that what hangs ends the test
PROGRAM, PAGES = None, None
MARKS = re.compile(r"/\*|\*/|\*|-+")


def ask(*arguments):
    return subprocess.run(
        [PROGRAM, *arguments, "--help"], check=True, capture_output=True, text=True,
        timeout=LIMIT_S,
    ).stdout


def commands():
    return re.findall(r"^  ([a-z]+) ", ask(), re.MULTILINE)


def options(command):
    return set(re.findall(r"--[a-z][a-z-]*[a-z]", ask(command).replace("(--help for more)", "")))


def page(name):
    return (PAGES / name).read_text(encoding="utf-8")


def words(text):
    text = re.sub(r"`", "", text)
    return collections.Counter(word for word in text.split() if not MARKS.fullmatch(word))


def said(text):
    """What a page says between its name and its links."""
    text = text[text.index(".SH SYNOPSIS") : text.index(".SH SEE ALSO")]
    return words(" ".join(roff.plain(re.sub(r"^\.SH .*$", "", text, flags=re.MULTILINE))))


def helped(text):
    return words(re.sub(r"^usage:|\(--help for more\)", "", text, flags=re.MULTILINE))


def names(text):
    line = text[text.index(".SH NAME") :].split("\n")[1]
    return " ".join(roff.plain(line)).split(" - ")[0].split(", ")


def headers():
    """With a page each: without virglrenderer there is no virgl.h."""
    for header in sorted(TOP.glob("include/vgfence/*.h")):
        name = header.name if header.name == "vgfence.h" else f"vgfence_{header.name}"
        if header.name != "virgl.h" or (PAGES / f"{name}.3").exists():
            yield header, page(f"{name}.3")


def declared(text):
    """A header without its frame, what is declared elsewhere, and how an inline function works."""
    text = re.sub(r"\)\n\{\n.*?\n\}$", ");", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r'^(#(ifn?def|endif|include).*|#define \w+_H|extern "C" \{|\})$', "", text,
                  flags=re.MULTILINE)
    return re.sub(r"^/\*.*(SPDX|Copyright).*$|^struct \w+;$", "", text, flags=re.MULTILINE)


def public_functions():
    lists = [TOP / "src/vgfence.symbols", TOP / "src/syncobj.symbols"]
    if (PAGES / "vgfence_virgl.h.3").exists():
        lists.append(TOP / "src/virgl/virgl.symbols")
    found = {name for path in lists for name in path.read_text().split()}
    for header in TOP.glob("include/vgfence/*.h"):
        found |= set(re.findall(r"^static inline [\w ]*\b(vgf_\w+)\(", header.read_text(),
                                re.MULTILINE))
    return found


def complete(*line):
    """What bash offers for the last of these words."""
    script = f"source {PAGES}/vgfence; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _vgfence;"
    result = subprocess.run(
        ["bash", "-c", script + 'printf "%s\\n" "${COMPREPLY[@]}"', "bash", *line],
        check=True, capture_output=True, text=True, timeout=LIMIT_S,
    )
    return set(result.stdout.split())


class Commands(unittest.TestCase):
    def test_each_command_has_a_page(self):
        pages = {path.stem.removeprefix("vgfence-") for path in PAGES.glob("vgfence-*.1")}
        self.assertEqual(pages, set(commands()))

    def test_a_page_says_what_help_says(self):
        self.assertEqual(said(page("vgfence.1")), helped(ask()))
        for command in commands():
            with self.subTest(command):
                self.assertEqual(said(page(f"vgfence-{command}.1")), helped(ask(command)))

    def test_each_option_has_its_place_in_the_page(self):
        for command in commands():
            terms = re.findall(r"^\.TP\n(.*)$", page(f"vgfence-{command}.1"), re.MULTILINE)
            listed = " ".join(" ".join(roff.plain(term)) for term in terms)
            for option in options(command):
                with self.subTest(command, option=option):
                    self.assertRegex(listed, rf"{option}(?![a-z-])")


class Completion(unittest.TestCase):
    def test_commands(self):
        self.assertEqual(complete("vgfence", ""), {*commands(), "--help", "--version"})
        self.assertEqual(complete("vgfence", "de"), {"demo"})

    def test_each_option(self):
        for command in commands():
            with self.subTest(command):
                offered = {word.rstrip("=") for word in complete("vgfence", command, "--")}
                self.assertEqual(offered, options(command) | {"--help"})

    def test_the_gpu_by_its_own_name(self):
        self.assertEqual(complete("/usr/bin/vgfence-gpu", "--"), complete("vgfence", "gpu", "--"))

    def test_values(self):
        self.assertEqual(complete("vgfence", "gpu", "--renderer", "="), {"soft", "virgl"})
        self.assertEqual(complete("vgfence", "replay", "--pace", "=", "as"), {"asap"})
        self.assertEqual(complete("vgfence", "gpu", "--record", "=", "x"), set())


class Headers(unittest.TestCase):
    def test_each_function_is_in_one_page(self):
        found = collections.Counter(name for _, text in headers() for name in names(text)[1:])
        missing = public_functions() - set(found)
        self.assertEqual(missing, set())
        self.assertEqual([name for name, count in found.items() if count > 1], [])

    def test_a_page_says_what_its_header_says(self):
        for header, text in headers():
            with self.subTest(header.name):
                missing = words(declared(header.read_text(encoding="utf-8"))) - said(text)
                self.assertEqual(missing, collections.Counter())


class Rendering(unittest.TestCase):
    def render(self, command, fine):
        if not shutil.which(command[0]):
            self.skipTest(f"{command[0]} is not installed")
        for path in sorted(PAGES.glob("*.[13]")):
            with self.subTest(path.name):
                result = subprocess.run(
                    [*command, str(path)], capture_output=True, text=True, timeout=LIMIT_S,
                    check=False,
                )
                lines = result.stderr.splitlines()
                if fine:
                    lines += result.stdout.splitlines()
                    lines = [line for line in lines if fine not in line]
                self.assertEqual(lines, [])

    def test_man_warns_of_nothing(self):
        self.render(["man", "--warnings", "-E", "UTF-8", "-l"], "")

    # A date would make each build another.
    def test_mandoc_warns_of_nothing_but_the_date(self):
        self.render(["mandoc", "-T", "lint", "-W", "warning"], "missing date")


if __name__ == "__main__":
    PROGRAM, PAGES = sys.argv[1], pathlib.Path(sys.argv[2])
    sys.exit(unittest_sum.main(argv=sys.argv[:1]))
