# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# shellcheck disable=SC2154  # cache and scratch are set by the other parts
#
# The root file system of the virtual host: this machine's own, or Debian sid from mmdebstrap.

rootfs_tools=(mmdebstrap:mmdebstrap)
if [ "$(id -u)" -ne 0 ]; then rootfs_tools+=(newuidmap:uidmap); fi
readonly sid_packages=(libvirglrenderer-dev libegl-mesa0 libgl1-mesa-dri libgbm-dev libegl-dev
    libepoxy-dev libdrm-dev libcmocka-dev libjson-c-dev libpng-dev gcc libc6-dev ccache meson
    ninja-build pkgconf virgl-server mesa-vulkan-drivers libvulkan-dev vulkan-tools glslang-tools
    weston labwc libwayland-dev libwayland-bin wayland-protocols)

check_rootfs_host() {
    :
}

prepare_rootfs_host() {
    root=/
}

sid_ready() {
    root=$cache/rootfs/sid-$(key 1 "${sid_packages[@]}" --)
    [ -d "$root" ]
}

check_rootfs_sid() {
    local packages
    if sid_ready; then return; fi
    packages=$(missing "${rootfs_tools[@]}")
    if [ -n "$packages" ] && ! can_install; then
        echo "rootfs sid: needs these Debian packages: $packages"
        return 1
    elif ! mirror >/dev/null; then
        echo "rootfs sid: apt knows no archive of Debian"
        return 1
    fi
    echo "rootfs sid: can be prepared (about a minute)"
}

prepare_rootfs_sid() {
    if sid_ready; then return; fi
    need "${rootfs_tools[@]}"
    lock_cache sid
    if ! sid_ready; then make_sid; fi
    unlock_cache
}

# Without root's rights the packages' owners are lost; nothing in the virtual host asks for them.
make_sid() {
    local archive log=$cache/log/rootfs-sid.log
    need_room 1500
    archive=$(mirror) || lack "no Debian archive in apt's configuration"
    reach_sid "$archive"
    : >"$log"
    in_log "$log" "making a Debian sid root" '^Setting up' \
        make_tree sid "$archive" minbase "${sid_packages[@]}"
    keep "$scratch/sid" "$root"
}

# make_tree SUITE ARCHIVE VARIANT PACKAGE...: in the scratch directory, with the suite's name.
make_tree() {
    local packages
    packages=$(IFS=, && echo "${*:4}")
    mkdir "$scratch/$1"
    mmdebstrap --variant="$3" --include="$packages" \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Sandbox::User ""' \
        --format=tar "$1" - "$2" |
        tar -x -C "$scratch/$1" --no-same-owner --exclude='./dev/*'
}

# Runs the command there, on this machine's own kernel, with the mounts that a virtual host would
# have: they are in a name space of the command's own.
enter_root() {
    local spaces=(unshare --mount) environment
    if [ "$(id -u)" -ne 0 ]; then spaces+=(--map-root-user); fi
    "${spaces[@]}" true 2>/dev/null || lack "--enter: '${spaces[*]}' is not allowed here"
    list_mounts
    make_mount_points
    list_environment
    # shellcheck disable=SC2016  # for the other shell
    exec "${spaces[@]}" bash -euc "$(declare -f mount_and_enter)"'; mount_and_enter "$@"' \
        bash "$root" "$(pwd -P)" "${#mounts[@]}" "${mounts[@]}" \
        env -i "${environment[@]}" env -u VGFENCE_VM "${command[@]}"
}

# mount_and_enter ROOT DIRECTORY N MOUNT... COMMAND...: N mounts.
mount_and_enter() {
    local root=$1 directory=$2 count=$3 path mount
    shift 3
    mount --rbind /dev "$root/dev"
    mount --rbind /proc "$root/proc"
    for path in /tmp /run /dev/shm; do
        mount -t tmpfs -o mode=1777 tmpfs "$root$path"
    done
    mkdir -p -m 700 "$root/run/user/0" "$root/tmp/home"
    for mount in "${@:1:count}"; do
        path=${mount#* }
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
        if [ "${mount%% *}" = ro ]; then mount -o remount,bind,ro "$root$path"; fi
    done
    shift "$count"
    # An ordinary user's PATH may not have it.
    exec env PATH="$PATH:/usr/sbin:/sbin" chroot "$root" \
        sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
}
