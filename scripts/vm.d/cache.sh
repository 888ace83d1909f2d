# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
#
# The cache: nothing in it is ever half made. A thing is made in a scratch directory, under a
# lock, and renamed into its place; its name says what it was made from.

# shellcheck disable=SC2154  # cache is set by scripts/vm
mkdir -p "$cache"/{debs,log,scratch} 2>/dev/null && [ -w "$cache/scratch" ] ||
    lack "cannot write to the cache, $cache (XDG_CACHE_HOME names another place)"

# lock_cache [NAME]: until scripts/vm ends or unlock_cache is called, nobody else makes what has
# this name.
lock_cache() {
    local name=${1:-uml}
    exec {lock}>"$cache/scratch/$name.lock"
    if ! flock --nonblock "$lock"; then
        note "waiting for another preparation of $name to end"
        flock "$lock" &
        wait $! # a signal ends this
    fi
    scratch=$cache/scratch/$name
    rm -rf -- "$scratch" # what an interrupted preparation left
    mkdir "$scratch"
}

unlock_cache() {
    rm -rf -- "${scratch:?}"
    scratch=
    exec {lock}>&-
}

# need_room MIB: what is made is not begun where it cannot end.
need_room() {
    local room
    room=$(df --output=avail -m "$cache" | tail -n 1)
    [ "$room" -ge "$1" ] || lack "$1 MiB of room are needed in $cache, there are ${room// /}"
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
# pattern; on a terminal the lines that match it are counted aloud. What the command
# finds lacking is lacking here too.
in_log() {
    local log=$1 text=$2 progress=$3 start=$SECONDS job status=0
    shift 3
    note "$text, log: $log"
    set -m # for a process group of its own, with which all that it starts ends
    "$@" </dev/null >>"$log" 2>&1 &
    set +m
    job=$!
    groups+=("$job")
    while [ -t 2 ] && kill -0 "$job" 2>/dev/null; do
        printf '\rvm: %d s, %d steps ' $((SECONDS - start)) \
            "$(grep -c -- "$progress" "$log" || true)" >&2
        sleep 1
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
    wait "$job" || status=$?
    if [ $status -ne 0 ]; then
        tail -n 20 "$log" >&2
        [ $status -ne 77 ] || lack "lacking: $text (log: $log)"
        die "failed: $text (log: $log)"
    fi
    groups=()
    note "done in $((SECONDS - start)) s"
}
