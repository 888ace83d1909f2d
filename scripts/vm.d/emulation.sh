# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # the other parts set parts and scratch, and use what is here
#
# How Debian's kernel is started, above all on an emulated processor, whose time is dear.

# A processor whose `rep movsb` is said to be fast is emulated slower: that goes byte by byte.
readonly emulation=(-accel tcg,thread=multi -cpu "max,la57=off,erms=off,fsrm=off")
# If this machine has a single processor, each of two would wait for the other.
readonly usual_processors=$(($(nproc) > 1 ? 2 : 1))
readonly num_processors=${VGFENCE_VM_PROCESSORS:-$usual_processors} # emulated
readonly boot_arguments=(console=ttyS0 panic=-1 quiet)
# What an emulated processor takes long for, and is Debian's business: the tests of ciphers, random
# numbers from jitter, the names of constants in the formats of trace events.
readonly left_out_at_boot=(cryptomgr.notests initcall_blacklist=jent_mod_init,trace_eval_init)
readonly tsc_rate_source=$parts/tsc-rate.c

# prepare_emulation RELEASE DIRECTORY: what emulated_kernel_arguments has to know of this kernel,
# whose headers are in headers/.
prepare_emulation() {
    local settings=$scratch/headers/usr/src/linux-headers-$1/include/config/auto.conf
    sed -n 's/^CONFIG_HZ=//p' "$settings" >"$2/hz"
    [ -s "$2/hz" ] || die "$settings has no CONFIG_HZ"
    gcc -O2 -o "$2/tsc-rate" "$tsc_rate_source" || die "cannot compile $tsc_rate_source"
}

# Whether this machine's kernel trusts the counter; one that says nothing, as in User-Mode Linux,
# does.
has_good_tsc() {
    local file=/sys/devices/system/clocksource/clocksource0/available_clocksource
    [ ! -r "$file" ] || grep -qw tsc "$file"
}

# emulated_kernel_arguments DIRECTORY PROCESSORS: for the kernel there, on one line.
# It boots on one processor, and qemu-init starts the others: two that boot wait for each other a
# lot, and trip over code that one of them changes. Nor does it boot with code for one, which it
# would change when the second starts.
# Their time stamp counter is the real one. A kernel that measures it on a busy machine is wrong by
# far: its clock runs up to 28 times too fast, until it sees that and takes the HPET, each look at
# which is a call of QEMU's. And it would measure for half a second with each processor.
emulated_kernel_arguments() {
    local arguments=("${boot_arguments[@]}" no_timer_check "${left_out_at_boot[@]}") rate hz
    if [ "$2" -gt 1 ]; then arguments+=(maxcpus=1 noreplace-smp); fi
    read -r hz <"$1/hz"
    if has_good_tsc && rate=$("$1/tsc-rate"); then
        arguments+=(tsc=reliable "tsc_early_khz=$rate" "lpj=$((rate * 1000 / hz))")
    fi
    echo "${arguments[*]}"
}
