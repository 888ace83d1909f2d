#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the part of libvgfence-virglrenderer that follows from the names of virglrenderer's
functions: those of the library found, and those of the versions that are known.

usage: stubs.py NM LIBRARY FUNCTIONS OUT.S OUT.h

Each function NAME has a stub that jumps into the real library, which is looked up when it is first
called. The plugin calls it as real_NAME: OUT.h renames its calls. For everybody else it is NAME,
weak, so that a function that is overridden has a definition in C in its place. OUT.S is for x86-64.
"""

import subprocess
import sys
from pathlib import Path

HEAD = """/* Made by stubs.py. */
	.text
	.p2align 4
	.type find_function, @function
/* Its index is in r11. What may hold arguments is kept, the stack aligned to 16 bytes. */
find_function:
	.cfi_startproc
	pushq %rdi
	pushq %rsi
	pushq %rdx
	pushq %rcx
	pushq %r8
	pushq %r9
	subq $8, %rsp
	.cfi_adjust_cfa_offset 56
	movl %r11d, %edi
	call real_find
	movq %rax, %r11
	addq $8, %rsp
	popq %r9
	popq %r8
	popq %rcx
	popq %rdx
	popq %rsi
	popq %rdi
	.cfi_adjust_cfa_offset -56
	jmp *%r11
	.cfi_endproc
	.size find_function, .-find_function
"""

STUB = """
	.p2align 4
	.globl real_{name}
	.hidden real_{name}
	.type real_{name}, @function
	.weak {name}
	.type {name}, @function
real_{name}:
{name}:
	.cfi_startproc
	endbr64
	movq real_functions+{offset}(%rip), %r11
	testq %r11, %r11
	jz 1f
	jmp *%r11
1:	movl ${index}, %r11d
	jmp find_function
	.cfi_endproc
	.size real_{name}, .-real_{name}
	.size {name}, .-{name}
"""

TABLES = """
	.bss
	.p2align 3
	.globl real_functions
	.hidden real_functions
	.type real_functions, @object
	.size real_functions, {size}
real_functions:
	.zero {size}

	.section .rodata
	.globl real_names
	.hidden real_names
	.type real_names, @object
real_names:
{names}
	.byte 0
	.size real_names, .-real_names
	.section .note.GNU-stack, "", @progbits
"""


def functions_of(nm, library):
    """What a library exports of virglrenderer's."""
    text = subprocess.run([nm, "-D", "--defined-only", library], check=True,
                          capture_output=True, text=True).stdout
    fields = [line.split() for line in text.splitlines()]
    return {f[-1] for f in fields if f[-2] in ("T", "W") and f[-1].startswith("virgl_")}


def main(nm, library, functions, assembly, header):
    names = sorted(functions_of(nm, library) | set(Path(functions).read_text().split()))
    stubs = [STUB.format(name=name, index=i, offset=8 * i) for i, name in enumerate(names)]
    strings = "\n".join(f'\t.asciz "{name}"' for name in names)
    Path(assembly).write_text(
        HEAD + "".join(stubs) + TABLES.format(size=8 * len(names), names=strings))
    Path(header).write_text("".join(f"#define {name} real_{name}\n" for name in names))


if __name__ == "__main__":
    main(*sys.argv[1:])
