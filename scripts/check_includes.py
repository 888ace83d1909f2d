#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Checks that includes point one way.

docs/architecture.md says the order. Its table of folders has, for each, the folders whose headers
it may include: only folders further up. Its tables of files (their first heading names the folder)
go the other way: a file includes only headers of files further down, and its own. A header is where
its .c file is, or has a row of its own.

What is checked are the includes in the sources, and the files and folders of others that a
meson.build names. Headers of one folder may not include each other in a circle, whether it has a
table or not.

usage: check_includes.py [--self-test]
"""

import fnmatch
import itertools
import pathlib
import re
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent
DOCUMENT = "docs/architecture.md"
PUBLIC = "include"  # whose headers are included as <vgfence/...>


# ---- What the document says --------------------------------------------------------------------


def rows_below(lines, start):
    """The cells of a table's rows, whose heading is in the line `start`."""
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def names_in(cell):
    return [name.rstrip("/") for name in re.findall(r"`([^`]+)`", cell)]


class Order:
    """The folders, what each may include, and the files of each from top to bottom."""

    def __init__(self, text):
        self.allowed = {}
        self.files = {}
        lines = text.split("\n")
        for number, line in enumerate(lines):
            if line.startswith("| folder |"):
                for row in rows_below(lines, number):
                    self.add_folder(row)
            match = re.match(r"\| file of `([^`]+)/` \|", line)
            if match:
                rows = rows_below(lines, number)
                self.files[match.group(1)] = [name for row in rows for name in names_in(row[0])]

    def add_folder(self, row):
        (folder,) = names_in(row[0])
        named = names_in(row[2]) if len(row) > 2 else []
        if len(row) > 2 and row[2].startswith("all but"):
            named = [other for other in self.allowed if other not in named]
        self.allowed[folder] = named

    def folder_of(self, path):
        """The folder that a file belongs to, or None."""
        for parent in pathlib.PurePosixPath(path).parents:
            if str(parent) in self.allowed:
                return str(parent)
        return None

    def place(self, folder, name):
        """How far down a file is in its folder's table; None without a row."""
        for pattern in (name, re.sub(r"\.h$", ".c", name)):
            for place, row in enumerate(self.files[folder]):
                if fnmatch.fnmatch(pattern, row):
                    return place
        return None

    def contradictions(self):
        above = set()
        for folder, named in self.allowed.items():
            for other in named:
                if other not in above:
                    yield f"{DOCUMENT}: {folder}/ includes {other}/, which is not further up"
            above.add(folder)
        for folder in self.files:
            if folder not in self.allowed:
                yield f"{DOCUMENT}: a table of {folder}/, which is not among the folders"


# ---- What the sources say ----------------------------------------------------------------------


class Sources:
    def __init__(self, top, order):
        self.top = top
        self.order = order
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=top,
            check=True,
            capture_output=True,
            text=True,
        )
        self.all = [name for name in listed.stdout.split("\n") if (top / name).is_file()]
        self.paths = [name for name in self.all if re.search(r"\.[ch]$", name)]
        self.headers = {}
        for path in self.paths:
            if path.endswith(".h"):
                self.headers.setdefault(pathlib.PurePosixPath(path).name, []).append(path)

    def read(self, path):
        return (self.top / path).read_text(encoding="utf-8")

    def resolve(self, path, name):
        """The headers of ours that an include may mean: the one beside the file, else by their name
        those of the folders that it may use, else any."""
        parent = pathlib.PurePosixPath(path).parent
        beside = (self.top / parent / name).resolve()
        if beside.is_file() and beside.is_relative_to(self.top.resolve()):
            return [str(beside.relative_to(self.top.resolve()))]
        if f"{PUBLIC}/{name}" in self.paths:
            return [f"{PUBLIC}/{name}"]
        private = [
            header
            for header in self.headers.get(pathlib.PurePosixPath(name).name, [])
            if not header.startswith(f"{PUBLIC}/") and header.endswith(name.split("../")[-1])
        ]
        folder = self.order.folder_of(path)
        near = [folder, *self.order.allowed[folder]]
        return [header for header in private if self.order.folder_of(header) in near] or private

    def includes(self, path):
        """(line number, headers, name) of each include of a header that is or should be ours."""
        include = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
        for number, line in enumerate(self.read(path).split("\n"), 1):
            match = include.match(line)
            if match is None:
                continue
            name = match.group(1) or match.group(2)
            headers = self.resolve(path, name)
            if headers or match.group(1):
                yield number, headers, name

    def named_by_meson(self, path):
        """(line number, path) of what a meson.build names in other folders."""
        parent = (self.top / path).parent
        for number, line in enumerate(self.read(path).split("\n"), 1):
            for name in re.findall(r"'(\.\./[^']*|\.\.)'", line):
                target = (parent / name).resolve()
                if target.is_dir() or target.suffix in (".c", ".h"):
                    yield number, str(target.relative_to(self.top.resolve()))


# ---- The check ---------------------------------------------------------------------------------


class Check:
    def __init__(self, top):
        self.order = Order((top / DOCUMENT).read_text(encoding="utf-8"))
        self.sources = Sources(top, self.order)
        self.complaints = list(self.order.contradictions())
        self.checked = 0
        self.below = {}  # header: those of its folder that it includes

    def complain(self, path, number, what):
        self.complaints.append(f"{path}:{number}: {what}")

    def check_folders(self, path, number, folder, target):
        """Whether a file of the folder may use the target, a file or a folder."""
        other = self.order.folder_of(f"{target}/x") if "." not in target else None
        other = other or self.order.folder_of(target)
        if other not in (folder, *self.order.allowed[folder]):
            self.complain(path, number, f"{folder}/ may not use {target}")

    def check_files(self, path, number, folder, header):
        """Whether a file may include a header of its own folder."""
        name, other = (pathlib.PurePosixPath(file).name for file in (path, header))
        if path.endswith(".h"):
            self.below.setdefault(path, []).append((number, header))
        if folder not in self.order.files or name.replace(".c", ".h") == other:
            return
        place, below = (self.order.place(folder, file) for file in (name, other))
        if place is not None and below is not None and below <= place:
            self.complain(path, number, f"{other} is not below {name} in {DOCUMENT}")

    def check_source(self, path):
        folder = self.order.folder_of(path)
        if folder is None:
            self.complain(path, 1, f"its folder is not in {DOCUMENT}")
            return
        for number, headers, name in self.sources.includes(path):
            self.checked += 1
            if not headers:
                self.complain(path, number, f"there is no {name}")
            elif len(headers) > 1:
                self.complain(path, number, f"{name} may be {' or '.join(headers)}")
            elif self.order.folder_of(headers[0]) == folder:
                self.check_files(path, number, folder, headers[0])
            else:
                self.check_folders(path, number, folder, headers[0])

    def check_meson(self, path):
        folder = self.order.folder_of(path)
        if folder is not None:
            for number, target in self.sources.named_by_meson(path):
                self.check_folders(path, number, folder, target)

    def check_rows(self):
        """Each file has a row, and each row a file."""
        for folder, rows in self.order.files.items():
            names = [
                pathlib.PurePosixPath(path).name
                for path in self.sources.paths
                if self.order.folder_of(path) == folder
            ]
            for name in names:
                if self.order.place(folder, name) is None:
                    self.complain(f"{folder}/{name}", 1, f"has no row in {DOCUMENT}")
            for row in rows:
                if not fnmatch.filter(names, row):
                    self.complaints.append(f"{DOCUMENT}: there is no {folder}/{row}")

    def check_circles(self):
        """Include guards hide a circle from the compiler."""
        done = set()

        def visit(header, way):
            if header in way:
                circle = " -> ".join([*way[way.index(header) :], header])
                self.complaints.append(f"headers include each other: {circle}")
            elif header not in done:
                for _, other in self.below.get(header, []):
                    visit(other, [*way, header])
                done.add(header)

        for header in sorted(self.below):
            visit(header, [])

    def run(self):
        for path in self.sources.paths:
            self.check_source(path)
        for path in self.sources.all:
            if pathlib.PurePosixPath(path).name == "meson.build":
                self.check_meson(path)
        self.check_rows()
        self.check_circles()
        return self.complaints


# ---- Self-test ---------------------------------------------------------------------------------

GOOD = {
    DOCUMENT: """
| folder | what it is | may include |
| --- | --- | --- |
| `include/` | public | |
| `low/` | below | `include/` |
| `low/plugin/` | beside it | `include/` |
| `high/` | above | `include/`, `low/` |
| `tests/` | all | all but `high/` |

| file of `high/` | its job |
| --- | --- |
| `main.c` | top |
| `part_*.c` | middle |
| `state.h` | what they share |
| `list.c`, `leaf.c` | bottom |
""",
    "include/vgfence/core.h": "",
    "low/meson.build": "include_directories('../include')\n",
    "low/low.c": "#include <vgfence/core.h>\n#include <stdio.h>\n",
    "low/low.h": "",
    "low/other.h": '#include "low.h"\n',
    "low/plugin/plugin.h": "",
    "low/plugin/plugin.c": '#include "plugin.h"\n',
    "high/main.c": '#include "low.h"\n#include "state.h"\n#include "list.h"\n',
    "high/part_a.c": '#include "state.h"\n',
    "high/state.h": '#include "list.h"\n',
    "high/list.c": '#include "list.h"\n#include "leaf.h"\n',
    "high/list.h": "",
    "high/leaf.h": "",
    "high/leaf.c": "",
    "tests/meson.build": "files('../low/low.c')\n",
    "tests/test.c": '#include "other.h"\n#include "plugin.h"\n',
}

# A file, what is added to it, and what must be said of that.
BAD = (
    ("low/low.c", '#include "state.h"', "low/ may not use high/state.h"),
    ("low/low.c", "  #  include <state.h>", "low/ may not use high/state.h"),
    ("low/low.h", '#include "../high/state.h"', "low/ may not use high/state.h"),
    ("low/plugin/plugin.c", '#include "low.h"', "low/plugin/ may not use low/low.h"),
    ("low/plugin/plugin.c", '#include "../low.h"', "low/plugin/ may not use low/low.h"),
    ("low/low.c", '#include "plugin.h"', "low/ may not use low/plugin/plugin.h"),
    ("low/low.c", '#include "nothing.h"', "there is no nothing.h"),
    ("include/vgfence/core.h", '#include "low.h"', "include/ may not use low/low.h"),
    ("low/meson.build", "files('../high/list.c')", "low/ may not use high/list.c"),
    ("low/meson.build", "include_directories('../high')", "low/ may not use high"),
    ("low/plugin/meson.build", "include_directories('..')", "low/plugin/ may not use low"),
    ("low/low.h", '#include "other.h"', "headers include each other"),
    ("high/list.h", '#include "state.h"', "state.h is not below list.h"),
    ("high/leaf.c", '#include "list.h"', "list.h is not below leaf.c"),
    ("high/part_a.c", '#include "main.h"', "main.h is not below part_a.c"),
    ("high/new.c", "", "has no row"),
    ("low/plugin/other.h", "", "other.h may be low/other.h or low/plugin/other.h"),
    ("tests/test.c", '#include "state.h"', "tests/ may not use high/state.h"),
    ("elsewhere/new.c", "", "its folder is not in"),
    (DOCUMENT, "\n| file of `high/` |\n| --- |\n| `nothing.c` |\n| `*` |", "no high/nothing.c"),
    (DOCUMENT, "\n| folder | |\n| --- | --- | --- |\n| `low/` | | `late/` |", "not further up"),
    (DOCUMENT, "\n| file of `late/` |\n| --- |", "not among the folders"),
)


def complaints_of(files):
    with tempfile.TemporaryDirectory(prefix="vgfence-") as directory:
        top = pathlib.Path(directory)
        subprocess.run(["git", "init", "-q", top], check=True)
        for name, text in files.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text, encoding="utf-8")
        return Check(top).run()


def self_test():
    good = {**GOOD, "high/main.h": ""}
    failures = [f"nothing is wrong, but: {complaint}" for complaint in complaints_of(good)]
    for name, line, expected in BAD:
        complaints = complaints_of({**good, name: good.get(name, "") + line + "\n"})
        if not any(expected in complaint for complaint in complaints):
            failures.append(f"{name}, {line!r}: not '{expected}' but {complaints}")
    print("\n".join(failures) or f"self-test: {len(BAD)} mistakes noticed")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if arguments:
        print(__doc__)
        return 0 if arguments == ["--help"] else 2
    check = Check(TOP)
    for complaint in check.run():
        print(complaint)
    tables = len(list(itertools.chain(*check.order.files.values())))
    print(f"{check.checked} includes, {len(check.order.allowed)} folders, {tables} rows of files")
    return 1 if check.complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
