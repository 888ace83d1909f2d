# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the other parts set cache, scratch and qemu_kernel
#
# Kind client: a QEMU that is a client of 'vgfence gpu', with Debian's own kernel; only prepared
# here, and started by scripts/console. Before 8.2 QEMU's vhost-user devices need KVM, and before
# 10.2 nobody can create its generic one, which kind stock has: where this machine's is older,
# Debian sid's is unpacked into the cache and runs with the libraries that come with it. Those of
# its window are among them, so that it can show one without a GPU. The X server for that is this
# machine's.

readonly client_packages=(qemu-system-x86 qemu-system-gui qemu-system-modules-opengl
    libgl1-mesa-dri libegl-mesa0 libglx-mesa0 libgbm1 xkb-data)
readonly client_tools=(mmdebstrap:mmdebstrap)
readonly client_display_tools=(Xvnc:tigervnc-standalone-server xkbcomp:x11-xkb-utils)
readonly qemu_modules_directory=/usr/lib/x86_64-linux-gnu/qemu
readonly client_window_tools=("$qemu_modules_directory/ui-gtk.so:qemu-system-gui"
    "$qemu_modules_directory/ui-opengl.so:qemu-system-modules-opengl"
    /usr/lib/x86_64-linux-gnu/libEGL_mesa.so.0:libegl-mesa0
    /usr/lib/x86_64-linux-gnu/dri/swrast_dri.so:libgl1-mesa-dri)

system_qemu_is_new() {
    local version
    version=$(qemu-system-x86_64 --version 2>/dev/null |
        sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
    [ -n "$version" ] && printf '10.2\n%s\n' "$version" | sort -CV
}

client_ready() {
    client_root=$cache/rootfs/qemu-$(key 1 "${client_packages[@]}" --)
    system_qemu_is_new || [ -d "$client_root" ]
}

prepare_client() {
    prepare_qemu
    # Without them ./run flips is left out, and says so.
    if can_install; then need "${client_display_tools[@]}"; fi
    if can_install && system_qemu_is_new; then need "${client_window_tools[@]}"; fi
    if client_ready; then return; fi
    need "${client_tools[@]}"
    lock_cache client
    if ! client_ready; then make_client; fi
    unlock_cache
}

make_client() {
    local archive log=$cache/log/rootfs-qemu.log
    need_room 2500
    archive=$(mirror) || lack "no Debian archive in apt's configuration"
    reach_sid "$archive"
    : >"$log"
    in_log "$log" "unpacking Debian sid's QEMU" '^Get' \
        make_tree sid "$archive" extract "${client_packages[@]}"
    keep "$scratch/sid" "$client_root"
}

check_client() {
    local packages
    check_qemu >/dev/null || {
        check_qemu
        return 1
    }
    if client_ready; then
        echo "client: ready"
        return
    fi
    packages=$(missing "${client_tools[@]}")
    if [ -n "$packages" ] && ! can_install; then
        echo "client: needs QEMU 10.2 or later, or to unpack it these Debian packages: $packages"
        return 1
    fi
    echo "client: can be prepared (some minutes)"
}

# Prints the kernel's directory, its command line on one processor, and QEMU as client_qemu does.
locate_client() {
    if ! qemu_ready || ! client_ready; then die "not prepared yet: --prepare --kind client"; fi
    echo "$qemu_kernel"
    emulated_kernel_arguments "$qemu_kernel" 1
    client_qemu
}

# Prints QEMU with its first arguments, one a line.
client_qemu() {
    local libraries
    if system_qemu_is_new; then
        command -v qemu-system-x86_64
    else
        libraries=$client_root/usr/lib/x86_64-linux-gnu
        printf '%s\n' env "QEMU_MODULE_DIR=$libraries/qemu" \
            "LIBGL_DRIVERS_PATH=$libraries/dri" "GBM_BACKENDS_PATH=$libraries/gbm" \
            "__EGL_VENDOR_LIBRARY_DIRS=$client_root/usr/share/glvnd/egl_vendor.d" \
            "XKB_CONFIG_ROOT=$client_root/usr/share/X11/xkb" \
            "$client_root/usr/lib64/ld-linux-x86-64.so.2" \
            --library-path "$libraries:$libraries/pulseaudio" \
            "$client_root/usr/bin/qemu-system-x86_64" \
            -L "$client_root/usr/share/qemu" -L "$client_root/usr/share/seabios"
    fi
}
