# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The vgfence authors
"""Reads a public header: what it declares, and the comments in front of that."""

import re

SECTION = re.compile(r"-{4} (.*?) -+")
LEFT_OUT = re.compile(r"SPDX|Copyright")


class Part:
    """A comment, what is declared behind it, or both."""

    def __init__(self, comment, code):
        self.comment = comment  # lines, without what makes them a comment
        self.code = code  # lines

    def section(self):
        match = SECTION.fullmatch(self.comment[0]) if self.comment else None
        return match.group(1) if match else None

    def functions(self):
        """Their names; of a type that is a pointer to a function, its name."""
        text = re.sub(r"/\*.*?\*/", "", "\n".join(self.code), flags=re.DOTALL)
        if re.match(r"#|(struct|enum) \w+ \{", text):
            return []
        return re.findall(r"^(?:typedef )?\w[\w *]*?\(?\*?\b(vgf_\w+)\)?\(", text, re.MULTILINE)

    def shown(self):
        """The declaration: not what an inline function does."""
        if "{" in self.code and self.functions():
            code = self.code[: self.code.index("{")]
            return [*code[:-1], code[-1] + ";"]
        return self.code


def uncomment(lines):
    text = "\n".join(lines).removeprefix("/*").removesuffix("*/")
    lines = [re.sub(r"^ ?\* ?", "", line, count=1) if number else line.strip()
             for number, line in enumerate(text.split("\n"))]
    lines = [line.rstrip() for line in lines]
    while lines and not lines[0]:
        lines = lines[1:]
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def take_comment(lines):
    comment = []
    while True:
        comment.append(lines.pop(0))
        if "*/" in comment[-1]:
            return uncomment(comment)


def take_code(lines):
    """Up to an empty line, or a comment, that is in no braces."""
    code, depth = [], 0
    while lines and (depth or (lines[0] and not lines[0].startswith("/*"))):
        line = lines.pop(0)
        depth += line.count("{") - line.count("}")
        code.append(line)
    return code


def is_frame(line):
    """What makes a file a header, and what C++ needs."""
    frame = r'#(ifndef|ifdef|endif|include)|#define \w+_H$|extern "C"|\}$'
    return re.match(frame, line) is not None


def parts(text):
    lines, comment = text.split("\n"), []
    while lines:
        if lines[0].startswith("/*"):
            if comment:
                yield Part(comment, [])
            comment = take_comment(lines)
            if LEFT_OUT.search(comment[0]):
                comment = []
            continue
        if not lines[0] or is_frame(lines[0]):
            lines.pop(0)
            code = []
        else:
            code = take_code(lines)
        if comment or code and not re.fullmatch(r"struct \w+;", "".join(code)):
            yield Part(comment, code)
        comment = []


def functions(text):
    return [name for part in parts(text) for name in part.functions()]
