# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Reads what 'vgfence --help' and 'vgfence COMMAND --help' print.

Such a text begins with its usage. Then there are paragraphs; lists, whose items are indented by two
columns, with what they mean two columns or more behind; and examples, indented by four.
"""

import re
import subprocess

LIMIT_S = 60  # only so that a program that hangs ends the build


class Item:
    """An option, a column of a table, a command."""

    def __init__(self, term, text):
        self.term = term
        self.text = text


class Help:
    """usage is a list of lines; blocks are strings (paragraphs), lists of lines (examples), and
    Items."""

    def __init__(self, text):
        self.blocks = []
        usage, _, rest = text.partition("\n\n")
        self.usage = [re.sub(r"^usage: *| *\(--help for more\)", "", line).strip()
                      for line in usage.split("\n")]
        new = True
        for line in rest.rstrip("\n").split("\n"):
            new = self.add(line, new)

    def add(self, line, new):
        """new: whether the line before was empty. Returns whether this one is."""
        last = None if new or not self.blocks else self.blocks[-1]
        item = re.fullmatch(r"  (\S.*?)(?: {2,}(\S.*))?", line)
        if not line:
            return True
        if item:
            self.blocks.append(Item(item.group(1), item.group(2) or ""))
        elif isinstance(last, Item) and line.startswith("  "):
            last.text = f"{last.text} {line.strip()}".strip()
        elif line.startswith("    "):
            if not isinstance(last, list):
                self.blocks.append([])
            self.blocks[-1].append(line[4:])
        elif isinstance(last, str):
            self.blocks[-1] = f"{last}\n{line}"
        else:
            self.blocks.append(line)
        return False

    def items(self):
        return [block for block in self.blocks if isinstance(block, Item)]

    def options(self):
        return [item for item in self.items() if item.term.startswith("-")]


def ask(program, *arguments):
    return subprocess.run(
        [program, *arguments], check=True, capture_output=True, text=True, timeout=LIMIT_S
    ).stdout


def of_program(program):
    return Help(ask(program, "--help"))


def of_command(program, command):
    return Help(ask(program, command, "--help"))


def commands(program):
    """Their names, and what each is in a line."""
    return {item.term: item.text for item in of_program(program).items()}
