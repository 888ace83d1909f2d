#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Checks the documents against what is there.

- A command line of ours (./run, vgfence, scripts/..., meson test) names a command that exists, with
  options that it takes. The program is asked itself: with the options of the document, and --help
  or --try, so that it does no more.
- A link leads to a file, and to a heading in it.
- A path of the repository in `code` exists, and so does a header.
- A name that begins with vgf_ or VGF_ is one of the public headers, or a variable of the tests.
- What the README shows of C is in examples/vmm.c, line by line and in order.
- What docs/integrating-*.md show is what is marked as new in sources that are built and tested, all
  of it, and as many lines as they say.
- Each MUST of docs/specification.md has a name, each name a row in its table of tests, and each
  test of a row is in tests/.
- A table has a row of dashes below its head, and each of its rows as many cells.
- Each cell of the table of who is killed in docs/testing.md has tests that exist, or a reason that
  stands below it.
- The tests of a suite that docs/testing.md names are those of tests/meson.build.
- The system calls in the table of docs/sandbox.md are those of gpu/sandbox/sandbox.c.

usage: check_docs.py [--self-test] [BUILD_DIRECTORY]    (default: build/plain)
"""

import functools
import glob
import itertools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent
PATTERNS = ("*.md", "bindings/**/*.md", "docs/*.md", "tests/**/*.md")
LIMIT_S = 60  # only so that a program that hangs ends the check
FOLDERS = (
    "base|bench|bindings|debian|docs|examples|gpu|include|input|man|scripts|soft|src|tests|tools|"
    "vhost"
)
OPERATORS = set("&|;<>()")
# A command of ours: at the beginning, behind an operator or a variable, or given to another to run.
OURS = re.compile(
    r"(^|[;&|] *|^[A-Z_]+=\S+ |-c ')(\./run|vgfence(-guest)?( |$)|scripts/|build/|meson )"
)
# What ./run starts for these commands, which can say whether their arguments are right; and those
# that take a command.
SCRIPTS = ("compare", "console", "demo", "flips", "frames", "gain", "guest", "guest-module",
           "in-place", "mutate", "rust-bindings", "soak", "vm", "wayland")
ONLY_TRY = ("compare", "console", "demo", "flips", "frames", "gain", "guest", "guest-module",
            "in-place", "soak", "vm", "wayland")
RUN_COMMANDS = ("guest", "qemu", "vm")
ALIASES = {"qemu": "guest"}  # commands of ./run that another one's script does
ELLIPSIS = "…"
EXAMPLE = "examples/vmm.c"  # the program that the README shows a part of
# What they show: a language, and where it is built.
INTEGRATIONS = {
    "docs/integrating-crosvm.md": ("rust", "bindings/rust/crosvm/src/virgl_renderer.rs"),
    "docs/integrating-qemu.md": ("c", "tests/integration/qemu.c"),
}
SPECIFICATION = "docs/specification.md"
RULE = r"[DG]-[A-Z]+"  # of the device, of the guest's driver


KILLS = ("docs/testing.md", "Who is killed, and when")
SUITES = ("docs/testing.md", "What runs where")
SANDBOX = ("docs/sandbox.md", "gpu/sandbox/sandbox.c")


class Wrong(Exception):
    """What is wrong with a command line."""


# ---- What is in a document ---------------------------------------------------------------------


def without_fences(text):
    """The text with its fenced blocks empty, and these as (line number, language, lines)."""
    outside, blocks, block = [], [], None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            if block is None:
                block = (number + 1, line[3:], [])
                blocks.append(block)
            else:
                block = None
            outside.append("")
        elif block is not None:
            block[2].append(line)
            outside.append("")
        else:
            outside.append(line)
    return "\n".join(outside), blocks


def indented_blocks(text):
    """Lines that are indented by four are code."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("    "):
            yield number, line[4:]


def join_continued(lines):
    """(number, line) pairs; a line that ends in a backslash goes on in the next."""
    start, joined = None, ""
    for number, line in lines:
        start = number if start is None else start
        joined += line
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        yield start, joined
        start, joined = None, ""


def code_spans(text):
    """`code`, which may go on in the next line."""
    for match in re.finditer(r"`([^`]+)`", text):
        yield text.count("\n", 0, match.start()) + 1, re.sub(r"\s+", " ", match.group(1))


def command_lines(text):
    outside, blocks = without_fences(text)
    for number, language, lines in blocks:
        if language in ("", "sh"):
            yield from join_continued(enumerate(lines, number))
    yield from join_continued(indented_blocks(outside))
    yield from code_spans(outside)


def split(line):
    """The simple commands of a command line, each as its words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>()")
    lexer.whitespace_split = True
    commands, words = [], []
    for word in lexer:
        if set(word) <= OPERATORS:
            commands.append(words)
            words = []
        else:
            words.append(word)
    commands.append(words)
    return [words for words in map(plain_words, commands) if words]


def plain_words(words):
    """Without variables that are set in front, and without what is left out."""
    words = [word.replace(ELLIPSIS, "") for word in words if word not in (ELLIPSIS, "...")]
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


# ---- Programs ----------------------------------------------------------------------------------


class Programs:
    """What can be typed in a checkout. Programs are asked only once for their help."""

    def __init__(self, build):
        self.build = pathlib.Path(build).resolve()
        self.helps = {}
        self.others = set()
        self.checked = 0
        tests = subprocess.run(
            ["meson", "introspect", "--tests", self.build], check=True, capture_output=True
        )
        text = (TOP / "tests/meson.build").read_text()
        self.tests_of_suites = {}
        for test in json.loads(tests.stdout):
            for suite in test["suite"]:
                suite = suite.partition(":")[2]
                self.tests_of_suites.setdefault(suite, set()).add(test["name"])
        # Also those of optional parts, which this build may not have.
        self.tests = {test["name"] for test in json.loads(tests.stdout)}
        self.tests |= set(re.findall(r"'(\w+)'", text))
        self.suites = set(re.findall(r"suite: '(\w+)'", text))

    def ask(self, arguments, directory=TOP):
        result = subprocess.run(
            arguments,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return result.returncode, result.stdout

    def help(self, *command):
        if command not in self.helps:
            status, text = self.ask([*command, "--help"])
            if status != 0:
                raise Wrong(f"{' '.join(command)} --help ends with {status}: {text.strip()}")
            self.helps[command] = text
        return self.helps[command]

    def accept(self, command, directory=TOP):
        status, text = self.ask(command, directory)
        if status != 0:
            raise Wrong(text.strip().split("\n")[0])

    # ---- One command

    def check(self, words):
        """Raises Wrong. Other programs than ours are taken as they are."""
        name = words[0]
        if name == "./run":
            self.check_run(words[1:])
        elif name == "vgfence":
            self.check_vgfence(words[1:])
        elif name == "vgfence-guest":
            self.check_guest_program(words[1:])
        elif name.startswith("scripts/"):
            self.check_script(name, words[1:])
        elif name.startswith("build/"):
            self.check_built(name)
        elif name == "meson":
            self.check_meson(words[1:])
        elif name == "sh" and words[1:2] == ["-c"]:
            for inner in split(" ".join(words[2:])):
                self.check(inner)
            return
        else:
            self.others.add(name)
            return
        self.checked += 1

    def check_run(self, words):
        if not words:
            return
        name = words[0]
        if not re.search(rf"^\./run {re.escape(name)}\b", self.help("./run"), re.MULTILINE):
            raise Wrong(f"./run has no command '{name}'")
        if name == "vgfence":
            self.check_vgfence(words[1:])
        elif name in ALIASES or name in SCRIPTS:
            self.check_script(f"scripts/{ALIASES.get(name, name)}", words[1:])
        elif any(word.startswith("-") and word not in self.help("./run") for word in words[1:]):
            raise Wrong(f"./run {name} does not take these options")
        elif name == "test":
            self.check_parts([word for word in words[1:] if not word.startswith("-")])

    def check_parts(self, parts):
        text = (TOP / "scripts/test.sh").read_text()
        known = re.search(r"^groups=\((.*?)^\)", text, re.M | re.S)
        for part in parts:
            if part not in re.findall(r"\w+", known.group(1)) and not is_placeholder(part):
                raise Wrong(f"./run test has no part '{part}'")

    def check_vgfence(self, words):
        """An option at the end, whose value is left out, is only named: it cannot take --help for
        that."""
        program = str(self.build / "tools/vgfence")
        if len(words) > 1 and re.search(rf"{words[-1]}=", self.help(program, words[0])):
            words = words[:-1]
        self.accept([program, *words, "--help"])

    def check_guest_program(self, words):
        program = str(self.build / "tests/guest/vgfence-guest")
        self.accept([program, *words, "--help"])
        for word in words:
            if re.fullmatch(r"[a-z]+", word) and not re.search(rf"\b{word}\b", self.help(program)):
                raise Wrong(f"vgfence-guest has no '{word}'")

    def check_script(self, name, words):
        path = TOP / name
        if not words and name.rstrip("/") != name or has_placeholder(name):
            return  # a path, which is checked as such
        if not path.is_file():
            raise Wrong(f"there is no {name}")
        if not words:
            return
        if pathlib.Path(name).name not in SCRIPTS:
            raise Wrong(f"{name} has no --help that could be asked")
        own, inner = split_own(words, self.help(name))
        with tempfile.TemporaryDirectory() as directory:
            make_builds(directory, own)
            if path.name in ONLY_TRY:
                self.accept([str(path), "--try", *own, *inner], directory)
            else:
                self.accept([str(path), *own, "--help"], directory)
        if path.name in RUN_COMMANDS and inner and not is_placeholder(inner[0]):
            self.check(inner)

    def check_built(self, name):
        """A program of the build, which this one may have under another name. Other folders are
        made as needed."""
        if not re.search(r"/(tests|tools)/\w", name):
            return
        path = self.build / name.removeprefix("build/plain/")
        if not path.is_file() and path.name.removeprefix("test_") not in self.tests:
            raise Wrong(f"{name} is not built")

    def check_meson(self, words):
        if words[:1] != ["test"]:
            return
        words, suites, names = words[1:], [], []
        while words:
            word, words = words[0], words[1:]
            if word in ("-C", "--suite", "--no-suite"):
                if not words:
                    raise Wrong(f"{word} needs a value")
                value, words = words[0], words[1:]
                suites += [value] if word != "-C" else []
            elif not word.startswith("-"):
                names.append(word)
        for name in names:
            if name not in self.tests and not is_placeholder(name):
                raise Wrong(f"there is no test '{name}'")
        for suite in set(suites) - self.suites:
            raise Wrong(f"there is no suite '{suite}'")

    # ---- Synopses, as --help prints them

    def check_synopsis(self, line):
        """Has every option that it shows?"""
        words = line.split()
        if words[0] == "./run" and words[1:2] and words[1] in SCRIPTS:
            name = f"scripts/{words[1]}"
        else:
            name = words[0]
        if not (TOP / name).is_file():
            raise Wrong(f"there is no {name}")
        for option in re.findall(r"--[a-z-]+", line.split("#")[0]):
            if not re.search(rf"{option}(?![a-z-])", self.help(name)):
                raise Wrong(f"{name} has no {option}")
        self.checked += 1


def is_placeholder(word):
    return re.fullmatch(r"[A-Z]+", word) is not None


def has_placeholder(name):
    return re.search(r"[A-Z]{2}", name) is not None


def is_ours(line):
    return re.match(r"(\./run|scripts/[\w-]+)( |$)", line) is not None


def takes_value(text, option):
    """By a program's help, whose descriptions are two spaces or more to the right."""
    return re.search(rf"^ +{re.escape(option)} \S+(  |$)", text, re.MULTILINE) is not None


def split_own(words, text):
    """The options of a script, and the command that it is to run."""
    own = []
    while words and words[0].startswith("-"):
        word, words = words[0], words[1:]
        if word == "--":
            break
        own.append(word)
        if "=" not in word and words and takes_value(text, word):
            own.append(words[0])
            words = words[1:]
    return own, words


def make_builds(directory, own):
    """--build names a directory that exists."""
    for option, value in zip(own, own[1:]):
        if option == "--build" and not os.path.isabs(value):
            os.makedirs(os.path.join(directory, value), exist_ok=True)


# ---- Links and paths ---------------------------------------------------------------------------


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(text):
    outside, _ = without_fences(text)
    return {anchor(match) for match in re.findall(r"^#+ (.*)$", outside, re.MULTILINE)}


def check_link(document, text, target):
    path, _, heading = target.partition("#")
    if path:
        file = document.parent / path
        if not file.exists():
            raise Wrong(f"the link {target} leads nowhere")
        text = file.read_text(encoding="utf-8") if heading else ""
    if heading and heading not in anchors(text):
        raise Wrong(f"{path or document.name} has no heading #{heading}")


def check_path(name):
    if not glob.glob(str(TOP / name)):
        raise Wrong(f"there is no {name}")


@functools.cache
def public_names():
    headers = "".join(path.read_text() for path in TOP.glob("include/vgfence/*.h"))
    programs = [*TOP.glob("tests/*.*"), *TOP.glob("tests/guest/*.*")]
    tests = "".join(path.read_text() for path in programs)
    names = re.findall(r"\b(?:vgf|VGF)_\w+", headers)
    return set(names + re.findall(r"\bVGF_TEST_\w+", tests))


def check_excerpt(lines):
    example = iter((TOP / EXAMPLE).read_text(encoding="utf-8").split("\n"))
    for line in lines:
        if line not in example:
            raise Wrong(f"not in {EXAMPLE}, or not in this order")


def new_lines(source):
    """Those between the marks. Indentation and empty lines do not count."""
    is_new = False
    for line in source.split("\n"):
        mark = re.fullmatch(r"\s*(?:/\*|//) (vgfence|end)(?: \*/)?", line)
        if mark:
            is_new = mark.group(1) == "vgfence"
        elif is_new and line.strip():
            yield line.strip()


def check_integration(text, language, source):
    blocks = [lines for _, of, lines in without_fences(text)[1] if of == language]
    shown = [line.strip() for lines in blocks for line in lines if line.strip()]
    new = list(new_lines(source))
    for here, there in itertools.zip_longest(shown, new):
        if here != there:
            raise Wrong(f"shown is '{here}', built is '{there}'")
    if f"**{len(new)} lines**" not in text:
        raise Wrong(f"it does not say that it is **{len(new)} lines**")


# ---- Tables ------------------------------------------------------------------------------------


def tables(text):
    """(number of its first line, lines) of each paragraph that begins with a row."""
    number = 1
    for paragraph in re.split(r"\n[ \t]*\n", text):
        lines = paragraph.strip("\n").split("\n")
        if lines[0].startswith("|"):
            yield number + paragraph.count("\n", 0, paragraph.index("|")), lines
        number += paragraph.count("\n") + 2


def check_table(lines):
    if not all(re.fullmatch(r"\|.*\|", line) for line in lines):
        raise Wrong("a line that is no row")
    if len(lines) < 2 or not re.fullmatch(r"\|( --- \|)+", lines[1]):
        raise Wrong("no dashes below the head")
    if len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) > 1:
        raise Wrong("not as many cells in each row")


# ---- Rules of the specification, and their tests -----------------------------------------------


def paragraphs(text):
    """(number of its first line, text) of each paragraph and each item of a list; no tables."""
    start, lines = 1, []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        ends = not line.strip() or line.startswith(("- ", "|", "#"))
        if ends and lines:
            yield start, " ".join(lines)
            lines = []
        if line.strip() and not line.startswith(("|", "#")):
            start = start if lines else number
            lines.append(line.strip())


def rows_of_rules(text):
    """(number, rule, tests) of each row."""
    for number, line in enumerate(text.split("\n"), 1):
        match = re.fullmatch(rf"\| ({RULE}) \| (.*) \|", line)
        if match:
            yield number, match.group(1), match.group(2)


def has_test(program, test):
    """A TEST of a C program, a method of a Python one, or a function of the guest's program."""
    patterns = {".c": rf"^TEST\w*\(\s*{test}\b", ".py": rf"^    def {test}\("}
    paths = [TOP / "tests" / f"test_{program}{suffix}" for suffix in patterns]
    if program.startswith("guest/"):
        patterns[".c"] = rf"^\w[\w *]*\b{test}\([^;]*?\)\n\{{"
        paths = [TOP / "tests" / program]
    return any(
        path.is_file() and re.search(patterns[path.suffix], path.read_text(), re.MULTILINE)
        for path in paths
    )


def check_row(tests):
    """`program`: `test`, `test`; `program`: `test`"""
    for group in tests.split("; "):
        match = re.fullmatch(r"`([\w/.]+)`: (`\w+`(?:, `\w+`)*)", group)
        if not match:
            raise Wrong(f"no program and tests: {group}")
        for test in re.findall(r"\w+", match.group(2)):
            if not has_test(match.group(1), test):
                raise Wrong(f"{match.group(1)} has no test {test}")


def check_kills(text):
    """| who | how | cell | cell |, each cell as a row of rules, or `none (x)`."""
    reasons = set(re.findall(r"^- \((\w)\) ", text, re.MULTILINE))
    rows = [line for line in text.split("\n") if re.match(r"\| [a-z]", line)]
    for row in rows[1:]:
        cells = row.strip("| ").split(" | ")
        if len(cells) != len(rows[0].strip("| ").split(" | ")):
            raise Wrong(f"not as many cells as there are states: {cells[:2]}")
        for cell in cells[2:]:
            none = re.fullmatch(r"none \((\w)\)", cell)
            if not none:
                check_row(cell)
            elif none.group(1) not in reasons:
                raise Wrong(f"no reason {cell}")
    if len(rows) < 2:
        raise Wrong("no rows")


def check_suites(text, suites, tests):
    """A sentence with "suite `x`" and a colon has the names of all its tests behind that."""
    listed = {}
    for suite, names in re.findall(r"suite `(\w+)`([^.]*: [^.]*)\.", " ".join(text.split())):
        names = names.replace("the fuzz targets", "begin with `fuzz`")
        listed[suite] = set(re.findall(r"(?<!begin with )`(\w+)`", names))
        for prefix in re.findall(r"begin with `(\w+)`", names):
            listed[suite] |= {test for test in tests if test.startswith(f"{prefix}_")}
    if not listed:
        raise Wrong("no suites")
    built = set().union(*suites.values())
    for suite, names in listed.items():
        wrong = suites.get(suite, set()) ^ names
        wrong -= names & (tests - built)
        if wrong:
            raise Wrong(f"not those of the suite {suite}: {' '.join(sorted(wrong))}")


def check_sandbox(text, source):
    """The calls of the table, in its second column, and those that the source names."""
    rows = [line.split("|") for line in text.split("\n") if line.startswith("| ")]
    told = {name for row in rows if len(row) == 5 for name in re.findall(r"`(\w+)`", row[2])}
    used = set(re.findall(r"SCMP_SYS\((\w+)\)", source)) - {"clone3"}  # which does not exist there
    if told != used:
        raise Wrong(f"not those of the source: {' '.join(sorted(told ^ used))}")


class Checker:
    def __init__(self, programs):
        self.programs = programs
        self.names = public_names()
        self.links = self.paths = self.rules = 0
        self.complaints = []

    def check_name(self, name):
        """One that ends in _ stands for all that begin so."""
        if name not in self.names:
            if not name.endswith("_") or not any(known.startswith(name) for known in self.names):
                raise Wrong(f"there is no {name}")

    def attempt(self, document, number, what, function, *arguments):
        try:
            function(*arguments)
        except Wrong as wrong:
            self.complaints.append(f"{document.name}:{number}: {what}: {wrong}")

    def check_line(self, line):
        if "[" in line:
            if is_ours(line):
                self.programs.check_synopsis(line)
            return
        try:
            commands = split(line)
        except ValueError:
            return  # no command line: a quotation mark alone
        for words in commands:
            self.programs.check(words)

    def check_commands(self, document, text):
        for number, line in command_lines(text):
            if OURS.search(line):
                self.attempt(document, number, line, self.check_line, line)

    def check_references(self, document, text):
        outside, _ = without_fences(text)
        for number, line in enumerate(outside.split("\n"), 1):
            for target in re.findall(r"\]\(([^)]+)\)", line):
                if "://" not in target:
                    self.links += 1
                    self.attempt(document, number, target, check_link, document, text, target)
        for number, span in code_spans(outside):
            header = re.fullmatch(r"<(vgfence/\w+\.h)>", span)
            path = f"include/{header.group(1)}" if header else span
            if re.fullmatch(rf"({FOLDERS})/[a-z0-9_./*-]*", path):
                self.paths += 1
                self.attempt(document, number, span, check_path, path)

    def check_excerpts(self, document, text):
        for number, language, lines in without_fences(text)[1]:
            if language == "c":
                self.attempt(document, number, lines[0], check_excerpt, lines)

    def check_integrations(self):
        for name, (language, path) in INTEGRATIONS.items():
            text, source = ((TOP / file).read_text(encoding="utf-8") for file in (name, path))
            self.attempt(TOP / name, 1, path, check_integration, text, language, source)

    def check_rules(self, document, text):
        rules, rows = {}, {}
        for number, paragraph in paragraphs(text):
            match = re.match(rf"- \*\*({RULE})\*\* ", paragraph)
            if match and match.group(1) in rules:
                self.complain(document, number, f"a second {match.group(1)}")
            elif match:
                rules[match.group(1)] = number
            elif re.search(r"\bMUST\b", paragraph) and "RFC 2119" not in paragraph:
                self.complain(document, number, "a MUST without a name")
        for number, rule, tests in rows_of_rules(text):
            if rule in rows or rule not in rules:
                self.complain(document, number, f"a row too many for {rule}")
            rows[rule] = number
            self.attempt(document, number, rule, check_row, tests)
        for rule in rules.keys() - rows.keys():
            self.complain(document, rules[rule], f"{rule} has no row")
        self.rules = len(rules)

    def check_calls(self):
        document, source = (TOP / name for name in SANDBOX)
        text = document.read_text(encoding="utf-8")
        self.attempt(document, 1, "calls", check_sandbox, text, source.read_text(encoding="utf-8"))

    def check_kills(self):
        document = TOP / KILLS[0]
        text = document.read_text(encoding="utf-8")
        section = text.partition(f"\n## {KILLS[1]}\n")[2].partition("\n## ")[0]
        number = text.count("\n", 0, text.find(section))
        self.attempt(document, number, "kills", check_kills, section)

    def check_suites(self):
        document = TOP / SUITES[0]
        text = document.read_text(encoding="utf-8")
        section = text.partition(f"\n## {SUITES[1]}\n")[2].partition("\n## ")[0]
        number = text.count("\n", 0, text.find(section))
        self.attempt(document, number, "suites", check_suites, section,
                     self.programs.tests_of_suites, self.programs.tests)

    def complain(self, document, number, message):
        self.complaints.append(f"{document.name}:{number}: {message}")

    def check(self, document, text):
        self.check_commands(document, text)
        self.check_references(document, text)
        for number, lines in tables(without_fences(text)[0]):
            self.attempt(document, number, lines[0], check_table, lines)
        for number, line in enumerate(text.split("\n"), 1):
            for name in re.findall(r"\b(?:vgf|VGF)_\w+", line):
                self.attempt(document, number, name, self.check_name, name)


# ---- Self-test ---------------------------------------------------------------------------------

GOOD = """# Good

    ./run vm --append a=b -- COMMAND; ./run demo --recorded
    VGF_TEST_SEED=1 build/plain/tests/test_model
    ./run guest --passing vgfence-guest chain --jobs 10 && meson test --suite virgl order -v
    scripts/vm --kind qemu \\
        --build new sh -c 'vgfence info --json; other --option'
    scripts/vm [--kind uml|qemu] [--timeout SECONDS]   # a synopsis
    ./run test lint; build/logs/; build/logs; vgfence gpu --record

`vgf_submit`, `vgf_virgl_`, `VGF_TEST_SEED=n` of `<vgfence/vgfence.h>`
`vgfence replay --pace=asap x.vgtrace` and [here](#good), [there](docs/gpu.md#starting-it);
`src/*.c`.

```
./run vgfence bench core --json
a table with --anything
```

| a | |
| --- | --- |
| 1 | `2 \\| 3` |
"""

# A text, and what must be said of it.
BAD = (
    ("    ./run dmeo", "no command 'dmeo'"),
    ("    ./run demo --record", "unknown argument"),
    ("    ./run test host_qemu guest_stok", "no part 'guest_stok'"),
    ("    ./run vgfence gpu --scanout=1 --size=1x1", "--size"),
    ("    vgfence gpu --stat=1", "stat"),
    ("    vgfence gpu --records", "records"),
    ("`vgfence replay --pace=slow x`", "slow"),
    ("    vgfence gpu --socket=a \\\n        --sizes=800x600", "sizes"),
    ("    vgfence bench speed", "usage"),
    ("    vgfence gup", "gup"),
    ("    ./run vm --quick true", "--quick"),
    ("    ./run vm -- vgfence info --yaml", "yaml"),
    ("    ./run vm sh -c 'true && vgfence info --yaml'", "yaml"),
    ("    true; ./run guest vgfence-guest chains", "chains"),
    ("    ./run guest --pasing", "--pasing"),
    ("    ./run console --renderer hard", "usage"),
    ("    scripts/vm [--kind uml] [--speed N]", "--speed"),
    ("    scripts/wm --check", "no scripts/wm"),
    ("    ./run test --all", "does not take"),
    ("    meson test -C build/plain ordre", "ordre"),
    ("    meson test -C build/plain --suite vigrl", "vigrl"),
    ("`build/plain/tests/test_ordre`", "not built"),
    ("```\n./run dmeo\n```", "no command 'dmeo'"),
    ("[x](docs/nothing.md)", "leads nowhere"),
    ("[x](docs/gpu.md#nothing)", "no heading"),
    ("[x](#nothing)", "no heading"),
    ("`src/nothing.c`", "no src/nothing.c"),
    ("`src/nothing*.c`", "no src/nothing"),
    ("`<vgfence/nothing.h>`", "no include/vgfence/nothing.h"),
    ("`vgf_submits`", "no vgf_submits"),
    ("```\nret = vgf_submits(1);\n```", "no vgf_submits"),
    ("all of `vgf_nothing_*`", "no vgf_nothing_"),
    ("`VGF_TEST_SEEDS=1 ./run build`", "no vgf_test_seeds"),
    ("| a | b | | --- | --- | | 1 | 2 |", "no dashes"),
    ("| a |\n| --- |\n| 1 |\nAnd so on.", "no row"),
    ("| a |\n| 1 |", "no dashes"),
    ("| a | b |\n| --- | --- |\n| 1 |", "not as many cells"),
)


EXCERPTS = (
    ("```c\nstruct request {\nint main(void)\n```", 0),
    ("```c\nint main(void)\nstruct request {\n```", 1),
    ("```c\nint nothing;\n```", 1),
)


GOOD_RULES = """Words like MUST are those of RFC 2119.

- **D-ONE** It MUST
  do so.
- **G-TWO** It MUST NOT.
- It MAY.

| rule | tests |
| --- | --- |
| D-ONE | `order`: `zero_is_an_id`; `gpu_program`: `test_the_socket_is_needed` |
| G-TWO | `guest/driver.c`: `check_many`, `check_foreign` |
"""

# What is changed in these rules, into what, and what must be said of it.
BAD_RULES = (
    ("- It MAY.", "- It MUST.", "a must without a name"),
    ("- It MAY.", "- It MAY. And it\n  MUST.", "a must without a name"),
    ("- It MAY.", "- **D-THREE** It MUST.", "d-three has no row"),
    ("- It MAY.", "- **D-ONE** It MUST.", "a second d-one"),
    ("- **G-TWO** It MUST NOT.\n", "", "a row too many for g-two"),
    ("| G-TWO |", "| D-ONE |", "a row too many for d-one"),
    ("`zero_is_an_id`", "`one_is_an_id`", "order has no test one_is_an_id"),
    ("`zero_is_an_id`", "`zero_is`", "order has no test zero_is"),
    ("`order`", "`ordre`", "ordre has no test"),
    ("test_the_socket_is_needed", "test_the_socket", "has no test test_the_socket"),
    ("`check_many`", "`check_much`", "guest/driver.c has no test check_much"),
    ("guest/driver.c", "guest/diver.c", "guest/diver.c has no test"),
    ("`check_many`, `check_foreign`", "none", "no program and tests"),
)


def complaints_of_rules(text):
    checker = Checker(None)
    checker.check_rules(TOP / SPECIFICATION, text)
    return checker.complaints


def failures_of_rules():
    failures = complaints_of_rules(GOOD_RULES)
    for old, new, expected in BAD_RULES:
        assert old in GOOD_RULES
        complaints = complaints_of_rules(GOOD_RULES.replace(old, new))
        if not any(expected in complaint.lower() for complaint in complaints):
            failures.append(f"{new!r}: not '{expected}' but {complaints}")
    return failures


INTEGRATION = """**2 lines**
```c
one();

    two();
```
"""

# A source, and whether the document above shows it.
SOURCES = (
    ("old();\n\t/* vgfence */\n\tone();\n\t/* end */\nold();\n// vgfence\ntwo();\n// end", True),
    ("/* vgfence */\none();\nthree();\n/* end */", False),
    ("/* vgfence */\none();\n/* end */\ntwo();", False),
    ("/* vgfence */\none();\ntwo();\nthree();\n/* end */", False),
    ("/* vgfence */\ntwo();\none();\n/* end */", False),
)


def failures_of_integrations():
    good, _ = SOURCES[0]
    cases = [(INTEGRATION, source, fits) for source, fits in SOURCES]
    cases.append((INTEGRATION.replace("2 lines", "3 lines"), good, False))
    for text, source, fits in cases:
        try:
            check_integration(text, "c", source)
        except Wrong:
            fits = not fits
        if not fits:
            yield f"of an integration: {source!r}"


def failures_of_kills():
    text = "| who | how | idle |\n| --- | --- | --- |\n| it | so | CELL |\n\n- (a) Why.\n"
    for cell, fits in (("`order`: `zero_is_an_id`", True), ("none (a)", True), ("none (b)", False),
                       ("`order`: `one_is_an_id`", False), ("", False),
                       ("`order`: `zero_is_an_id` | none (a)", False),
                       ("`guest/test_guest.py`: `test_nothing`", False),
                       ("`guest/test_guest.py`: `test_a_killed_guest_leaves_nothing_in_the_device`",
                        True)):
        try:
            check_kills(text.replace("CELL", cell))
        except Wrong:
            fits = not fits
        if not fits:
            yield f"of the table of kills: {cell!r}"


def failures_of_suites():
    text = "The suite `a`: `one`, those that begin with\n`two`. The suite `b` is left out: NAMES.\n"
    suites = {"a": {"one", "two_x"}, "b": {"three", "fuzz_x"}, "": {"four"}}
    tests = {"one", "two_x", "three", "four", "fuzz_x", "not_built"}
    for names, fits in (("`three`, the fuzz targets", True),
                        ("`three`, the fuzz targets, `not_built`", True),
                        ("`three`", False),
                        ("`three`, the fuzz targets, `four`", False),
                        ("`three`, the fuzz targets, `nothing`", False)):
        try:
            check_suites(text.replace("NAMES", names), suites, tests)
        except Wrong:
            fits = not fits
        if not fits:
            yield f"of the suites: {names!r}"


def failures_of_sandboxes():
    text = "| group | calls | why |\n| --- | --- | --- |\n| a | `read`, `write` | `open` |\n"
    for source, fits in (("SCMP_SYS(read) SCMP_SYS(write) SCMP_SYS(clone3)", True),
                         ("SCMP_SYS(read)", False),
                         ("SCMP_SYS(read) SCMP_SYS(write) SCMP_SYS(open)", False)):
        try:
            check_sandbox(text, source)
        except Wrong:
            fits = not fits
        if not fits:
            yield f"of the sandbox: {source!r}"


def complaints_of(programs, text):
    """As if it were the README."""
    checker = Checker(programs)
    checker.check(TOP / "README.md", text)
    return checker.complaints


def self_test(programs):
    failures = complaints_of(programs, GOOD)
    if programs.others != {"other"}:
        failures.append(f"others than 'other' are taken for no programs of ours: {programs.others}")
    for text, expected in BAD:
        complaints = complaints_of(programs, text)
        if len(complaints) != 1 or expected not in complaints[0].lower():
            failures.append(f"{text!r}: not '{expected}' but {complaints}")
    for text, count in EXCERPTS:
        checker = Checker(programs)
        checker.check_excerpts(TOP / "README.md", text)
        if len(checker.complaints) != count:
            failures.append(f"{text!r}: {checker.complaints}")
    failures += [*failures_of_rules(), *failures_of_integrations(),
                 *failures_of_sandboxes(), *failures_of_kills(), *failures_of_suites()]
    print("\n".join(failures) or f"self-test: {len(BAD) + len(BAD_RULES)} mistakes noticed")
    return 1 if failures else 0


def main(arguments):
    if arguments[:1] == ["--self-test"]:
        return self_test(Programs(*(arguments[1:] or ["build/plain"])))
    if len(arguments) > 1 or arguments[:1] == ["--help"]:
        print(__doc__)
        return 0 if arguments == ["--help"] else 2
    checker = Checker(Programs(*(arguments or [TOP / "build/plain"])))
    documents = {file for pattern in PATTERNS for file in TOP.glob(pattern)}
    for document in sorted(documents - {TOP / "NEWS.md"}):  # it also says what was
        checker.check(document, document.read_text(encoding="utf-8"))
    readme = TOP / "README.md"
    checker.check_excerpts(readme, readme.read_text(encoding="utf-8"))
    checker.check_integrations()
    specification = TOP / SPECIFICATION
    checker.check_rules(specification, specification.read_text(encoding="utf-8"))
    checker.check_calls()
    checker.check_kills()
    checker.check_suites()
    for complaint in checker.complaints:
        print(complaint)
    print(
        f"{checker.programs.checked} command lines, {checker.links} links, {checker.paths} paths,"
        f" {checker.rules} rules; not ours: {' '.join(sorted(checker.programs.others))}"
    )
    return 1 if checker.complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
