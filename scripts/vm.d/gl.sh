# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # cache, run, client_root and so on are set by the other parts
#
# Kind gl: QEMU's own GPU, virtio-gpu-gl, with virglrenderer in QEMU's process, and Debian's own
# kernel as it is; both are those of kind client. Its window needs an X server. scripts/in-place and
# scripts/compare say by variables which library is in virglrenderer's place (IN_PLACE), which
# window QEMU has (QEMU_WINDOW), and where QEMU's messages go (QEMU_LOG).

prepare_gl() {
    prepare_client
}

check_gl() {
    check_client
}

start_gl() {
    local command_line qemu
    [ -n "${DISPLAY-}" ] || die "--kind gl takes an X server, at DISPLAY"
    mapfile -t qemu < <(client_qemu)
    command_line=$(emulated_kernel_arguments "$qemu_kernel" "$num_processors")
    if [ -n "${IN_PLACE-}" ]; then put_in_place; fi
    machine_display=${QEMU_WINDOW:-gtk},gl=on
    # shellcheck disable=SC2016  # for the other shell
    start_machine "$qemu_kernel" "$command_line" \
        bash -c 'exec "$@" 2>>"$0"' "${QEMU_LOG:-$run/console}" "${qemu[@]}" \
        "${emulation[@]}" -smp "$num_processors" -machine q35 -device virtio-gpu-gl-pci
}

# By a library path, as QEMU is not to be changed: that of the QEMU in the cache, if it is that one.
put_in_place() {
    local i name=libvirglrenderer.so.1
    mkdir "$run/libraries"
    ln -s "$IN_PLACE" "$run/libraries/$name"
    for i in "${!qemu[@]}"; do
        if [ "${qemu[i]}" = --library-path ]; then
            qemu[i + 1]=$run/libraries:${qemu[i + 1]}
            qemu=(env "VGFENCE_VIRGLRENDERER=$client_root/usr/lib/x86_64-linux-gnu/$name"
                "${qemu[@]}")
            return
        fi
    done
    qemu=(env "LD_LIBRARY_PATH=$run/libraries" "${qemu[@]}")
}
