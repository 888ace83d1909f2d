#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check_install.sh BUILD: what others meet of the library. Its headers compile alone, in C and C++;
# a program builds against the installed library through pkg-config and runs; it exports what
# src/vgfence.symbols lists, and src/syncobj.symbols where it has these. The same of
# libvgfence-virgl, where it was built. What the program needs of files is installed with it.
set -euo pipefail
build=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check_headers() {
    local header
    for header in include/vgfence/*.h; do
        cc -std=c11 -Wall -Wextra -Werror -fsyntax-only -Iinclude -x c "$header"
        c++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only -Iinclude -x c++ "$header"
    done
}

# Where it is installed is only known now, and libraries that it needs are elsewhere.
install_to_work() {
    DESTDIR=$work meson install -C "$build" --no-rebuild --quiet
    PKG_CONFIG_PATH=$(dirname "$(find "$work" -name vgfence.pc)")
    LD_LIBRARY_PATH=$(dirname "$(find "$work" -name libvgfence.so)")
    export PKG_CONFIG_PATH LD_LIBRARY_PATH
    sed -i "s|^prefix=|prefix=$work|" "$PKG_CONFIG_PATH"/*.pc
}

# compile PACKAGE SOURCE...
compile() {
    # shellcheck disable=SC2046
    cc -std=c11 -Wall -Wextra -Werror "${@:2}" -o "$work/consumer" \
        $(pkg-config --cflags --libs "$1")
}

check_installed() {
    compile vgfence tests/consumer.c
    "$work/consumer"
    compile vgfence examples/vmm.c examples/context_driver.c
    "$work/consumer" >/dev/null
}

# What README.md says of both.
# shellcheck disable=SC2016  # the backquotes are the document's
check_readme() {
    local line
    line=$(sed -n 's/^    \(cc .*\) -o vmm$/\1/p' README.md)
    (cd examples && eval "$line -o $work/vmm")
    "$work/vmm" >/dev/null
    diff -u <(sed -n "s/^option('\([a-z]*\)'.* value: '*\([a-z]*\).*/\1 \2/p" meson_options.txt) \
        <(sed -n '/^| option `-D/,/^$/s/^| `\([a-z]*\)` | \([a-z]*\) .*/\1 \2/p' README.md)
}

check_installed_virgl() {
    compile vgfence-virgl examples/virgl_vmm.c
    "$work/consumer" >"$work/output"
    grep -qx 'the copy is green' "$work/output"
}

# What management software finds, and starts: the file names a program by its path once installed.
check_vhost_user() {
    local json binary
    json=$(find "$work" -path '*/share/qemu/vhost-user/50-vgfence-gpu.json')
    binary=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["binary"])' <"$json")
    "$work$binary" --print-capabilities | grep -q '"type": "gpu"'
}

# What systemd starts.
check_unit() {
    local program
    program=$(sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' \
        "$(find "$work" -path '*/systemd/user/vgfence-gpu.service')")
    "$work$program" --help >/dev/null
}

# What 'vgfence demo' replays.
check_traces() {
    local traces
    traces=$(find "$work" -path '*/share/vgfence/traces')
    [ "$(cd "$traces" && ls)" = "$(cd tests/data/traces && ls -- *.vgtrace)" ]
}

# Each exported function has a man page by its name.
check_man_pages() {
    local man function
    man=$(find "$work" -path '*/man/man3')
    while read -r function; do
        [ -s "$man/$function.3" ] || {
            echo "$function has no man page" >&2
            return 1
        }
    done < <(cat "$@")
}

# check_exports LIBRARY SYMBOLS...
check_exports() {
    nm -D --defined-only "$build/src/$1" | awk '{ print $3 }' | sort | diff -u <(sort "${@:2}") -
}

check_symbols() {
    local lists=(src/vgfence.symbols)
    if [ "$(pkg-config --variable=syncobj vgfence)" = true ]; then
        lists+=(src/syncobj.symbols)
    fi
    check_exports libvgfence.so "${lists[@]}"
}

# What dpkg is told to expect: packages are not built here.
check_debian() {
    diff -u <(sed -n 's/^ \(.*\)@Base .*/\1/p' "debian/$1.symbols" | sort) <(sort "${@:2}") &&
        grep -q "^vgfence ($(sed -n "s/^ *version: '\(.*\)',/\1/p" meson.build)) " \
            debian/changelog
}

# What only x86-64 has is not among what each architecture has to have.
check_debian_files() {
    ! grep -n libvgfence-virglrenderer debian/*.install
}

# Packages have all that can be built, wherever they are built.
check_debian_options() {
    diff -u <(sed -n "s/^option('\(.*\)', type: 'feature'.*/\1/p" meson_options.txt | sort) \
        <(sed 's/-D/\n&/g' debian/rules | sed -n 's/^-D\([a-z]*\)=enabled.*/\1/p' | sort)
}

# The files under the kernel's licence, as they say of themselves; patches are all of Linux.
check_debian_copyright() {
    local listed
    listed=$(sed -n '/^Files: [^*]/,/^Copyright/s/^Files:\|^ //p' debian/copyright)
    # shellcheck disable=SC2086  # patterns of names
    diff -u <(grep -rlE '^(#|//|/\*) SPDX-License-Identifier: GPL-2.0( \*/)?$' \
        --exclude='*.patch' guest scripts tests | sort) \
        <(find $listed -type f ! -name '*.patch' | sort)
}

check_headers
install_to_work
check_installed
check_readme
check_vhost_user
check_unit
check_traces
check_man_pages src/vgfence.symbols src/syncobj.symbols
check_symbols
check_debian libvgfence0.2 src/vgfence.symbols src/syncobj.symbols
check_debian libvgfence-virgl0.2 src/virgl/virgl.symbols
check_debian_files
check_debian_options
check_debian_copyright
if [ -f "$build/src/virgl/libvgfence-virgl.so" ]; then
    check_installed_virgl
    check_man_pages src/virgl/virgl.symbols
    check_exports virgl/libvgfence-virgl.so src/virgl/virgl.symbols
fi
