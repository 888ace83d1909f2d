# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the other parts set cache, parts, scratch, run, ...
#
# Kind qemu: Debian's own kernel, unchanged, under QEMU's software emulation. An initramfs with
# busybox loads the modules, mounts the root file system over 9p and hands over to it. One of the
# modules is ours, built against that kernel's headers: the GPU made of software in tests/drm/.

readonly qemu_tools=(qemu-system-x86_64:qemu-system-x86 xz:xz-utils)
readonly qemu_modules=(virtio-gpu virtio_input vgem 9pnet_virtio 9p)
readonly qemu_scripts=("$parts"/{qemu-init,show-console,fstab})
readonly init_tools=(cat cp env mkdir mkfifo mount setsid sleep sync) # guest-init's
readonly drm_tools=(make:make gcc:gcc) # for the module
readonly drm_sources=("$top"/tests/drm/{Kbuild,*.[ch]})

qemu_ready() {
    local directories
    directories=("$cache"/qemu/*-"$(qemu_key)")
    qemu_kernel=${directories[0]}
    [ -e "$qemu_kernel/initrd" ]
}

qemu_key() {
    key 4 "${qemu_modules[@]}" "${init_tools[@]}" -- \
        "${qemu_scripts[@]}" "${drm_sources[@]}" "$tsc_rate_source"
}

prepare_qemu() {
    need "${qemu_tools[@]}"
    if qemu_ready; then return; fi
    lock_cache qemu
    if ! qemu_ready; then make_qemu_kernel; fi
    unlock_cache
}

# The kernel's real package, which the one without a version depends on.
qemu_package() {
    private_apt_cache depends "linux-image-amd64=$(qemu_version)" |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-6\.12/ { print $2 }' |
        first_line
}

qemu_version() {
    private_apt_cache madison linux-image-amd64 |
        awk '$3 ~ /^6\.12/ { print $3 }' |
        first_line
}

make_qemu_kernel() {
    local package image busybox tree=$scratch/tree
    need "${drm_tools[@]}"
    need_room 700
    update_lists
    package=$(qemu_package) || die "the archive has no linux-image-amd64 6.12"
    image=$(fetch "$package")
    busybox=$(fetch busybox-static)
    build_drm_module "${package#linux-image-}"
    note "making the initramfs"
    mkdir "$tree" "$scratch/made"
    dpkg --fsys-tarfile "$image" | tar -x -C "$tree" --wildcards './boot/vmlinuz-*' '*.ko.xz'
    dpkg --fsys-tarfile "$busybox" | tar -x -C "$tree" --wildcards '*/busybox'
    make_initrd "$tree" "$scratch/made/initrd" "$scratch/vgfence-gpu.ko"
    unpack_kernel "$tree"/boot/vmlinuz-* "$scratch/made/kernel"
    prepare_emulation "${package#linux-image-}" "$scratch/made"
    keep "$scratch/made" "$cache/qemu/$package-$(qemu_key)"
    qemu_ready
}

# build_drm_module RELEASE
build_drm_module() {
    local log=$cache/log/module-drm.log
    fetch_headers "$1"
    mkdir "$scratch/module"
    cp "${drm_sources[@]}" "$scratch/module"
    : >"$log"
    in_log "$log" "building the DRM driver of tests/drm for Linux $1" '^ ' compile_module "$1"
    cp "$scratch/module/vgfence-gpu.ko" "$scratch"
    strip --strip-debug "$scratch/vgfence-gpu.ko"
}

# unpack_kernel VMLINUZ FILE: what is packed in it, an ELF file that QEMU starts by its PVH entry.
# An emulated processor takes seconds to unpack it. One that is packed otherwise stays as it is.
# Linux's boot protocol says where in it that begins and how long it is; its last four bytes are the
# size of what is unpacked.
unpack_kernel() {
    local sectors offset length
    if can_install; then need zstd:zstd; fi
    read -r sectors < <(od -An -t u1 -j 497 -N 1 "$1")
    read -r offset length < <(od -An -t u4 -j 584 -N 8 "$1")
    tail -c "+$(((sectors + 1) * 512 + offset + 1))" "$1" 2>/dev/null |
        head -c "$((length - 4))" | zstd -dcq >"$2" 2>/dev/null || true
    if ! LC_ALL=C readelf -n "$2" 2>/dev/null | grep -q '(0x00000012)'; then # the entry's note
        cp "$1" "$2"
    fi
}

# make_initrd TREE FILE MODULE: with this module in place of the kernel's own of its name, or as the
# last one.
make_initrd() {
    local tree=$1 initrd=$scratch/initrd busybox modules module order=0 file own=$3 tool
    busybox=$(find "$tree" -path '*/bin/busybox')
    modules=$(for module in "${qemu_modules[@]}"; do module_order "$tree" "$module"; done)
    mkdir -p "$initrd"/{bin,modules,proc,sys,dev,root,vgfence-tools}
    cp "$busybox" "$initrd/vgfence-tools/busybox"
    for tool in "${init_tools[@]}"; do ln -s busybox "$initrd/vgfence-tools/$tool"; done
    for tool in $("$busybox" --list); do ln -sf ../vgfence-tools/busybox "$initrd/bin/$tool"; done
    install -m 755 "$parts/qemu-init" "$initrd/init"
    install -m 644 "$parts"/{show-console,fstab} "$initrd"
    while read -r module; do
        order=$((order + 1))
        file=${module##*/}
        file=${file//-/_} # as the kernel calls it
        file=$initrd/modules/$(printf %02d $order)-${file%.xz}
        if [ "${module##*/}" = "${3##*/}.xz" ]; then
            cp "$own" "$file"
            own=
        else
            xz -dc "$module" >"$file"
        fi
    done < <(awk '!seen[$0]++' <<<"$modules")
    if [ -n "$own" ]; then
        file=${own##*/}
        cp "$own" "$initrd/modules/99-${file//-/_}"
    fi
    drop_types "$initrd"/modules/*
    (cd "$initrd" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$2"
}

# drop_types MODULE...: their types for BPF. With the first of them the kernel reads all of its own,
# which takes an emulated processor half a second. The modules' signatures take it as long, and go
# with that.
drop_types() {
    local module
    for module; do objcopy --remove-section .BTF --remove-section .BTF.base "$module"; done
}

# module_order TREE NAME: the files to load, dependencies first.
module_order() {
    local file dependency
    file=$(find "$1" -name "${2//[-_]/[-_]}.ko.xz")
    [ -n "$file" ] || die "the kernel package has no module $2"
    for dependency in $(xz -dc "$file" | tr '\0' '\n' | sed -n 's/^depends=//p' | tr ',' ' '); do
        module_order "$1" "$dependency"
    done
    echo "$file"
}

check_qemu() {
    local packages
    if [ "$(uname -m)" != x86_64 ]; then
        echo "qemu: made for x86_64, this is $(uname -m)"
        return 1
    fi
    packages=$(missing "${qemu_tools[@]}")
    if ! qemu_ready; then packages=$(missing "${qemu_tools[@]}" "${drm_tools[@]}"); fi
    if [ -n "$packages" ] && ! can_install; then
        echo "qemu: needs these Debian packages: $packages"
        return 1
    elif qemu_ready; then
        echo "qemu: ready"
    elif ! mirror >/dev/null; then
        echo "qemu: the kernel comes from Debian 12 or 13, and apt knows no archive of these"
        return 1
    else
        echo "qemu: can be prepared (about a minute)"
    fi
}

# qemu_export TAG MODE PATH: prints two arguments, one a line. A comma would end an option's value.
qemu_export() {
    local options=security_model=none,multidevs=remap
    if [ "$2" = ro ]; then options+=,readonly=on; fi
    printf '%s\n' -virtfs "local,path=${3//,/,,},mount_tag=$1,$options"
}

start_qemu() {
    local arguments
    arguments=$(emulated_kernel_arguments "$qemu_kernel" "$num_processors")
    start_machine "$qemu_kernel" "$arguments" qemu-system-x86_64 "${emulation[@]}" \
        -smp "$num_processors" -machine q35 -device virtio-gpu-pci
}

# start_machine KERNEL ARGUMENTS QEMU ARGUMENT...: KERNEL is a directory with a kernel and its
# initramfs, ARGUMENTS are its command line. With SAME_SESSION it has a process group of its own but
# no session: scripts/compare has all that is to share the processors evenly in one.
start_machine() {
    local i exports=() kernel_directory=$1 command_line=$2 start=("${leash[@]}")
    shift 2
    mapfile -t exports < <(
        qemu_export root ro "$root"
        qemu_export run rw "$run"
        for i in "${!mounts[@]}"; do
            qemu_export "share$i" "${mounts[i]%% *}" "${mounts[i]#* }"
        done
    )
    if [ -n "${SAME_SESSION-}" ]; then
        start=("${leash[@]:1}") # without setsid
        set -m
    fi
    "${start[@]}" "$@" -m "$memory" -nodefaults -no-user-config -no-reboot \
        -name vgfence,debug-threads=on \
        -display "${machine_display:-none}" -vga none \
        -kernel "$kernel_directory/kernel" -initrd "$kernel_directory/initrd" \
        -append "$command_line ${kernel_arguments[*]}" \
        -serial "file:/dev/fd/3" \
        -device virtio-serial-pci \
        -chardev file,id=out,path=/dev/fd/4 -device virtserialport,chardev=out,name=stdout \
        -chardev file,id=err,path=/dev/fd/5 -device virtserialport,chardev=err,name=stderr \
        "${exports[@]}" \
        </dev/null >>"$run/console" 2>&1 3>>"$run/console" 4>"$run/stdout" 5>"$run/stderr" &
    vm=$!
    set +m
}
