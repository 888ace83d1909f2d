# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# ./run test: sourced by ./run. Each step says what it does in one line; what fails is shown in
# full. The last line is the sum, "N passed, N failed, N skipped".

# shellcheck source-path=SCRIPTDIR
. scripts/test.d/lanes.sh

# suite NAME DIRECTORY STEPS [TEST...]: the meson tests of one build; counts what they count. STEPS:
# of the random test, which is slow under sanitizers.
suite() {
    local name=$1 directory=build/$2 steps=$3 log=$results/$part.suite counts run_failed=0
    begin
    rm -f "$directory/meson-logs/testlog.json"
    shift 3
    # The time limits are for what hangs, not for a machine that is busy.
    VGF_TEST_STEPS=$steps meson test -C "$directory" --no-rebuild --print-errorlogs \
        --timeout-multiplier 5 "$@" \
        >"$log" 2>&1 || run_failed=1
    counts=$(python3 scripts/count_tests.py "$directory/meson-logs/testlog.json") || {
        counts="0 1 0"
        run_failed=1
    }
    # shellcheck disable=SC2086
    add_counts "$name" "$run_failed" "$log" $counts
}

# git lists nothing if this is no clone, or another user's.
sources() {
    git ls-files -co --exclude-standard -- '*.c' '*.h' 2>/dev/null ||
        find . -path ./build -prune -o -name '*.[ch]' -print
}

check_format() {
    sources | xargs clang-format --dry-run -Werror
}

# The library as others meet it.
check_consumers() {
    scripts/check_install.sh build/plain
}

check_documents() {
    python3 scripts/check_docs.py --self-test && python3 scripts/check_docs.py
}

check_includes() {
    python3 scripts/check_includes.py --self-test && python3 scripts/check_includes.py
}

check_columns() {
    python3 scripts/check_columns.py --self-test && python3 scripts/check_columns.py
}

check_minimal_build() {
    local targets
    rm -rf build/minimal build/no-tools build/no-libdrm
    (setup minimal -Dtools=false -Dtests=false -Dvirglrenderer=disabled -Dlibdrm=disabled \
        -Dman=disabled) &&
        ninja -C build/minimal &&
        (setup no-tools -Dtools=false -Dman=disabled) &&
        (setup no-libdrm -Dlibdrm=disabled -Dman=disabled) &&
        targets=$(ninja -C build/no-libdrm -t targets all) &&
        ! grep tests/test_syncobj <<<"$targets"
}

# What another compiler makes of it. A warning fails this check.
check_clang() {
    (CC=$(compiler clang) VGFENCE_WERROR=1 setup clang -Dman=disabled) && ninja -C build/clang &&
        meson test -C build/clang --no-rebuild --print-errorlogs order in_fences teardown \
            callbacks vhost_user
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
    shift 2
    suite "$name" "$directory" 0 --suite virgl "$@"
    notes "build/$directory/meson-logs/testlog.txt"
}

# prepared NAME [ARGUMENT...]: whether such a virtual host can be started. What this machine lacks
# is a skip; all else is our doing, and has failed.
prepared() {
    local name=$1 log=$results/$part.prepare status=0
    shift
    begin
    { scripts/vm --check "$@" && scripts/vm --prepare "$@"; } >"$log" 2>&1 || status=$?
    case $status in
    0) return ;;
    77) skip "$name" "$(tail -n 1 "$log")" ;;
    *) add_counts "$name" 1 "$log" 0 1 0 ;;
    esac
    return 1
}

# enters NAME: whether Debian sid's programs can run by this machine's own kernel; see prepared.
enters() {
    local name=$1 log=$results/$part.enter status=0
    begin
    scripts/vm --rootfs sid --enter true >"$log" 2>&1 || status=$?
    case $status in
    0) return ;;
    77) skip "$name" "$(tail -n 1 "$log")" ;;
    *) add_counts "$name" 1 "$log" 0 1 0 ;;
    esac
    return 1
}

# boots NAME [ARGUMENT...]: one failure, and the end of the console, instead of one for each test.
boots() {
    local name=$1 log=$results/$part.boot
    shift
    begin
    if scripts/vm --timeout 60 "$@" true >"$log" 2>&1; then return; fi
    add_counts "$name: not run" 1 "$log" 0 1 0
    return 1
}

# For the kind uml: the newest kernel, if it can be had. A system call takes a third of the time
# there. If it cannot, guest_newest says why.
choose_kernel() {
    local status=0
    if [ -n "${VGFENCE_KERNEL-}" ]; then return; fi
    { scripts/vm --check --kernel 7.3 && scripts/vm --prepare --kernel 7.3; } \
        >"$results/$part.prepare" 2>&1 || status=$?
    if [ $status = 0 ]; then export VGFENCE_KERNEL=7.3; fi
}

# virtual_host KIND DIRECTORY [OPTION|TEST...]: the same tests where the kernel has sync files.
virtual_host() {
    local kind=$1 directory=$2 name="virtual host, $1"
    shift 2
    if [ "$kind" = uml ]; then name+=", Linux ${VGFENCE_KERNEL:-6.12}"; fi
    if [ "$directory" = asan ]; then name+=", address"; fi
    prepared "$name" --kind "$kind" || return 0
    # The kernel is ours: if all is skipped, it lacks what it should have.
    least=${least-1} counted "$name" "build/vm-$kind.log" \
        scripts/vm --kind "$kind" --build "build/$directory" --timeout 3600 \
            scripts/test-in-vm "build/$directory" "$@"
}

# The newest virglrenderer, from Debian sid; and with the kernel's sync files EGL native fences. If
# the first cannot be had at this machine's speed, all of it is in the virtual host.
virgl_sid() {
    local name="virglrenderer plugin, sid" sid=(scripts/vm --rootfs sid --build build/virgl-sid)
    local status=0
    # Its own build: meson builds what its tests need, and does not wait for others' ninja.
    local test=(scripts/test-virgl-in-vm build/virgl-sid)
    choose_kernel
    mkdir -p build/virgl-sid
    prepared "$name" --rootfs sid || return 0
    # What differs from this machine's is virglrenderer and Mesa, not how often.
    export VGF_TEST_SUBMISSIONS=${VGF_TEST_SUBMISSIONS:-1000}
    begin
    "${sid[@]}" --enter true >"$results/$part.enter" 2>&1 || status=$?
    if [ $status = 77 ]; then
        counted "$name" build/vm-sid.log "${sid[@]}" --timeout 3600 "${test[@]}"
        notes build/virgl-sid/meson-logs/testlog-uml.txt
        return
    elif [ $status != 0 ]; then
        add_counts "$name" 1 "$results/$part.enter" 0 1 0
        return
    fi
    counted "$name" build/virgl-sid.log "${sid[@]}" --enter "${test[@]}"
    notes build/virgl-sid/meson-logs/testlog-here.txt
    export VGF_TEST_WAYS="GL wait"
    counted "$name, sync files" build/vm-sid.log \
        "${sid[@]}" --timeout 3600 "${test[@]}" virgl virgl_wait
    notes build/virgl-sid/meson-logs/testlog-uml.txt
}

# What a guest shows in a window of a compositor that takes dma-bufs and sync files, which Debian
# 12's does not without a GPU.
windows_sid() {
    local name="windows without a copy, sid" sid=(scripts/vm --rootfs sid --build build/sid)
    choose_kernel
    mkdir -p build/sid
    prepared "$name" --rootfs sid || return 0
    enters "$name" || return 0
    step "$name" show_windows "${sid[@]}"
    sed -nE -e '/^(GL renderer|dmabuf support|explicit sync|a Wayland window)/s/^/    /p' \
        -e '/^labwc [0-9]/s/^/    /p' \
        -e '/none is shown undrawn|its fence is passed|^beside a monitor/s/^/    /p' \
        "$results/$part.step"
}

show_windows() {
    "$@" --enter scripts/build-in-root build/sid tools/vgfence tests/test_wayland_syncobj \
        tests/test_wayland_frames tests/test_cross_domain_frames &&
        "$@" --enter build/sid/tests/test_wayland_syncobj &&
        "$@" --timeout 900 scripts/test-windows-in-vm build/sid
}

# Virtual hosts whose kernel dies. The tests of a kind that is not there say so themselves.
dead_hosts() {
    local kind
    for kind in uml qemu client; do
        prepared "virtual hosts that die, $kind" --kind "$kind" || true
    done
    counted "virtual hosts that die" build/dead-hosts.log python3 tests/guest/test_vm.py
    notes build/dead-hosts.log
}

# A guest whose GPU is 'vgfence gpu': its workloads and their checks, without and with fence
# passing; and what becomes of guest and device when one of them goes away.
guest_tests() {
    prepared guest || return 0
    boots guest || return 0
    step "guest, workloads" guest_workloads 6.12
    sed -n 's/^[0-9]* checks of .*/    &/p' "$results/$part.step"
    step "guest, gain by length" scripts/gain --machine uml --rounds 1
    if [ -x build/plain/tests/guest/gl_frames ]; then
        step "guest, frames of OpenGL" scripts/frames --machine uml --frames 10 --rounds 1
    else
        skip "guest, frames of OpenGL" "libgbm-dev, libegl-dev and libepoxy-dev are not installed"
    fi
    counted "guest and device" build/guest.log python3 tests/guest/test_guest.py build
    notes build/guest.log
}

# The workloads with the newest kernel. All else of a guest with it is in ./run release-check
# kernels.
guest_newest() {
    local name="guest, Linux 7.3" kernel=(--kernel 7.3)
    prepared "$name" "${kernel[@]}" || return 0
    boots "$name" "${kernel[@]}" || return 0
    step "$name, workloads" guest_workloads 7.3
    sed -n 's/^[0-9]* checks of .*/    &/p' "$results/$part.step"
}

# What somebody has who patches nothing but a module: stock QEMU, stock kernels. The first with two
# processors, if there are two; the second once, for programs that do not ask for fence passing, and
# in memory of the host.
guest_stock() {
    local name="guest under stock QEMU, Linux 6.12"
    if prepared "$name" --kind stock; then
        VGFENCE_VM_PROCESSORS='' step "$name, workloads" guest_workloads 6.12 --machine stock
        sed -n 's/^[0-9]* checks of .*/    &/p' "$results/$part.step"
        step "$name, unbound while it works" unbind_tests 6.12
    fi
    name="guest under stock QEMU, Linux 7.3"
    if prepared "$name" --kind stock --kernel 7.3; then
        step "$name, every context" scripts/guest --machine stock --kernel 7.3 --all --scanouts 1 \
            --timeout 600 --hostmem 256M vgfence-guest --jobs 100 --rounds 1 --host-memory all
        step "$name, unbound while it works" unbind_tests 7.3
    fi
}

# The guest's Wayland clients as windows here: a stock one in a picture of Weston's, and frames of
# our own that are looked at.
guest_wayland() {
    local name="Wayland clients under stock QEMU"
    if [ ! -x build/plain/tests/guest/vgfence-frame-compositor ]; then
        skip "$name" "libwayland-dev or wayland-protocols is not installed"
        return
    fi
    prepared "$name" --kind stock || return 0
    step "$name, frames" scripts/wayland --frames 200
    if prepared "$name, frames in dma-bufs" --kind uml; then
        step "Wayland clients in User-Mode Linux, latency" scripts/wayland --latency --machine uml \
            --rounds 5
        step "$name, frames in dma-bufs" wayland_dma_bufs
    fi
    if command -v weston >/dev/null; then
        step "$name, weston-simple-shm" scripts/wayland --picture build/wayland.png \
            weston-simple-shm
    else
        skip "$name, weston-simple-shm" "weston is not installed"
    fi
    if ! command -v weston-simple-shm >/dev/null || ! command -v grim >/dev/null; then
        skip "$name, labwc" "weston (for its clients) or grim is not installed"
    elif prepared "$name, labwc" --rootfs sid && enters "$name, labwc"; then
        step "$name, labwc" scripts/wayland --compositor labwc --picture build/wayland-labwc.png \
            weston-simple-shm
    fi
}

# Where there is udmabuf: the guest is in a virtual host, whose kernel is not the guests' elsewhere.
wayland_dma_bufs() (
    choose_kernel
    VGFENCE_CACHE=${XDG_CACHE_HOME:-~/.cache}/vgfence scripts/vm --timeout 1200 \
        scripts/test-wayland-in-vm
)

# Vulkan by Venus: its programs in the guest, and the device, are of Debian sid.
guest_vulkan() {
    local name="guest under stock QEMU, Vulkan"
    mkdir -p build/sid
    prepared "$name" --kind stock || return 0
    prepared "$name" --rootfs sid || return 0
    enters "$name" || return 0
    counted "$name" build/guest-vulkan.log python3 tests/guest/test_vulkan.py build
}

# unbind_tests KERNEL: both ways, without a word of the kernel's.
unbind_tests() {
    # shellcheck disable=SC2016  # for the guest's shell
    scripts/guest --machine stock --kernel "$1" --scanouts 1 --timeout 300 sh -ec '
        dmesg -c >/dev/null
        for passing in --passing --no-passing; do vgfence-guest $passing unbind; done
        ! dmesg | grep -E "timed out|WARNING|BUG"'
}

# guest_workloads KERNEL [OPTION...]: no row of its table may be missing, and it says how many
# checks were right.
guest_workloads() {
    local table=build/guest-table-$part-$1
    scripts/guest "${@:2}" --kernel "$1" --timeout 600 </dev/null >"$table" || return
    cat "$table"
    [ "$(grep -c '^[a-z]*, an\? .*[0-9]x ' "$table")" = 6 ] &&
        grep -qE '^[0-9]{5,} checks of what the guest saw.*: all right$' "$table"
}

# A front end that knows nothing of us: a stock QEMU, with Debian's own kernel.
console_tests() {
    local renderer name displays=()
    prepared "console under stock QEMU" --kind client || return 0
    for renderer in soft virgl; do
        if [ $renderer = virgl ] && [ ! -f build/plain/src/virgl/libvgfence-virgl.so ]; then
            skip "console under stock QEMU, virgl" "libvirglrenderer-dev is not installed"
        else
            step "console under stock QEMU, $renderer" scripts/console --renderer $renderer
        fi
    done
    name="console under QEMU's generic device"
    if pkg-config --exists libvncserver; then
        name+=", by VNC"
        displays+=(--vnc)
    else
        skip "console by VNC" "libvncserver-dev is not installed"
    fi
    if ! pkg-config --exists wayland-client wayland-protocols; then
        skip "console in a Wayland window" "libwayland-dev or wayland-protocols is not installed"
    elif ! command -v weston >/dev/null; then
        skip "console in a Wayland window" "weston is not installed"
    else
        name+=", in a Wayland window"
        displays+=(--wayland)
    fi
    step "$name" scripts/console --generic "${displays[@]}"
}

# The same with a window, as docs/gpu.md has it.
flips_tests() {
    local renderer name log=$results/$part.flips status
    prepared "page flips under stock QEMU" --kind client || return 0
    for renderer in soft virgl; do
        name="page flips under stock QEMU, $renderer"
        if [ $renderer = virgl ] && [ ! -f build/plain/src/virgl/libvgfence-virgl.so ]; then
            skip "$name" "libvirglrenderer-dev is not installed"
            continue
        fi
        begin
        status=0
        scripts/flips --renderer $renderer >"$log" 2>&1 </dev/null || status=$?
        case $status in
        0) add_counts "$name" 0 "$log" 1 0 0 ;;
        77) skip "$name" "$(tail -n 1 "$log")" ;;
        *) add_counts "$name" 1 "$log" 0 1 0 ;;
        esac
    done
}

# QEMU's window with dma-bufs, in a virtual host that has udmabuf.
front_end_dma_bufs() {
    local name="dma-bufs for stock QEMU's window" qemu
    choose_kernel
    prepared "$name" --kind client || return 0
    prepared "$name" || return 0
    if ! command -v Xvnc >/dev/null; then
        skip "$name" "tigervnc-standalone-server is not installed"
        return
    fi
    mapfile -t qemu < <(scripts/vm --locate --kind client | sed 1,2d)
    # shellcheck disable=SC2016  # for the other shell
    counted "$name" build/front-end-dma-bufs.log \
        scripts/vm --timeout 300 sh -c 'exec python3 tests/test_front_end_qemu.py "$@" 2>&1' \
            sh build/plain/tools/vgfence "${qemu[@]}"
    notes build/front-end-dma-bufs.log
}

# QEMU's own GPU, with libvgfence-virglrenderer in virglrenderer's place. Nothing depends on the
# rates here: other lanes run.
in_place_stock() {
    local name="in place under stock QEMU" log=$results/$part.in-place status=0
    if [ ! -x build/plain/tests/guest/gl_frames ]; then
        skip "$name" "libgbm-dev, libegl-dev and libepoxy-dev are not installed"
        return
    fi
    prepared "$name" --kind gl --rootfs sid || return 0
    enters "$name" || return 0
    begin
    scripts/in-place --rounds 1 --runs 1 --frames 20 >"$log" 2>&1 </dev/null || status=$?
    case $status in
    0)
        add_counts "$name" 0 "$log" 1 0 0
        sed -n 's/^with.*:/    &/p' "$log"
        ;;
    77) skip "$name" "$(tail -n 1 "$log")" ;;
    *) add_counts "$name" 1 "$log" 0 1 0 ;;
    esac
}

# QEMU's own GPU beside ours. What the numbers are is left to ./run compare itself.
compare_stock() {
    local name="compared with stock QEMU's GPU" log=$results/$part.compare status=0
    local table=build/compare.md json=build/compare.json svg=build/compare.svg
    if [ ! -x build/plain/tests/guest/gl_jobs ] || [ ! -x build/plain/tests/guest/gl_frames ]; then
        skip "$name" "libvirglrenderer-dev, libgbm-dev, libegl-dev or libepoxy-dev is missing"
        return
    fi
    prepared "$name" --kind stock || return 0
    prepared "$name" --kind gl --rootfs sid || return 0
    enters "$name" || return 0
    begin
    { scripts/compare --rounds 2 --jobs 60 --frames 10 --delay 3 --mesa 10 --way passes \
        --markdown --json $json --svg $svg >$table && cat $table &&
        python3 tests/guest/check_compare.py $table $json $svg; } >"$log" 2>&1 </dev/null ||
        status=$?
    case $status in
    0) add_counts "$name" 0 "$log" 1 0 0 ;;
    77) skip "$name" "$(tail -n 1 "$log")" ;;
    *) add_counts "$name" 1 "$log" 0 1 0 ;;
    esac
}

# --- the parts

formatting() {
    if command -v clang-format >/dev/null; then
        step "formatting" check_format
    else
        skip "formatting" "clang-format is not installed"
    fi
}

lint() {
    if command -v clang-tidy >/dev/null; then
        step "lint" scripts/lint
        sed -n 's/^[0-9]* files, .*/    &/p' "$results/$part.step"
    else
        skip "lint" "clang-tidy is not installed"
    fi
}

documents() {
    step "documents" check_documents
    step "includes" check_includes
    step "columns" check_columns
}

# The suite's own arithmetic, and that of what is not part of it.
counting() {
    counted "how tests are counted" build/counting.log python3 tests/test_sums.py
    counted "what scripts keep" build/scripts.log python3 tests/test_scripts.py
}

consumers() {
    step "headers, installed library, symbols" check_consumers
}

minimal_build() {
    step "build without optional parts" check_minimal_build
}

clang_build() {
    if command -v clang >/dev/null; then
        step "build with clang" check_clang
    else
        skip "build with clang" "clang is not installed"
    fi
}

# Not for what it finds in a second each, but for what it says. So its inputs are not the cache's,
# and its random tests have the same numbers each time.
check_soak() {
    local name
    rm -rf build/soak-test
    (VGFENCE_WERROR=1 build_soak) && ninja -C build/soak tests/test_undefined || return
    # As somebody runs it by hand.
    (
        unset ASAN_OPTIONS UBSAN_OPTIONS
        build/soak/tests/test_undefined &&
            scripts/soak --cache build/soak-test --seed 1 --turn 1 0.0001
    ) || return
    for name in fuzz_{submit_3d,snapshot,vhost_user,control_queue} \
        test_{model,cross_domain_random,wayland_random}; do
        if [ ! -e "build/plain/tests/$name" ]; then continue; fi
        [ "$(grep -c "\"$name\": [1-9]" build/soak-test/totals.json)" = 1 ] || {
            echo "$name did not run"
            return 1
        }
    done
}

soak_shape() {
    if command -v clang >/dev/null; then
        step "soak, for a moment" check_soak
        sed -n 's/^left out: .*/    &/p' "$results/$part.step"
    else
        skip "soak, for a moment" "clang is not installed"
    fi
}

# The crates, with the libraries of the plain build.
rust() {
    if command -v cargo >/dev/null; then
        counted "Rust crates" build/rust.log scripts/rust build/plain
        notes build/rust.log
    else
        skip "Rust crates" "cargo is not installed"
    fi
}

# All orders of the library's threads.
model_check() {
    if command -v spin >/dev/null; then
        counted "model of threads" build/promela.log python3 tests/promela/test_promela.py
    else
        skip "model of threads" "spin is not installed"
    fi
}

# The library and its unit tests with another libc. The program needs libraries that are not here
# for musl.
tests_musl() {
    local name="tests, musl" log=$results/$part.prepare root=$PWD/build/musl-root status=0
    if ! command -v musl-gcc >/dev/null; then
        skip "$name" "musl-tools is not installed"
        return
    fi
    begin
    scripts/musl-root "$root" >"$log" 2>&1 || status=$?
    if [ $status = 77 ]; then
        skip "$name" "$(tail -n 1 "$log")"
        return
    elif [ $status = 0 ]; then
        (VGFENCE_WERROR=1 CC=$(compiler musl-gcc) CFLAGS="-isystem $root/include" \
            build musl -Dpkg_config_path="$root" -Dtools=false -Dlibdrm=disabled \
            -Dvirglrenderer=disabled -Dman=disabled) >"$log" 2>&1 || status=$?
    fi
    if [ $status = 0 ]; then
        VGF_TEST_THREAD_STEPS=${VGF_TEST_THREAD_STEPS:-1000} VGF_TEST_GUESTS=${VGF_TEST_GUESTS:-2} \
            suite "$name" musl 1500 --no-suite slow
    else
        add_counts "$name" 1 "$log" 0 1 0
    fi
}

tests_plain() {
    suite "tests" plain "${VGF_TEST_STEPS:-8000}" --no-suite virgl
}

tests_quick() {
    suite "tests, but the slow ones" plain 300 --no-suite virgl --no-suite slow
}

tests_address() {
    shorten_sanitized
    export VGF_TEST_THREAD_STEPS=${VGF_TEST_THREAD_STEPS:-1000}
    suite "tests, address and undefined" asan 1500 --no-suite virgl --no-suite bench
}

tests_threads() {
    shorten_sanitized
    export VGF_TEST_THREAD_STEPS=${VGF_TEST_THREAD_STEPS:-1500}
    suite "tests, threads" tsan 1500 --no-suite virgl --no-suite bench --no-suite no_threads
}

# Of the traces the one with most jobs at once, which is replayed at each pace too.
shorten_sanitized() {
    export VGF_TEST_TRACES=${VGF_TEST_TRACES:-storm-passing}
    export VGF_TEST_GUESTS=${VGF_TEST_GUESTS:-2}
}

virgl_plain() {
    virgl_suite "virglrenderer plugin" plain
}

virgl_address() {
    shorten_virgl
    virgl_suite "virglrenderer plugin, address" asan
}

virgl_threads() {
    shorten_virgl
    virgl_suite "virglrenderer plugin, threads" tsan --no-suite no_threads
}

# Sanitizers watch all that Mesa and virglrenderer do, at length. Of test_virgl they see the way
# that has most threads; test_virgl_flags has the others.
shorten_virgl() {
    export VGF_TEST_WAYS=${VGF_TEST_WAYS:-ASYNC_FENCE_CB}
    export VGF_TEST_SUBMISSIONS=${VGF_TEST_SUBMISSIONS:-500}
}

# In User-Mode Linux a sanitized program is as fast as here, but for its system calls. With 6.12 it
# does not run there, but in the emulated processor, which takes twice as long for it.
host_uml() {
    choose_kernel
    if ! uml_is_sanitized; then
        virtual_host uml plain
        return
    fi
    virtual_host uml asan --no-suite virgl
    if [ "$failed" != 0 ]; then
        echo "    left out: the plugin, and what runs with Linux 6.12"
        return
    fi
    if [ -f build/plain/src/virgl/libvgfence-virgl.so ]; then
        least=0 virtual_host uml plain virgl virgl_wait # Mesa's driver may be missing
    fi
    # The one that is the default has the same interfaces.
    VGFENCE_KERNEL=6.12 virtual_host uml plain sync_file dma_buf syncobj
}

uml_is_sanitized() {
    [ "${VGFENCE_KERNEL:-6.12}" != 6.12 ]
}

host_qemu() {
    local builds=(asan)
    choose_kernel
    if uml_is_sanitized; then builds=(plain --from drm=build/asan); fi
    virtual_host qemu "${builds[@]}"
    notes "build/${builds[0]}/meson-logs/testlog-qemu.txt"
}

# Those that take longest come first, after the shortest: what is left at the end is short. In one
# string are those that share the log of a build's tests.
groups=(
    "formatting documents"
    virgl_sid guest_wayland guest_tests
    "tests_address virgl_address"
    "tests_plain virgl_plain"
    "tests_threads virgl_threads"
    windows_sid guest_vulkan host_qemu in_place_stock model_check dead_hosts guest_stock host_uml
    compare_stock lint rust clang_build console_tests flips_tests soak_shape counting minimal_build
    tests_musl guest_newest front_end_dma_bufs consumers
)

# Two more than there are processors, because each waits at times; but a guest and a virtual host
# take a GiB or two each.
count_lanes() {
    local most=5 gib
    gib=$(awk '$1 == "MemAvailable:" { print int($2 / 1024 / 1024) }' /proc/meminfo)
    if [ $((gib / 3)) -lt $most ]; then most=$((gib < 6 ? 2 : gib / 3)); fi
    echo $(($(nproc) + 2 < most ? $(nproc) + 2 : most))
}

run_tests() {
    check_parts "$@"
    # Two emulated processors wait for each other, the more so if those here have other work: they
    # take a third more CPU time than one.
    export VGFENCE_VM_PROCESSORS=${VGFENCE_VM_PROCESSORS:-1}
    mkdir -p build
    sanitizer_options
    open_lanes
    build_all
    if [ $# -gt 0 ]; then
        lane "$@"
    else
        shared_lanes "$(count_lanes)" "${groups[@]}"
    fi
    show_parts
    summary
}

# Beside each other: meson and each link of a large program have one processor. Man pages are the
# same in each build, and take half as long as all the rest of it.
build_all() {
    local process built=0
    start_lane build plain
    start_lane build asan -Db_sanitize=address,undefined -Db_lundef=false -Dman=disabled
    start_lane build tsan -Db_sanitize=thread -Db_lundef=false -Dman=disabled
    for process in "${lanes[@]}"; do
        wait "$process" || built=1
    done
    lanes=()
    [ $built = 0 ] || exit 1
}

check_parts() {
    local part
    for part; do
        if [[ $part != *' '* && " ${groups[*]} " = *" $part "* ]]; then continue; fi
        printf '%s\n' "no such part: $part. There are:" "${groups[@]/#/  }" >&2
        exit 2
    done
}

# For every day.
run_quick_tests() {
    build plain
    open_lanes
    lane formatting documents counting
    lane tests_quick
    show_parts
    echo
    echo "left out: lint, the slow tests (replay, fuzzing, many random steps), sanitizers, the" \
        "plugin, virtual hosts, guests, installed headers and symbols, builds without optional" \
        "parts, with clang and with musl, soak, Rust, the model of threads"
    summary
}

# What needs the kernel's fences.
run_coverage_in_vm() {
    scripts/vm --check --kind uml --kernel 7.3 || {
        echo "left out: what needs a kernel with sync files" >&2
        return 0
    }
    scripts/vm --kind uml --kernel 7.3 --build build scripts/test-in-vm build/coverage \
        >build/coverage-vm.log 2>&1 || {
        cat build/coverage-vm.log
        exit 1
    }
}

# What the tests run of the code, here and in a virtual host. Guests are left out.
run_coverage() {
    if ! command -v gcovr >/dev/null; then
        echo "Please install gcovr (Debian's name), then run this again." >&2
        exit 1
    fi
    build coverage -Db_coverage=true
    find build/coverage -name '*.gcda' -delete
    # Many more random steps reach nothing new.
    VGF_TEST_STEPS=2000 meson test -C build/coverage --no-rebuild --print-errorlogs \
        --timeout-multiplier 5 \
        >build/coverage.log 2>&1 || {
        cat build/coverage.log
        exit 1
    }
    run_coverage_in_vm
    scripts/coverage
}
