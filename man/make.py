#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Makes the man pages and the completion for bash: of what the program says of itself, and of the
comments in the public headers. So nothing is written twice.

usage: make.py program VGFENCE VERSION
       make.py command VGFENCE VERSION COMMAND
       make.py header VERSION HEADER OTHER_HEADER...
       make.py functions HEADER
       make.py completion VGFENCE

Each prints one page, a header's functions, or the completion.
"""

import pathlib
import re
import sys

import header_text
import help_text
import roff

PROGRAM_MANUAL = "Programs of vgfence"
LIBRARY_MANUAL = "Library of vgfence"


def print_lines(lines):
    print("\n".join(lines))


def print_page(lines):
    """A heading begins a paragraph by itself."""
    text = "\n".join(lines)
    print(re.sub(r"^(\.S[HS] .*)\n\.PP$", r"\1", text, flags=re.MULTILINE))


# ---- Commands ----------------------------------------------------------------------------------


def synopsis(usage):
    """The first words are typed as they are."""
    lines = []
    for line in usage:
        name, options = re.fullmatch(r"(vgfence(?: [a-z]+)?)(.*)", line).groups()
        lines += [".PP", bold_options(name) + bold_options(options)]
    return lines[1:]


def bold_options(text):
    return re.sub(r"(?<![\w=])(?:\\-)+[a-z][a-z\\-]*|^vgfence[ a-z]*",
                  lambda match: f"\\fB{match.group()}\\fR", roff.escape(text))


def block_lines(block):
    if isinstance(block, help_text.Item):
        return [".TP", roff.bold(block.term), roff.escape(block.text)]
    if isinstance(block, list):
        return roff.example(block)
    return [".PP", roff.escape(block)]


def body(text, commands):
    """Options come last, as in each man page."""
    options = text.options()
    lines = [".SH COMMANDS" if commands else ".SH DESCRIPTION"]
    for block in text.blocks:
        if block not in options:
            lines += block_lines(block)
    if options:
        lines.append(".SH OPTIONS")
    for option in options:
        lines += block_lines(option)
    return lines


def print_command_page(page, summary, text, version, others):
    print_page([
        *roff.title(page, 1, version, PROGRAM_MANUAL),
        ".SH NAME",
        f"{roff.escape(page)} \\- {roff.escape(summary)}",
        ".SH SYNOPSIS",
        *synopsis(text.usage),
        *body(text, page == "vgfence"),
        *roff.see_also(others),
    ])


def make_program(program, version):
    others = [(f"vgfence-{name}", 1) for name in help_text.commands(program)]
    print_command_page("vgfence", "fences of virtual GPUs, on the host",
                       help_text.of_program(program), version, [*others, ("vgfence.h", 3)])


def make_command(program, version, command):
    commands = help_text.commands(program)
    others = [(f"vgfence-{name}", 1) for name in commands if name != command]
    print_command_page(f"vgfence-{command}", commands[command],
                       help_text.of_command(program, command), version, [("vgfence", 1), *others])


# ---- Headers -----------------------------------------------------------------------------------


def header_page(path):
    """vgfence.h, or vgfence_sync_file.h: its name among all man pages."""
    name = pathlib.Path(path).name
    return name if name == "vgfence.h" else f"vgfence_{name}"


def comment_lines(comment):
    """Paragraphs, lists, and what is indented further, which stays as it is."""
    lines, state = [], ""
    for line in comment:
        item = re.fullmatch(r" {0,3}- (.*)", line)
        indented = re.match(r"\t|  ", line)
        if not line:
            state = close(lines, state)
        elif item:
            close(lines, state)
            lines += [".IP \\(bu 2", roff.prose(item.group(1))]
            state = "item"
        elif indented and state == "item":
            lines.append(roff.prose(line.strip()))
        elif indented:
            if state != "code":
                lines += [".PP", ".nf"]
            lines.append(roff.escape(line.expandtabs(8)))
            state = "code"
        else:
            state = close(lines, state) if state == "code" else state
            if state in ("", "item"):
                lines.append(".PP")
            lines.append(roff.prose(line.strip()))
            state = "text"
    close(lines, state)
    return lines


def close(lines, state):
    if state == "code":
        lines.append(".fi")
    return ""


def part_lines(part):
    if part.section():
        return [f".SS {roff.escape(part.section())}"]
    if not part.code:
        return comment_lines(part.comment)
    lines = [".PP", ".nf", *(roff.bold(line.expandtabs(4)) if line else "\\&"
                             for line in part.shown()), ".fi"]
    if part.comment:
        lines += [".RS 4", *comment_lines(part.comment), ".RE"]
    return lines


def first_sentence(comment):
    """Of the essay that a header begins with."""
    text = " ".join(comment).replace("  ", " ")
    return re.match(r"(.*?)\.(?: |$)", text).group(1)


def make_header(version, header, *others):
    text = pathlib.Path(header).read_text(encoding="utf-8")
    parts = list(header_text.parts(text))
    page = header_page(header)
    library = "vgfence-virgl" if page == "vgfence_virgl.h" else "vgfence"
    names = ", ".join([page, *header_text.functions(text)])
    lines = [
        *roff.title(page, 3, version, LIBRARY_MANUAL),
        ".SH NAME",
        f"{roff.escape(names)} \\- {roff.escape(first_sentence(parts[0].comment))}",
        ".SH SYNOPSIS",
        f"\\fB#include <vgfence/{roff.escape(pathlib.Path(header).name)}>\\fR",
        ".PP",
        roff.escape(f"cc ... $(pkg-config --cflags --libs {library})"),
        ".SH DESCRIPTION",
        *comment_lines(parts[0].comment),
        ".SH DECLARATIONS",
    ]
    for part in parts[1:]:
        lines += part_lines(part)
    print_page([*lines, *roff.see_also([(header_page(other), 3) for other in others])])


def make_functions(header):
    print_lines(header_text.functions(pathlib.Path(header).read_text(encoding="utf-8")))


# ---- Completion --------------------------------------------------------------------------------


def option_words(item):
    """Of each spelling: the option, "=" if a value follows, and the values that are words."""
    for word in re.split(r", ", item.term):
        option, equals, value = word.partition("=")
        values = [one.split("[")[0] for one in value.split("|")]
        yield option + equals, [one for one in values if re.fullmatch(r"[a-z][a-z0-9]*", one)]


def command_table(text):
    """What can be typed behind a command, and behind its options."""
    words, values = [], {}
    for choice in re.findall(r"\[([a-z|]+)\]", " ".join(text.usage)):
        words += choice.split("|")
    for item in text.options():
        for word, choices in option_words(item):
            words += [word] if word not in words else []
            values.setdefault(word.rstrip("="), []).extend(choices)
    return [*words, "--help"], {option: words for option, words in values.items() if words}


def make_completion(program):
    commands = help_text.commands(program)
    tables = {name: command_table(help_text.of_command(program, name)) for name in commands}
    words = [f"    [{name}]='{' '.join(words)}'" for name, (words, _) in tables.items()]
    values = [f"    [{name} {option}]='{' '.join(choices)}'"
              for name, (_, values) in tables.items() for option, choices in values.items()]
    template = pathlib.Path(__file__).with_name("completion.bash.in").read_text(encoding="utf-8")
    for key, value in {"commands": " ".join([*commands, "--help", "--version"]),
                       "words": "\n".join(words), "values": "\n".join(values)}.items():
        template = template.replace(f"@{key}@", value)
    print(template, end="")


MAKERS = {
    "program": make_program,
    "command": make_command,
    "header": make_header,
    "functions": make_functions,
    "completion": make_completion,
}


def main(arguments):
    if not arguments or arguments[0] not in MAKERS:
        print(__doc__)
        return 0 if arguments == ["--help"] else 2
    MAKERS[arguments[0]](*arguments[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
