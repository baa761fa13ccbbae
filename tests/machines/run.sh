#!/bin/bash
# run.sh [MACHINE[=LOG]...]: tries the program on machines that are made for it, all or those
# named, and writes what came out into docs/machines.md; LOG is what the machine's script said
# when it was run by itself. Fails if anything did. Root; an hour where
# processors are emulated.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
TOOLS=tests/machines/tools.txt tests/setup.sh

declare -A machines=(
    [bare-12]="bare.sh bookworm"
    [bare-13]="bare.sh trixie"
    [vm-12]="vm.sh amd64 bookworm"
    [vm-13]="vm.sh amd64 trixie docker.io docker-cli iptables podman containerd systemd-container"
    [vm-13-arm64]="vm.sh arm64 trixie"
)
page=docs/machines.md
log=$(mktemp)
trap 'rm -f "$log" "$log.page"' EXIT

# section NAME STATUS: what the page says of the machine.
section() {
    local name=$1 status=$2
    printf '## %s\n\n`tests/machines/%s`, of %s: %s\n\n' "$name" "${machines[$name]}" "$(git log -1 --format=%cs)" "$status"
    case $name in
    bare-*) sed -n '/^+ make demo/,$p' "$log" | sed 's/^/    /' | grep -v 'go: downloading' ;;
    *)
        sed -n 's/^FACT \(.*\)/\1.  /p' "$log"
        printf '\n| | |\n|---|---|\n'
        sed -n 's/^RESULT \([a-zA-Z]*\) \(.*\)/| \2 | \1 |/p' "$log" | sed 's/as_//'
        ;;
    esac
    echo
}

failed=0
[ $# -gt 0 ] || set -- bare-12 bare-13 vm-12 vm-13 vm-13-arm64
for arg in "$@"; do
    name=${arg%%=*}
    [ -n "${machines[$name]-}" ] || { echo "run.sh: no machine $name: ${!machines[*]}" >&2; exit 2; }
    echo "== $name"
    status=passed
    if [ "$arg" != "$name" ]; then
        cp "${arg#*=}" "$log"
    else
        # shellcheck disable=SC2086 # words
        tests/machines/${machines[$name]} 2>&1 | tee "$log" || echo FAILED >>"$log"
    fi
    ! grep -q '^FAILED\|^RESULT FAILED' "$log" || status=FAILED failed=1
    # The page with this section in the place of the old one, or at the end.
    section "$name" "$status" >"$log.section"
    awk -v heading="## $name" -v file="$log.section" '
        function put() { while ((getline line <file) > 0) print line; done = 1 }
        /^## / { skip = 0 }
        $0 == heading { put(); skip = 1 }
        !skip { print }
        END { if (!done) put() }' "$page" >"$log.page"
    cat "$log.page" >"$page"
    rm -f "$log.section" "$log.page"
done
exit $failed
