#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Finds lines that are too wide: over 100 columns in code, comments included, over 104 in
documents.

Tabs have 8 columns. clang-format breaks code, but neither comments nor strings. Of documents,
tables and blocks of code are left alone, and of code a word that would be too wide on a line of its
own.

usage: check_columns.py [--self-test]
"""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
CODE_COLUMNS = 100
DOCUMENT_COLUMNS = 104
CODE = re.compile(r"\.(c|h|py|rs|sh)$|(^|/)meson\.build$|(^|/)meson_options\.txt$")


def is_code(name, text):
    """By its name, or a script by its first line."""
    return CODE.search(name) is not None or text.startswith("#!")


def width(line):
    return len(line.expandtabs(8))


def wide_code(text):
    for number, line in enumerate(text.split("\n"), 1):
        one_word = len(line.split()) == 1
        if width(line) > CODE_COLUMNS and not one_word:
            yield number, width(line)


def wide_document(text):
    in_block = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            in_block = not in_block
        elif (
            not in_block and not line.startswith(("|", "    ")) and width(line) > DOCUMENT_COLUMNS
        ):
            yield number, width(line)


def wide_lines(name, text):
    if name.endswith(".md"):
        return list(wide_document(text))
    return list(wide_code(text)) if is_code(name, text) else []


def self_test():
    wide = "word " * 20 + "x"  # 101 columns
    documents = f"{wide}\n| {wide} {wide} |\n```\n{wide} {wide}\n```\n    {wide}\n{wide} xxxx"
    expected = {
        ("a.c", wide): [(1, 101)],
        ("a.c", wide[1:]): [],
        ("a.c", "\t" + wide[8:]): [(1, 101)],
        ("a.c", "\t" + wide[9:]): [],
        ("a.h", f"\n{wide}"): [(2, 101)],
        ("a.py", "x" * 200): [],
        ("b/meson.build", wide): [(1, 101)],
        ("script", f"#!/bin/bash\n{wide}"): [(2, 101)],
        ("data", wide): [],
        ("a.md", documents): [(7, 106)],
    }
    failures = [
        f"{name}: {wide_lines(name, text)}, not {lines}"
        for (name, text), lines in expected.items()
        if wide_lines(name, text) != lines
    ]
    print("\n".join(failures) or f"self-test: {len(expected)} texts")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if arguments:
        print(__doc__)
        return 0 if arguments == ["--help"] else 2
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=TOP,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    count = 0
    for name in names:
        path = TOP / name
        if path.is_file() and not path.is_symlink():
            for number, columns in wide_lines(name, path.read_text("utf-8", errors="replace")):
                print(f"{name}:{number}: {columns} columns")
                count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
