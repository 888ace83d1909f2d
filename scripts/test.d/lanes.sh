# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Parts of the suite beside each other. A lane runs its parts one after the other, and several lanes
# may share theirs; what a part prints and counts is kept in build/test/, and shown in the order of
# the list, whichever ends first.

passed=0
failed=0
skipped=0
declare -a skip_reasons=() failures=()
declare -a lanes=() # processes, each with a process group of its own
parts=()            # in the order of showing
results=build/test

# --- in a lane

# lane PART...: starts a lane with these functions.
lane() {
    parts+=("$@")
    start_lane run_parts "$@"
}

# shared_lanes COUNT GROUP...: so many lanes. Each takes the first group that none has taken, until
# none is left. A group is parts that may not run beside each other, in one word.
shared_lanes() {
    local count=$1 group i
    shift
    for group; do
        # shellcheck disable=SC2206  # one word a part
        parts+=($group)
    done
    for ((i = 0; i < count; i++)); do
        start_lane take_groups "$@"
    done
}

start_lane() {
    set -m # for the process group, with which all ends that a lane has started
    "$@" </dev/null 3>&- 4>&- &
    set +m
    lanes+=($!)
}

take_groups() {
    local group
    for group; do
        # Of several lanes only one makes the directory.
        if mkdir "$results/${group%% *}.taken" 2>/dev/null; then
            # shellcheck disable=SC2086  # one word a part
            run_parts $group
        fi
    done
}

run_parts() {
    local part
    for part; do
        run_part "$part"
        echo "$part" >"$results/events"
    done
}

run_part() {
    part=$1
    : >"$results/$part.out"
    (
        "$part"
        [ $((passed + failed + skipped)) -gt 0 ] || fail_part "counted nothing"
        save_counts
    ) >"$results/$part.out" 2>&1 || true
    [ -e "$results/$part.counts" ] || save_failure "ended early"
}

# save_failure REASON: of a part that has saved nothing.
save_failure() {
    touch "$results/$part.out"
    (
        fail_part "$1"
        save_counts
    )
}

fail_part() {
    passed=0 failed=1 skipped=0 skip_reasons=() failures=("$part: $1")
}

save_counts() {
    declare -p passed failed skipped skip_reasons failures >"$results/$part.new"
    mv "$results/$part.new" "$results/$part.counts"
}

# --- what watches them

open_lanes() {
    exec 4>build/test.lock
    if ! flock --nonblock 4; then
        echo "./run test: another one runs in this checkout" >&2
        exit 1
    fi
    rm -rf $results
    mkdir -p $results
    mkfifo $results/events
    exec 3<>$results/events
    trap end_lanes EXIT
    # Another signal would cancel what ends with this script.
    trap 'trap "" HUP INT TERM; exit 129' HUP
    trap 'trap "" HUP INT TERM; exit 130' INT
    trap 'trap "" HUP INT TERM; exit 143' TERM
}

# With all that they have started. A virtual host takes a moment to end.
end_lanes() {
    local i
    signal_lanes TERM || true
    for ((i = 0; i < 100; i++)); do
        signal_lanes 0 || break
        sleep 0.1
    done
    signal_lanes KILL || true
    wait
} 2>/dev/null

# False if no process is left in any.
signal_lanes() {
    local lane status=1
    for lane in "${lanes[@]}"; do
        if kill -s "$1" -- "-$lane"; then status=0; fi
    done
    return $status
}

# The lanes' parts are shown as soon as all before them have been.
show_parts() {
    local part
    for part in "${parts[@]}"; do
        until [ -e "$results/$part.counts" ]; do
            show_progress
            if ! read -r -t 1 <&3 && ! lanes_live; then lose_part; fi
        done
        hide_progress
        cat "$results/$part.out"
        add_part
    done
    wait # not for each: the shell forgets one that has ended long ago, and says so
    lanes=()
}

lanes_live() {
    local lane
    for lane in "${lanes[@]}"; do
        if kill -0 "$lane" 2>/dev/null; then return; fi
    done
    return 1
}

# Its lane was killed.
lose_part() {
    [ -e "$results/$part.counts" ] || save_failure "its process was killed"
}

# Sums up: the counts that a part has saved are these variables.
add_part() {
    local sum=("$passed" "$failed" "$skipped")
    local reasons=("${skip_reasons[@]}") names=("${failures[@]}")
    # shellcheck source=/dev/null
    . <(sed 's/^declare -[^ ]* //' "$results/$part.counts")
    passed=$((passed + sum[0]))
    failed=$((failed + sum[1]))
    skipped=$((skipped + sum[2]))
    skip_reasons=("${reasons[@]}" "${skip_reasons[@]}")
    failures=("${names[@]}" "${failures[@]}")
}

# On a terminal: what runs now.
show_progress() {
    local part running=
    if [ ! -t 1 ]; then return; fi
    for part in "${parts[@]}"; do
        if [ -e "$results/$part.out" ] && [ ! -e "$results/$part.counts" ]; then
            running+=", $part"
        fi
    done
    printf '\r\033[K%d s, running: %s' $SECONDS "${running#, }"
}

hide_progress() {
    [ ! -t 1 ] || printf '\r\033[K'
}

summary() {
    local line
    echo
    for line in "${skip_reasons[@]}"; do
        echo "skipped: $line"
    done
    for line in "${failures[@]}"; do
        echo "failed: $line"
    done
    printf 'in %d min %d s, %d s of CPU time\n' $((SECONDS / 60)) $((SECONDS % 60)) \
        "$(cpu_seconds $$)"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}

# --- counting

# cpu_seconds PROCESS: of it and of those that it has waited for.
cpu_seconds() {
    local stat
    stat=$(sed 's/.*) //' "/proc/$1/stat")
    # shellcheck disable=SC2086
    set -- $stat
    echo $(((${12} + ${13} + ${14} + ${15}) / $(getconf CLK_TCK)))
}

# What say tells the time of; build/test/times has the CPU time too.
begin() {
    local process=$BASHPID
    start=$SECONDS
    start_cpu=$(cpu_seconds "$process")
}

# say NAME RESULT
say() {
    local seconds=$((SECONDS - start)) process=$BASHPID
    printf '%-34s %-32s %4d s\n' "$1" "$2" $seconds
    printf '%s\t%d\t%d\n' "$1" $seconds $(($(cpu_seconds "$process") - start_cpu)) \
        >>"$results/times"
}

skip() {
    printf '%-34s %s\n' "$1" "SKIPPED: $2"
    skip_reasons+=("$1: $2")
    skipped=$((skipped + 1))
}

# step NAME COMMAND...: one check that counts as one test.
step() {
    local name=$1 log=$results/$part.step
    shift
    begin
    if "$@" >"$log" 2>&1; then
        say "$name" ok
        passed=$((passed + 1))
    else
        say "$name" FAILED
        cat "$log"
        failures+=("$name")
        failed=$((failed + 1))
    fi
}

# add_counts NAME FAILED LOG PASSED FAILED SKIPPED. At least so many must have passed: $least.
add_counts() {
    local name=$1 run_failed=$2 log=$3
    passed=$((passed + $4))
    skipped=$((skipped + $6))
    # One that has run nothing has failed.
    if [ "$run_failed" = 0 ] && [ "$5" = 0 ] && [ $(($4 + $6)) -gt 0 ] &&
        [ "$4" -ge "${least-0}" ]; then
        say "$name" "$4 passed, $6 skipped"
        return
    fi
    failed=$((failed + ($5 > 0 ? $5 : 1)))
    failures+=("$name")
    say "$name" "$4 passed, $5 FAILED, $6 skipped"
    cat "$log"
}

# last_sum LOG: the numbers of its last "N passed, N failed, N skipped".
last_sum() {
    sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$1" | tail -n 1
}

# counted NAME LOG COMMAND...: a command whose last line is such a sum.
counted() {
    local name=$1 log=$2 run_failed=0 counts
    shift 2
    begin
    "$@" >"$log" 2>&1 </dev/null || run_failed=1
    counts=$(last_sum "$log")
    # shellcheck disable=SC2086
    add_counts "$name" "$run_failed" "$log" ${counts:-0 1 0}
}
