# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the other parts set cache, top, scratch, kernel, ...
#
# Kind stock: what somebody has who patches nothing. A stock QEMU, whose generic vhost-user device
# is 'vgfence gpu' (--gpu), and Debian's own kernel with the virtio-gpu module of guest/. The first
# is that of kind client; here is the second.

readonly stock_tools=(make:make gcc:gcc xz:xz-utils patch:patch)
readonly stock_compiler_packages=(gcc-14 make libelf1t64)
readonly stock_device=vhost-user-test-device-pci # of QEMU 10.2 and later
readonly gpu_device='virtio-id=16,num_vqs=2,config_size=24' # virtio-gpu's

stock_ready() {
    local directories
    directories=("$cache/stock/$kernel".*-"$(stock_key)")
    stock_kernel=${directories[0]}
    [ -e "$stock_kernel/initrd" ] && client_ready
}

stock_key() {
    key 5 "${qemu_modules[@]}" "${init_tools[@]}" "$(vgfence_version)" -- \
        "$top"/guest/{prepare,patches/*} "${qemu_scripts[@]}" "$tsc_rate_source"
}

prepare_stock() {
    prepare_client
    if stock_ready; then return; fi
    need "${stock_tools[@]}"
    lock_cache stock
    if ! stock_ready; then make_stock; fi
    unlock_cache
}

check_stock() {
    local packages
    check_client >/dev/null || {
        check_client
        return 1
    }
    packages=$(missing "${stock_tools[@]}")
    if stock_ready; then
        echo "stock: ready"
    elif [ -n "$packages" ] && ! can_install; then
        echo "stock: the module's build needs these Debian packages: $packages"
        return 1
    elif [ "$kernel" != 6.12 ] && [ "$(release)" = 'debian 12' ] &&
        ! unshare_mount true 2>/dev/null; then
        echo "stock: Linux $kernel is built in a root of Debian 13, which takes unshare --mount"
        return 1
    else
        echo "stock: can be prepared (some minutes)"
    fi
}

make_stock() {
    local release image log=$cache/log/module-$kernel.log
    need_room 3000
    update_lists
    release=$(stock_release)
    : >"$log"
    fetch_kernel "$release"
    in_log "$log" "building virtio-gpu for Linux $release" '^ ' build_module "$release"
    mkdir "$scratch/made"
    cp "$scratch/virtio-gpu.ko" "$scratch/made/virtio-gpu.ko"
    image=$(find "$scratch/tree" -name 'vmlinuz*' -type f -print -quit)
    [ -n "$image" ] || die "the packages of Linux $release have no kernel"
    unpack_kernel "$image" "$scratch/made/kernel"
    prepare_emulation "$release" "$scratch/made"
    note "making the initramfs"
    make_initrd "$scratch/tree" "$scratch/made/initrd" "$scratch/made/virtio-gpu.ko"
    keep "$scratch/made" "$cache/stock/$release-$(stock_key)"
    stock_ready
}

# --- Debian's packages of a kernel

# The newest release of this version, as 'uname -r' says it.
stock_release() {
    local version
    version=$(private_apt_cache madison linux-headers-amd64 |
        awk -v kernel="$kernel." 'index($3, kernel) == 1 { print $3 }' |
        first_line) || lack "the archive has no linux-headers-amd64 $kernel"
    private_apt_cache depends "linux-headers-amd64=$version" |
        sed -n 's/^ *Depends: linux-headers-//p' |
        first_line
}

# fetch_kernel RELEASE: what is needed of its packages, in tree/ (the kernel, its modules, busybox)
# and in headers/.
fetch_kernel() {
    local release=$1 package binaries=("linux-image-$1") deb
    mkdir "$scratch/tree"
    # Newer packages are made of parts.
    if private_apt_cache show "linux-modules-$release" >/dev/null 2>&1; then
        binaries=("linux-binary-$release" "linux-modules-$release")
    fi
    for package in "${binaries[@]}" busybox-static; do
        deb=$(fetch "$package")
        dpkg --fsys-tarfile "$deb" >"$scratch/package.tar"
        tar -x -f "$scratch/package.tar" -C "$scratch/tree" --wildcards --no-anchored \
            'vmlinuz*' '*.ko.xz' 'busybox' 2>/dev/null || true # not each has each
    done
    fetch_headers "$release"
    fetch_source "${binaries[0]}"
}

# fetch_headers RELEASE: what a module is built with.
fetch_headers() {
    local release=$1 flavour_less=${1%-amd64} package deb
    mkdir "$scratch/headers"
    for package in "linux-headers-$release" "linux-headers-$flavour_less-common" \
        "linux-kbuild-$flavour_less"; do
        deb=$(fetch "$package")
        dpkg -x "$deb" "$scratch/headers"
    done
}

# fetch_source PACKAGE: the source that this package of a kernel was built from, `source_package`.
# The cache may have an older one, which User-Mode Linux stays with.
fetch_source() {
    local version
    version=$(private_apt_cache show "$1" | sed -n 's/^Version: //p' | first_line)
    private_apt_cache show "$uml_source=$version" >/dev/null 2>&1 ||
        lack "the archive has no $uml_source $version, of which its kernel was built"
    if ! uml_package >/dev/null; then
        source_package=$(fetch "$uml_source=$version")
        keep "$source_package" "$cache/debs/${source_package##*/}"
    fi
    source_package=$(uml_package)
    if [ "$(dpkg-deb -f "$source_package" Version)" != "$version" ]; then
        source_package=$(fetch "$uml_source=$version")
    fi
}

# --- the module

build_module() {
    local source=$scratch/source.tar.xz
    dpkg --fsys-tarfile "$source_package" | tar -xO "./usr/src/$uml_source.tar.xz" >"$source"
    "$top/guest/prepare" "$source" "$scratch/module" "$(vgfence_version)" || return
    compile_module "$1" || return
    cp "$scratch/module/drivers/gpu/drm/virtio/virtio-gpu.ko" "$scratch"
    strip --strip-debug "$scratch/virtio-gpu.ko"
}

vgfence_version() {
    sed -n "s/^ *version: '\(.*\)',/\1/p" "$top/meson.build"
}

# compile_module RELEASE: what is in module/.
# The headers name each other by absolute paths, which are not those here. Types for BPF are made
# from the kernel's own, if pahole is there.
compile_module() {
    local headers=$scratch/headers/usr/src/linux-headers-$1 compiler
    local make=(make -C "${headers%-amd64}-common" "O=$headers" "KBUILD_OUTPUT=$headers"
        "M=$scratch/module" CONFIG_DEBUG_INFO_BTF_MODULES= -j"$(nproc)" modules)
    compiler=$(sed -n 's/^CC = .*(CROSS_COMPILE)//p' "$headers/.kernelvariables")
    if ! command -v "x86_64-linux-gnu-$compiler" >/dev/null && can_install &&
        apt-cache show "$compiler" >/dev/null 2>&1; then
        need "x86_64-linux-gnu-$compiler:$compiler"
    fi
    if command -v "x86_64-linux-gnu-$compiler" >/dev/null; then
        "${make[@]}"
    else
        compile_elsewhere "${make[@]}"
    fi
}

# compile_elsewhere MAKE ARGUMENT...: Debian 12 does not have the compiler of Debian 13's kernels,
# which is run in a root of that.
compile_elsewhere() {
    local root_directory archive
    root_directory=$cache/rootfs/compiler-$(key 1 "${stock_compiler_packages[@]}" --)
    need "${rootfs_tools[@]}"
    if [ ! -d "$root_directory" ]; then
        archive=$(mirror) || lack "no Debian archive in apt's configuration"
        make_tree trixie "$archive" minbase "${stock_compiler_packages[@]}" || return
        keep "$scratch/trixie" "$root_directory"
    fi
    # shellcheck disable=SC2016  # for the other shell
    unshare_mount bash -euc "$(declare -f mount_and_enter)"'; mount_and_enter "$@"' \
        bash "$root_directory" / 1 "rw $scratch" \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

unshare_mount() {
    local spaces=(unshare --mount)
    if [ "$(id -u)" -ne 0 ]; then spaces+=(--map-root-user); fi
    "${spaces[@]}" "$@"
}

# --- a run

# A machine without the processor's help may have the device all the same: with a KVM that does not
# know all instructions, and ends the guest.
has_kvm() {
    [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo
}

start_stock() {
    local qemu=() command_line arguments=() i
    mapfile -t qemu < <(client_qemu)
    if has_kvm; then
        command_line="${boot_arguments[*]}"
        arguments=(-accel kvm -cpu host -smp "$usual_processors")
    else
        command_line=$(emulated_kernel_arguments "$stock_kernel" "$num_processors")
        arguments=("${emulation[@]}" -smp "$num_processors")
    fi
    arguments+=(-machine q35,memory-backend=memory
        -object "memory-backend-memfd,id=memory,size=${memory}M,share=on")
    for i in "${!gpus[@]}"; do
        arguments+=(-chardev "socket,id=gpu$i,path=${gpus[i]//,/,,}"
            -device "$stock_device,chardev=gpu$i,$gpu_device")
    done
    start_machine "$stock_kernel" "$command_line" "${qemu[@]}" "${arguments[@]}"
}

# Prints the directory of the kernel and the module.
locate_stock() {
    stock_ready || die "not prepared yet: --prepare --kind stock"
    echo "$stock_kernel"
}
