# SPDX-License-Identifier: MIT
# Copyright the vgfence authors
# shellcheck shell=bash
# shellcheck disable=SC2154  # cache, kernel, kind and scratch are set by the other parts
#
# Debian packages: tools are installed where that is ours to do, kernels and sources are fetched
# with an apt configuration of our own, so that the system's lists and settings stay as they are.

release() {
    # shellcheck source=/dev/null
    (. /etc/os-release 2>/dev/null && echo "${ID:-} ${VERSION_ID:-}")
}

# The suite that has Linux 6.12.
kernel_suite() {
    case $(release) in
    'debian 12') echo bookworm-backports ;;
    'debian 13') echo trixie ;;
    *) return 1 ;;
    esac
}

# The suite that has the kernel's source for User-Mode Linux. That of a kernel that Debian 12 does
# not have is fetched from Debian 13's backports all the same: it is only built here.
uml_suite() {
    case $kernel in
    6.12) kernel_suite ;;
    7.3) kernel_suite >/dev/null && echo trixie-backports ;;
    esac
}

main_suite() {
    local suite
    suite=$(kernel_suite) && echo "${suite%-backports}"
}

# The archive that this system's own packages come from, as apt knows it. Others name their suites
# like Debian's. If apt has not read an archive's lists, it does not know the origin, and leaves its
# name as it is.
mirror() {
    command -v apt-get >/dev/null || return 1
    # shellcheck disable=SC2016  # apt fills these in
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(ORIGIN)' 'Created-By: Packages' |
        awk -v suite="$(main_suite)" '
            NF > 3 || $3 !~ /^(Debian|\$\(ORIGIN\))$/ { next }
            $2 == suite || $2 ~ /^(old)?stable$/ { print $1 }' |
        first_line
}

first_line() {
    awk 'NR == 1 { print } END { exit !NR }'
}

# --- tools

# missing COMMAND:PACKAGE...: the packages whose command (or file) is not there.
missing() {
    local pair packages=()
    for pair; do
        if ! command -v "${pair%%:*}" >/dev/null && [ ! -e "${pair%%:*}" ]; then
            packages+=("${pair#*:}")
        fi
    done
    echo "${packages[*]}"
}

can_install() {
    [ "$(id -u)" -eq 0 ] && kernel_suite >/dev/null && command -v apt-get >/dev/null
}

# need COMMAND:PACKAGE...: installs what is missing, or says exactly what that is.
need() {
    local packages
    packages=$(missing "$@")
    if [ -z "$packages" ]; then return; fi
    can_install || lack "the $kind virtual host needs these Debian packages: $packages"
    (
        flock 9 # apt does not wait for another that reads the system's lists
        # shellcheck disable=SC2086  # one word a package
        in_log "$cache/log/install.log" "installing $packages" '^Setting up' \
            install_packages $packages
    ) 9>"$cache/scratch/install.lock" || lack "could not install $packages"
}

install_packages() {
    install_from_lists "$@" || { apt-get -q update && install_from_lists "$@"; }
}

install_from_lists() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 -o DPkg::Use-Pty=0 \
        install -y --no-install-recommends "$@"
}

# --- packages that are only fetched

# write_apt_configuration ARCHIVE SUITE...
write_apt_configuration() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg options='check-valid-until=no'
    if [ -r $keyring ]; then options+=" signed-by=$keyring"; fi
    printf "deb [$options] $1 %s main\n" "${@:2}" | sort -u >"$scratch/sources.list"
    mkdir -p "$scratch"/apt/{lists,archives}/partial
    cat >"$scratch/apt.conf" <<END
Dir::Etc::sourcelist "$scratch/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$scratch/apt/lists";
Dir::Cache "$scratch/apt";
APT::Sandbox::User "";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
}

# update_lists [SUITE...]: reads the lists of the archive, once a run. Needs the cache's lock.
update_lists() {
    local archive
    [ ! -e "$scratch/apt.conf" ] || return 0
    archive=$(mirror) || lack "no Debian 12 or 13 archive in apt's configuration"
    if [ $# -eq 0 ]; then set -- "$(main_suite)" "$(kernel_suite)" "$(uml_suite)"; fi
    write_apt_configuration "$archive" "$@"
    read_lists "$(printf '%s\n' "$@" | sort -u | xargs)"
}

read_lists() {
    note "reading the package lists of $1"
    apt-get -c "$scratch/apt.conf" -q --error-on=any update \
        >"$cache/log/apt-${scratch##*/}.log" 2>&1 || {
        tail -n 20 "$cache/log/apt-${scratch##*/}.log" >&2
        lack "could not read the package lists of $1"
    }
}

# reach_sid ARCHIVE: it answers. What goes wrong afterwards is not for want of it.
reach_sid() {
    write_apt_configuration "$1" sid
    read_lists sid
}

# What it says is read here.
private_apt_cache() {
    LC_ALL=C apt-cache -c "$scratch/apt.conf" "$@"
}

# fetch PACKAGE[=VERSION]: downloads it and prints the file's path.
fetch() {
    local directory=$scratch/debs files name=${1%%=*}
    update_lists
    mkdir -p "$directory"
    private_apt_cache show "$1" >/dev/null 2>&1 || die "the archive that apt uses here has no $1"
    note "fetching $1"
    (cd "$directory" && apt-get -c "$scratch/apt.conf" -q -t "$(kernel_suite)" download "$1") \
        >>"$cache/log/apt-${scratch##*/}.log" 2>&1 || {
        tail -n 20 "$cache/log/apt-${scratch##*/}.log" >&2
        lack "could not fetch $1"
    }
    files=("$directory/$name"_*.deb)
    echo "${files[0]}"
}
