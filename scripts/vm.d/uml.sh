# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# cache, parts, top, scratch, run, ... are set by the other parts
# shellcheck disable=SC2034,SC2154
#
# Kind uml: a Linux kernel that is an ordinary process. Built from Debian's source with uml.config,
# the patches in patches/ and those of the guest, guest/patches/ and tests/guest/patches/. Those
# that are only for one kernel are in a directory of its version.

readonly uml_source=linux-source-$kernel
readonly uml_tools=(make:make gcc:gcc /usr/include/stdio.h:libc6-dev flex:flex bison:bison bc:bc
    xz:xz-utils patch:patch)

# What the kernel's build does not look at; the Kconfig files have to be there.
readonly uml_left_out=('Documentation/*.rst' 'Documentation/*.yaml' 'Documentation/*.txt'
    'arch/[!ux]*/*.[chS]' 'arch/*.dts' 'arch/*.dtsi' 'drivers/accel/*.[ch]'
    'drivers/gpu/drm/amd/*.[ch]' 'drivers/gpu/drm/i915/*.[ch]' 'drivers/gpu/drm/nouveau/*.[ch]'
    'drivers/gpu/drm/radeon/*.[ch]' 'drivers/gpu/drm/xe/*.[ch]' 'drivers/infiniband/*.[ch]'
    'drivers/media/*.[ch]' 'drivers/net/*/*.[ch]' 'drivers/scsi/*.[ch]' 'drivers/usb/*.[ch]'
    'sound/*.[ch]' 'tools/perf/*' 'tools/testing/*')

# The source package in the cache; it stays, so that a changed patch needs no download.
uml_package() {
    local files=("$cache/debs/$uml_source"_*.deb)
    [ -e "${files[0]}" ] && echo "${files[0]}"
}

# The same kernel serves as virtual host and as guest of 'vgfence gpu'.
uml_list_patches() {
    shopt -s nullglob
    uml_patches=("$parts"/patches/{,"$kernel"/}*.patch "$top"/guest/patches/*.patch
        "$top"/tests/guest/patches/{,"$kernel"/}*.patch)
}

# uml_patch TREE: applies the patches, each as it is or not at all. Debian's source changes while it
# keeps its name: a patch that says what it is like without it ("Optional: ...") is left out if it
# does not fit, and listed in TREE/left-out, by name and with these words.
uml_patch() {
    local patch uml_patches without apply=(patch -d "$1" -p1 -F0 --forward)
    : >"$1/left-out"
    uml_list_patches
    for patch in "${uml_patches[@]}"; do
        if "${apply[@]}" --dry-run <"$patch"; then
            "${apply[@]}" <"$patch" || return
        else
            without=$(sed -n 's/^Optional: //p' "$patch")
            [ -n "$without" ] || return
            printf '%s: %s\n' "$(basename "$patch" .patch)" "$without" >>"$1/left-out"
        fi
    done
}

# What was left out of a kernel is said once, when it has been built.
uml_say_left_out() {
    local line
    while IFS= read -r line; do
        note "left out, as it does not fit $(basename "$(uml_package)" _all.deb): $line"
    done <"$1"
}

uml_list_configs() {
    uml_configs=("$parts/uml.config")
    if [ -e "$parts/uml-$kernel.config" ]; then uml_configs+=("$parts/uml-$kernel.config"); fi
    if [ "${VGFENCE_KERNEL_DEBUG:-0}" = 1 ]; then uml_configs+=("$parts/uml-debug.config"); fi
}

# The directory of the kernel that belongs to the package, the configuration and the patches.
uml_directory() {
    local package uml_patches uml_configs
    package=$(uml_package) || return 1
    uml_list_patches
    uml_list_configs
    echo "$cache/uml/$(key 1 "${package##*/}" -- "${uml_configs[@]}" "${uml_patches[@]}")"
}

uml_ready() {
    uml_kernel=$(uml_directory)/linux && [ -x "$uml_kernel" ]
}

prepare_uml() {
    local fetched
    if uml_ready; then return; fi
    need "${uml_tools[@]}"
    lock_cache
    if ! uml_package >/dev/null; then
        uml_is_there
        fetched=$(fetch "$uml_source")
        keep "$fetched" "$cache/debs/${fetched##*/}"
    fi
    if ! uml_ready; then build_uml "$(uml_directory)"; fi
    unlock_cache
}

# 6.12 stays in its release; backports go on to newer kernels.
uml_is_there() {
    update_lists
    if [ "$kernel" != 6.12 ] && ! private_apt_cache show "$uml_source" >/dev/null 2>&1; then
        lack "$(uml_suite) has no $uml_source any more"
    fi
}

# Prints where the kernel is, or will be.
locate_uml() {
    uml_directory >/dev/null || die "no source yet: --prepare"
    echo "$(uml_directory)/linux"
}

build_uml() {
    local log
    need_room 1200
    log=$cache/log/uml-${1##*/}.log
    : >"$log"
    in_log "$log" "unpacking $uml_source" . uml_unpack
    uml_say_left_out "$scratch/linux/left-out"
    in_log "$log" "building the User-Mode Linux kernel $kernel, about 4 minutes" '^ ' uml_compile
    mkdir "$scratch/made"
    cp "$scratch"/linux/{linux,.config,left-out} "$scratch/made"
    keep "$scratch/made" "$1"
    uml_ready
}

uml_unpack() {
    mkdir "$scratch/linux"
    dpkg --fsys-tarfile "$(uml_package)" | tar -xO "./usr/src/$uml_source.tar.xz" |
        tar -xJ -C "$scratch/linux" --strip-components=1 "${uml_left_out[@]/#/--exclude=*/}"
    uml_patch "$scratch/linux"
}

uml_compile() {
    local make=(make -C "$scratch/linux" ARCH=um) uml_configs
    uml_list_configs
    cat "${uml_configs[@]}" >"$scratch/uml.config"
    "${make[@]}" KCONFIG_ALLCONFIG="$scratch/uml.config" allnoconfig || return 1
    uml_config_came_true || return 1
    "${make[@]}" -j"$(nproc)" linux
}

# Every line of uml.config must be in the configuration that came out.
uml_config_came_true() {
    local line lost=0
    while read -r line; do
        case $line in
        *=n) ! grep -q "^${line%n}" "$scratch/linux/.config" ;;
        CONFIG_*) grep -qxF "$line" "$scratch/linux/.config" ;;
        esac || {
            echo "uml.config: '$line' did not come true"
            lost=1
        }
    done <"$scratch/uml.config"
    return $lost
}

check_uml() {
    local packages
    if [ "$(uname -m)" != x86_64 ]; then
        echo "uml: made for x86_64, this is $(uname -m)"
        return 1
    fi
    if uml_ready; then
        echo "uml: ready"
        return
    fi
    packages=$(missing "${uml_tools[@]}")
    if [ -n "$packages" ] && ! can_install; then
        echo "uml: the kernel's build needs these Debian packages: $packages"
        return 1
    elif ! uml_package >/dev/null && ! mirror >/dev/null; then
        echo "uml: $uml_source comes from $(uml_suite || echo "Debian 12 or 13")," \
            "and apt knows no such archive"
        return 1
    fi
    echo "uml: can be prepared (a kernel build of about 4 minutes)"
}

# The kernel's memory is a file: where there is room for it, and code may be run, best in memory.
uml_memory_directory() {
    local directory room options
    for directory in /dev/shm "${TMPDIR:-/tmp}" /var/tmp; do
        room=$(df --output=avail -m "$directory" 2>/dev/null | tail -n 1) || true
        options=$(findmnt -n -o OPTIONS -T "$directory" | tail -n 1) || true
        if [ "${room:-0}" -gt "$memory" ] && [[ ",$options," != *,noexec,* ]]; then
            echo "$directory"
            return
        fi
    done
    die "the virtual host's memory needs $memory MiB of room in /dev/shm, ${TMPDIR:-/tmp}" \
        "or /var/tmp, not mounted noexec"
}

# Console 0 is the kernel's, 1 and 2 are the command's output. The first process is bash of the
# root file system; it takes its orders from the run directory.
start_uml() {
    local memory_directory start own_arguments=()
    memory_directory=$(uml_memory_directory)
    start="mount -t hostfs -o '$run' none /mnt && . /mnt/init"
    # A system call takes a third of the time that it takes with ptrace, which is all that 6.12 has.
    if [ "$kernel" != 6.12 ]; then own_arguments=(seccomp=auto); fi
    (
        ulimit -c 0
        TMPDIR=$memory_directory exec "${leash[@]}" "$uml_kernel" \
            "mem=${memory}M" "uml_dir=$run/uml/" umid=vm rootfstype=hostfs \
            "rootflags=$root" ro quiet LIBMOUNT_FORCE_MOUNT2=always \
            con=null con0=null,fd:3 con1=null,fd:4 con2=null,fd:5 \
            "${own_arguments[@]}" "${kernel_arguments[@]}" init=/bin/bash -- -c "\"$start\"" \
            </dev/null >"$run/console" 2>&1 3>>"$run/console" 4>"$run/stdout" 5>"$run/stderr"
    ) &
    vm=$!
}
