#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check_install.sh BUILD: what others meet of the library. Its headers compile alone, in C and C++; a program
# builds against the installed library through pkg-config and runs; it exports what src/vgfence.symbols
# lists, and src/syncobj.symbols where it has these.
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

check_installed() {
    DESTDIR=$work meson install -C "$build" --no-rebuild --quiet
    PKG_CONFIG_PATH=$(dirname "$(find "$work" -name vgfence.pc)")
    export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR=$work
    # shellcheck disable=SC2046
    cc -std=c11 -Wall -Wextra -Werror tests/consumer.c -o "$work/consumer" \
        $(pkg-config --cflags --libs vgfence)
    LD_LIBRARY_PATH=$(dirname "$(find "$work" -name libvgfence.so)") "$work/consumer"
}

check_symbols() {
    local lists=(src/vgfence.symbols)
    if [ "$(pkg-config --variable=syncobj vgfence)" = true ]; then
        lists+=(src/syncobj.symbols)
    fi
    nm -D --defined-only "$build/src/libvgfence.so" | awk '{ print $3 }' | sort |
        diff -u <(sort "${lists[@]}") -
}

check_headers
check_installed
check_symbols
