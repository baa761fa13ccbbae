#!/bin/bash
# What can be said about the code without running it. Exit 1 if anything is wrong.
#
# staticcheck, govulncheck and the latter's database come over the network. What
# cannot be reached is said and left out.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
status=0
wrong() {
    echo "check: $1" >&2
    status=1
}

# Modules nested in this one are not part of its ./... and are checked as well.
for mod in $(git ls-files --cached --others --exclude-standard go.mod '*/go.mod'); do
    echo "go vet: $mod"
    (cd "$(dirname "$mod")" && go vet ./...) || wrong "go vet: $mod"
done

echo gofmt
unformatted=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l) || wrong gofmt
[ -z "$unformatted" ] || wrong "gofmt would change: $unformatted"

for script in $(git ls-files --cached --others --exclude-standard '*.sh' .ci/run); do
    bash -n "$script" || wrong "$script"
done

echo "go mod verify"
go mod verify >"$bin/log" 2>&1 || { cat "$bin/log" >&2; wrong "go mod verify"; }

if GOBIN=$bin go install "$staticcheck" >"$bin/log" 2>&1; then
    echo staticcheck
    "$bin/staticcheck" ./... || wrong staticcheck
else
    echo "check: no staticcheck: $(tail -n 1 "$bin/log")" >&2
fi

if ! GOBIN=$bin go install "$govulncheck" >"$bin/log" 2>&1; then
    echo "check: no govulncheck: $(tail -n 1 "$bin/log")" >&2
else
    echo govulncheck
    "$bin/govulncheck" ./... >"$bin/log" 2>&1
    case $? in
    0) ;;
    3)
        cat "$bin/log" >&2
        wrong govulncheck
        ;;
    *)
        if grep -q 'fetching vulnerabilities' "$bin/log"; then
            echo "check: no vulnerability database: $(tail -n 1 "$bin/log")" >&2
        else
            cat "$bin/log" >&2
            wrong govulncheck
        fi
        ;;
    esac
fi
exit "$status"
