#!/bin/bash
# Installs what the tests need and this machine lacks, from its Debian or Ubuntu
# archive. Root only; an ordinary user is told what is missing (exit 1). Quick and
# silent when nothing is. With OCIBUNDLE_TEST=unit, which leaves out the tests that need
# more than Go, it does nothing.
set -euo pipefail
[ "${OCIBUNDLE_TEST-}" != unit ] || exit 0
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

table=$(dirname "$(readlink -f "$0")")/testenv/tools.txt

# missing N prints the packages of the programs that are not installed: the package
# of the N-th line for each program, if it has that many.
missing() {
    local program package
    declare -A lines
    while read -r program package; do
        case $program in '#'*) continue ;; esac
        lines[$program]=$((${lines[$program]:-0} + 1))
        if [ "${lines[$program]}" -eq "$1" ] && ! command -v "$program" >/dev/null; then
            echo "$package"
        fi
    done <"$table" | tr " " "\n" | sort -u
}

first=$(missing 1)
[ -n "$first" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "the tests need these packages: apt-get install" $first >&2
    exit 1
fi

scratch=$(mktemp -d)
policy=
cleanup() {
    rm -rf "$scratch"
    [ -z "$policy" ] || rm -f "$policy"
}
trap cleanup EXIT

# The daemons' packages would start them, which no test wants.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

install() {
    echo "installing" "$@"
    if ! DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        -q -y --no-install-recommends install "$@" >"$scratch/log" 2>&1 </dev/null; then
        cat "$scratch/log" >&2
        return 1
    fi
}

apt-get -o DPkg::Lock::Timeout=300 -q update >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
install $first
second=$(missing 2)
[ -z "$second" ] || install $second

left=$(missing 1)
if [ -n "$left" ]; then
    echo "programs of these packages are still missing:" $left >&2
    exit 1
fi
