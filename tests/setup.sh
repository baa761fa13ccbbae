#!/bin/bash
# setup.sh [go | PROGRAM...]: installs what the tests need and this machine lacks, or of
# that only the programs named, from its Debian or Ubuntu archive; `go` is a Go that can
# build this module. Root only; an ordinary user is told what is missing (exit 1). Quick
# and silent when nothing is. With OCIBUNDLE_TEST=unit, which leaves out the tests that
# need more than Go, it does nothing but `go`. TOOLS names another list than testenv/tools.txt.
set -euo pipefail
[ "${OCIBUNDLE_TEST-}" != unit ] || [ "${1-}" = go ] || exit 0
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

tests=$(dirname "$(readlink -f "$0")")
table=${TOOLS:-$tests/testenv/tools.txt}
only=" $* "

# missing N prints the packages of the programs that are not installed: the package
# of the N-th line for each program, if it has that many.
missing() {
    local program package
    declare -A lines
    while read -r program package; do
        case $program in '#'*) continue ;; esac
        [ "$only" = "  " ] || [[ $only = *" $program "* ]] || continue
        lines[$program]=$((${lines[$program]:-0} + 1))
        if [ "${lines[$program]}" -eq "$1" ] && ! command -v "$program" >/dev/null; then
            echo "$package"
        fi
    done <"$table" | tr " " "\n" | sort -u
}

# Go 1.21 and later fetch the version that go.mod names; older ones cannot read that file. It says itself what it fetches, and
# what goes wrong.
go_builds() { (cd "$tests/.." && "${GO:-go}" list -m >/dev/null); }

# go_is_old: what there is of Go is none, or too old for that. It is not to fetch another one for that.
go_is_old() {
    ! command -v "${GO:-go}" >/dev/null ||
        dpkg --compare-versions "$(GOTOOLCHAIN=local "${GO:-go}" version | sed 's/^go version go\([0-9.]*\).*/\1/')" lt 1.21
}

if [ "${1-}" = go ]; then
    if ! go_is_old; then
        go_builds
        exit
    fi
    first=golang-go
    . /etc/os-release
    [ "${VERSION_CODENAME-}" != bookworm ] || first="-t bookworm-backports golang-go"
else
    first=$(missing 1)
    [ -n "$first" ] || exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "these packages are missing: sudo apt-get install" $first >&2
    [ "${1-}" != go ] || echo "(Go 1.21 or later)" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "without apt-get, install by hand what Debian has as" $first >&2
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

from=() # apt's options for another archive than the machine's
install() {
    echo "installing" "$@"
    if ! DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        -q -y --no-install-recommends "${from[@]}" install "$@" >"$scratch/log" 2>&1 </dev/null; then
        cat "$scratch/log" >&2
        return 1
    fi
}

update() {
    apt-get -o DPkg::Lock::Timeout=300 -q update "$@" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
}

# install_go installs the archive's Go, or where that is too old, as in Debian 12, the one
# that was made for that release later on. The machine's list of archives stays as it is.
install_go() {
    local version
    version=$(apt-cache policy golang-go | sed -n 's/^ *Candidate: \([0-9]*:\)\?//p')
    if dpkg --compare-versions "${version:-0}" lt 1.21; then
        . /etc/os-release
        cat /etc/apt/sources.list >"$scratch/sources.list" 2>/dev/null || true
        echo "deb http://deb.debian.org/debian ${VERSION_CODENAME-}-backports main" >>"$scratch/sources.list"
        from=(-o "Dir::Etc::SourceList=$scratch/sources.list" -t "${VERSION_CODENAME-}-backports")
        [ "${ID-}" = debian ] && (update "${from[@]:0:2}") || return
    fi
    install golang-go ca-certificates
}

update
if [ "${1-}" = go ]; then
    install_go && go_builds && exit
    echo "Go 1.21 or later is needed, which this release of the system does not have: https://go.dev/doc/install" >&2
    exit 1
fi

install $first
second=$(missing 2)
[ -z "$second" ] || install $second

left=$(missing 1)
if [ -n "$left" ]; then
    echo "programs of these packages are still missing:" $left >&2
    exit 1
fi
