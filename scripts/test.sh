# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# ./run test: sourced by ./run. Each step says what it does in one line; what fails is shown in full. The
# last line is the sum, "N passed, N failed, N skipped".

passed=0
failed=0
skipped=0
declare -a skip_reasons=() failures=()

say() {
    printf '%-34s %s\n' "$1" "$2"
}

skip() {
    say "$1" "SKIPPED: $2"
    skip_reasons+=("$1: $2")
    skipped=$((skipped + 1))
}

# step NAME COMMAND...: one check that counts as one test.
step() {
    local name=$1 log
    shift
    log=build/step.log
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

# suite NAME DIRECTORY STEPS [TEST...]: the meson tests of one build; counts what they count. STEPS: of the
# random test, which is slow under sanitizers.
suite() {
    export VGF_TEST_STEPS=$3
    local name=$1 directory=build/$2 log=build/suite.log counts run_failed=0
    rm -f "$directory/meson-logs/testlog.json"
    shift 3
    meson test -C "$directory" --no-rebuild --print-errorlogs "$@" >"$log" 2>&1 || run_failed=1
    counts=$(python3 scripts/count_tests.py "$directory/meson-logs/testlog.json") || {
        counts="0 1 0"
        run_failed=1
    }
    # shellcheck disable=SC2086
    add_counts "$name" "$run_failed" "$log" $counts
}

# add_counts NAME FAILED LOG PASSED FAILED SKIPPED
add_counts() {
    local name=$1 run_failed=$2 log=$3
    passed=$((passed + $4))
    skipped=$((skipped + $6))
    if [ "$run_failed" = 0 ] && [ "$5" = 0 ]; then
        say "$name" "$4 passed, $6 skipped"
        return
    fi
    failed=$((failed + ($5 > 0 ? $5 : 1)))
    failures+=("$name")
    say "$name" "$4 passed, $5 FAILED, $6 skipped"
    cat "$log"
}

sources() {
    git ls-files -co --exclude-standard -- '*.c' '*.h'
}

check_format() {
    sources | xargs clang-format --dry-run -Werror
}

# What of the libraries and of 'vgfence gpu' is built here: optional parts may be left out.
linted_sources() {
    sed -nE 's,.*"file": "\.\./\.\./((src|vhost|gpu)/[^"]*)".*,\1,p' build/plain/compile_commands.json | sort -u
}

check_lint() {
    linted_sources | xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p build/plain
}

# The library as others meet it.
check_consumers() {
    scripts/check_install.sh build/plain
}

check_documents() {
    python3 scripts/check_docs.py --self-test && python3 scripts/check_docs.py
}

check_minimal_build() {
    rm -rf build/minimal
    setup minimal -Dtools=false -Dtests=false -Dvirglrenderer=disabled -Dlibdrm=disabled && ninja -C build/minimal
}

sanitizer_options() {
    export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:detect_stack_use_after_return=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
}

# notes LOG: what tests say of themselves: which virglrenderer they ran with, and in which ways.
notes() {
    if [ -f "$1" ]; then
        sed -nE 's/^((virglrenderer|ran|skipped): .*)/    \1/p' "$1" | sort -u
    fi
}

# The plugin is a part of each build where there is virglrenderer; its tests are counted apart.
virgl_suite() {
    local name=$1 directory=$2
    if [ ! -f "build/$directory/src/virgl/libvgfence-virgl.so" ]; then
        skip "$name" "libvirglrenderer-dev (0.10.4 or later) is not installed"
        return
    fi
    suite "$name" "$directory" 0 --suite virgl
    notes "build/$directory/meson-logs/testlog.txt"
}

virgl_tests() {
    virgl_suite "virglrenderer plugin" plain
    virgl_suite "virglrenderer plugin, address" asan
    virgl_suite "virglrenderer plugin, threads" tsan
}

# The newest virglrenderer, from Debian sid, and with it EGL native fences. It runs beside the other virtual hosts, as
# User-Mode Linux has one processor.
sid_name="virglrenderer plugin, sid"
sid_log=build/vm-sid.log
sid_pid=

start_sid() {
    mkdir -p build/sid
    if ! scripts/vm --check --rootfs sid >"$sid_log" 2>&1 ||
        ! scripts/vm --prepare --rootfs sid >>"$sid_log" 2>&1; then
        skip "$sid_name" "$(tail -n 1 "$sid_log")"
        return
    fi
    scripts/vm --rootfs sid --build build/sid --timeout 900 scripts/test-virgl-in-vm build/sid \
        >"$sid_log" 2>&1 &
    sid_pid=$!
    # A job in the background does not see Ctrl-C.
    trap 'kill "$sid_pid" 2>/dev/null || true' EXIT
}

finish_sid() {
    local counts run_failed=0
    if [ -z "$sid_pid" ]; then
        return
    fi
    wait "$sid_pid" || run_failed=1
    trap - EXIT
    counts=$(last_sum "$sid_log")
    # shellcheck disable=SC2086
    add_counts "$sid_name" "$run_failed" "$sid_log" ${counts:-0 1 0}
    notes build/sid/meson-logs/testlog-uml.txt
}

# last_sum LOG: the numbers of its last "N passed, N failed, N skipped".
last_sum() {
    sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$1" | tail -n 1
}

# virtual_host KIND DIRECTORY: the same tests where the kernel has sync files. A host that cannot be prepared
# here, for want of a download say, is skipped, and loudly.
virtual_host() {
    local kind=$1 directory=$2 log=build/vm-$1.log counts
    if ! scripts/vm --check --kind "$kind" >"$log" 2>&1 ||
        ! scripts/vm --prepare --kind "$kind" >>"$log" 2>&1; then
        skip "virtual host, $kind" "$(tail -n 1 "$log")"
        return
    fi
    local run_failed=0
    scripts/vm --kind "$kind" --build "build/$directory" --timeout 900 \
        scripts/test-in-vm "build/$directory" >"$log" 2>&1 || run_failed=1
    counts=$(last_sum "$log")
    # shellcheck disable=SC2086
    add_counts "virtual host, $kind" "$run_failed" "$log" ${counts:-0 1 0}
}

# A guest whose GPU is 'vgfence gpu': its workloads and their checks, without and with fence passing; and what
# becomes of guest and device when one of them goes away.
guest_tests() {
    local log=build/guest.log counts run_failed=0
    if ! scripts/vm --check >"$log" 2>&1 || ! scripts/vm --prepare >>"$log" 2>&1; then
        skip "guest" "$(tail -n 1 "$log")"
        return
    fi
    step "guest, workloads" guest_workloads
    sed -n 's/^[0-9]* checks of .*/    &/p' build/step.log
    python3 tests/guest/test_guest.py build >"$log" 2>&1 </dev/null || run_failed=1
    counts=$(last_sum "$log")
    # shellcheck disable=SC2086
    add_counts "guest and device" "$run_failed" "$log" ${counts:-0 1 0}
    notes "$log"
}

# No row of its table may be missing, and it says how many checks were right.
guest_workloads() {
    scripts/guest --timeout 100 </dev/null >build/guest-table || return
    cat build/guest-table
    [ "$(grep -c '^[a-z]*, an\? .*[0-9]x ' build/guest-table)" = 5 ] &&
        grep -qE '^[0-9]{5,} checks of what the guest saw.*: all right$' build/guest-table
}

# A front end that knows nothing of us: a stock QEMU, with Debian's own kernel.
console_tests() {
    local log=build/console.log renderer
    if ! scripts/vm --check --kind client >"$log" 2>&1 ||
        ! scripts/vm --prepare --kind client >>"$log" 2>&1; then
        skip "console under stock QEMU" "$(tail -n 1 "$log")"
        return
    fi
    for renderer in soft virgl; do
        if [ $renderer = virgl ] && [ ! -f build/plain/src/virgl/libvgfence-virgl.so ]; then
            skip "console under stock QEMU, virgl" "libvirglrenderer-dev is not installed"
        else
            step "console under stock QEMU, $renderer" scripts/console --renderer $renderer
        fi
    done
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
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}

run_all_tests() {
    mkdir -p build
    sanitizer_options
    build plain
    build asan -Db_sanitize=address,undefined -Db_lundef=false
    build tsan -Db_sanitize=thread -Db_lundef=false

    if command -v clang-format >/dev/null; then
        step "formatting" check_format
    else
        skip "formatting" "clang-format is not installed"
    fi
    if command -v clang-tidy >/dev/null; then
        step "lint" check_lint
    else
        skip "lint" "clang-tidy is not installed"
    fi
    step "documents" check_documents
    step "headers, installed library, symbols" check_consumers
    step "build without optional parts" check_minimal_build
    suite "tests" plain 20000 --no-suite virgl
    suite "tests, address and undefined" asan 3000 --no-suite virgl
    suite "tests, threads" tsan 1500 --no-suite virgl
    virgl_tests
    unset VGF_TEST_STEPS
    start_sid
    virtual_host uml plain
    guest_tests
    console_tests
    virtual_host qemu asan
    finish_sid
    summary
}
