#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
"""Looks whether what ./run compare has written has the shape that it is to have: check_compare.py
TABLE JSON SVG. Every number has to be there; what they are is the machine's affair."""

import json
import sys
import xml.etree.ElementTree

MESA = "frames a second, Mesa's OpenGL"  # in every other round
WORK_US = ("50", "100", "500", "1000", "5000", "20000")
ROWS = (
    [f"fence after {work}, us" for work in
     ("no work", "0.1 ms of GL", "1 ms of GL", "5 ms of GL")] +
    [f"{what}, {work}{unit}" for work in ("no work", "0.05 ms of GL", "0.5 ms of GL")
     for what, unit in (("frames a second", ""), ("guest CPU a frame", ", us"),
                        ("host CPU a frame", ", us"))] +
    [f"no work beside 20 ms of GL, {name}, us" for name in ("median", "p99")] +
    [MESA]
)
WAYS = ("egl", "passes")
ROUNDS = 2
SVG = "{http://www.w3.org/2000/svg}"


def check(right, what):
    if not right:
        sys.exit(f"check_compare: {what}")


def check_table(text):
    text, _, rest = text.partition("\n\n")
    check(rest.count(" ms of GL are ") == len(WORK_US), f"below the table is {rest}")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()]
    check(lines[0][-2:] == ["vgfence, passed", "of QEMU's"], f"the heading is {lines[0]}")
    check([line[0] for line in lines[2:]] == ROWS, "these are not its rows")
    for line in lines[2:]:
        check(len(line) == 4 and all(float(cell) > 0 for cell in line[1:]), f"a row is {line}")


def check_json(results):
    work = results["work_rows"]
    check(tuple(work) == WORK_US and 0 < work["50"] < work["20000"], f"the work is {work}")
    check([row["name"] for row in results["rows"]] == ROWS, "other rows in JSON")
    for row in results["rows"]:
        check(list(row["ways"]) == list(WAYS), f"{row['name']}: other ways")
        for way, numbers in row["ways"].items():
            check(numbers["value"] > 0 and numbers["ratio"] > 0 and
                  all(number > 0 for number in numbers["rounds"]),
                  f"{row['name']}, {way}: {numbers}")
            check(len(numbers["rounds"]) == (ROUNDS if row["name"] != MESA else 1),
                  f"{row['name']}, {way}: a start is missing of {numbers['rounds']}")
            first, third = numbers["quartiles"]
            check(first <= numbers["ratio"] <= third, f"{row['name']}, {way}: {numbers}")
        check(row["ways"]["egl"]["ratio"] == 1, f"{row['name']}: QEMU is not itself")


def check_picture(root):
    texts = [text.text for text in root.iter(SVG + "text")]
    check(root.tag == SVG + "svg" and set(ROWS) <= set(texts), "rows are not in the picture")
    points = len(list(root.iter(SVG + "circle")))
    check(points == 1 + len(ROWS), f"the picture has {points} points")  # one for the legend


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        check_table(file.read())
    with open(sys.argv[2], encoding="utf-8") as file:
        check_json(json.load(file))
    check_picture(xml.etree.ElementTree.parse(sys.argv[3]).getroot())


main()
