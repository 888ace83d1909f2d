# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the other parts set cache, scratch and qemu_kernel
#
# Kind client: a QEMU that is a client of 'vgfence gpu', with Debian's own kernel; only prepared
# here, and started by scripts/console. Before 8.2 QEMU's vhost-user devices need KVM: where this
# machine's is older, Debian sid's is unpacked into the cache and runs with the libraries that come
# with it.

readonly client_packages=(qemu-system-x86)
readonly client_tools=(mmdebstrap:mmdebstrap)

system_qemu_is_new() {
    local version
    version=$(qemu-system-x86_64 --version 2>/dev/null |
        sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
    [ -n "$version" ] && printf '8.2\n%s\n' "$version" | sort -CV
}

client_ready() {
    client_root=$cache/rootfs/qemu-$(key 1 "${client_packages[@]}" --)
    system_qemu_is_new || [ -d "$client_root" ]
}

prepare_client() {
    prepare_qemu
    if client_ready; then return; fi
    need "${client_tools[@]}"
    lock_cache client
    if ! client_ready; then make_client; fi
    unlock_cache
}

make_client() {
    local archive log=$cache/log/rootfs-qemu.log
    need_room 1500
    archive=$(mirror) || lack "no Debian archive in apt's configuration"
    reach_sid "$archive"
    : >"$log"
    in_log "$log" "unpacking Debian sid's QEMU" '^Get' \
        make_sid_tree "$archive" extract "${client_packages[@]}"
    keep "$scratch/sid" "$client_root"
}

check_client() {
    local packages
    check_qemu >/dev/null || { check_qemu && return 1; }
    if client_ready; then
        echo "client: ready"
        return
    fi
    packages=$(missing "${client_tools[@]}")
    if [ -n "$packages" ] && ! can_install; then
        echo "client: needs QEMU 8.2 or later, or to unpack it these Debian packages: $packages"
        return 1
    fi
    echo "client: can be prepared (about half a minute)"
}

# Prints the kernel's directory, and QEMU with its first arguments, one a line.
locate_client() {
    if ! qemu_ready || ! client_ready; then die "not prepared yet: --prepare --kind client"; fi
    echo "$qemu_kernel"
    if system_qemu_is_new; then
        command -v qemu-system-x86_64
    else
        printf '%s\n' env "QEMU_MODULE_DIR=$client_root/usr/lib/x86_64-linux-gnu/qemu" \
            "$client_root/usr/lib64/ld-linux-x86-64.so.2" \
            --library-path "$client_root/usr/lib/x86_64-linux-gnu" \
            "$client_root/usr/bin/qemu-system-x86_64" \
            -L "$client_root/usr/share/qemu" -L "$client_root/usr/share/seabios"
    fi
}
