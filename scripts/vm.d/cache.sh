# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
#
# The cache: nothing in it is ever half made. A thing is made in a scratch directory, under the
# lock, and renamed into its place; its name says what it was made from.

# shellcheck disable=SC2154  # cache is set by scripts/vm
mkdir -p "$cache"/{apt,debs,log,scratch}

# Holds the cache's lock until scripts/vm ends or unlock_cache is called.
lock_cache() {
    exec {lock}>"$cache/lock"
    if ! flock --nonblock "$lock"; then
        note "waiting for another preparation to end"
        flock "$lock"
    fi
    rm -rf -- "${cache:?}"/scratch/* # what an interrupted preparation left
    scratch=$(mktemp -d "$cache/scratch/XXXXXX")
}

unlock_cache() {
    rm -rf -- "${scratch:?}"
    scratch=
    exec {lock}>&-
}

# keep FROM TO: moves a finished thing from the scratch directory to its place.
keep() {
    mkdir -p "$(dirname -- "$2")"
    mv -T -- "$1" "$2"
}

# The start of a hash of the words and files given: key WORD... -- FILE...
key() {
    local words=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        words+=("$1")
        shift
    done
    shift
    {
        printf '%s\n' "${words[@]}"
        cat -- /dev/null "$@"
    } | sha256sum | cut -c 1-16
}

# in_log LOG TEXT PROGRESS COMMAND...: runs a long command with its output in a log. PROGRESS is a
# pattern; on a terminal the lines that match it are counted aloud.
in_log() {
    local log=$1 text=$2 progress=$3 start=$SECONDS job
    shift 3
    note "$text, log: $log"
    "$@" </dev/null >>"$log" 2>&1 &
    job=$!
    while [ -t 2 ] && kill -0 "$job" 2>/dev/null; do
        printf '\rvm: %d s, %d steps ' $((SECONDS - start)) \
            "$(grep -c -- "$progress" "$log" || true)" >&2
        sleep 1
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
    if ! wait "$job"; then
        tail -n 20 "$log" >&2
        die "failed: $text (log: $log)"
    fi
    note "done in $((SECONDS - start)) s"
}
