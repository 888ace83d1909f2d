# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Text as a man page has it: the macros of man(7), no others."""

import re

SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def escape(text):
    """The same letters, for a reader who copies them. No line of it is taken for a macro."""
    text = "".join(SPECIAL.get(letter, letter) for letter in text)
    return re.sub(r"^(?=\.)", r"\\&", text, flags=re.MULTILINE)


def bold(text):
    return f"\\fB{escape(text)}\\fR"


def prose(text):
    """What stands in `quotes` is bold."""
    parts = re.split(r"`([^`\n]+)`", text)
    return "".join(bold(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def verbatim(lines):
    return [".nf", *(escape(line.expandtabs(4)) or "\\&" for line in lines), ".fi"]


def example(lines):
    return [".PP", ".RS 4", *verbatim(lines), ".RE"]


def title(name, section, version, manual):
    """Without a date: with one no two builds would be the same."""
    return [f'.TH {escape(name.upper())} {section} "" "vgfence {version}" "{manual}"']


def see_also(pages):
    links = [f".BR {escape(name)} ({section})," for name, section in pages]
    return [".SH SEE ALSO", *links[:-1], links[-1].rstrip(",")]


def plain(page):
    """The words of a page, without its title: for tests."""
    lines = []
    for line in page.split("\n"):
        if line.startswith(".BR "):
            line = line[4:]
        elif line.startswith((".SH ", ".SS ")):
            line = line[4:]
        elif line.startswith("."):
            continue
        line = re.sub(r"\\f[BIRP]|\\&", "", line)
        for letter, name in SPECIAL.items():
            if letter != "\\":
                line = line.replace(name, letter)
        lines.append(line.replace("\\(bu", "-").replace("\\e", "\\"))
    return " ".join(lines).split()
