#!/bin/bash
# dist.sh: builds what is released, below dist/: static binaries and Debian packages
# for amd64 and arm64, a bill of materials of each binary, and SHA256SUMS. Two clones of
# one commit give the same bytes. Needs Go, git, dpkg-deb and gzip.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

for tool in go git dpkg-deb gzip; do
    command -v "$tool" >/dev/null || { echo "dist: $tool is needed: apt-get install golang-go git dpkg gzip" >&2; exit 1; }
done

version=$(<VERSION)
# Every time in a package is that of the commit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022

rm -rf dist
mkdir dist
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

GOBIN=$scratch go install "$cyclonedx"

# build ARCH: the static binary, the licenses of what is linked into it, and its bill of
# materials.
build() {
    local out=dist/ocibundle-$version-linux-$1 module dir
    GOOS=linux GOARCH=$1 CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$out" .
    go version -m "$out" | awk '$1 == "dep" { print $2 }' | sort | while read -r module; do
        dir=$(go list -m -f '{{.Dir}}' "$module")
        for file in "$dir"/LICENSE* "$dir"/LICENCE* "$dir"/COPYING* "$dir"/NOTICE*; do
            [ -f "$file" ] || continue
            printf '%s, %s\n\n' "$module" "${file##*/}"
            cat "$file"
            printf '\n'
        done
    done >"$scratch/licenses-$1"
    "$scratch/cyclonedx-gomod" bin -json -noserial -notimestamp -output "$out.cdx.json" "$out" 2>"$scratch/log" || {
        cat "$scratch/log" >&2
        return 1
    }
}

# package ARCH: the Debian package of the binary.
package() {
    local root=$scratch/deb-$1
    local doc=$root/usr/share/doc/ocibundle
    install -D -m 755 "dist/ocibundle-$version-linux-$1" "$root/usr/bin/ocibundle"
    install -d "$doc" "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions" \
        "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d" "$root/DEBIAN"
    "$scratch/ocibundle" man | gzip -9n >"$root/usr/share/man/man1/ocibundle.1.gz"
    "$scratch/ocibundle" completion bash >"$root/usr/share/bash-completion/completions/ocibundle"
    "$scratch/ocibundle" completion zsh >"$root/usr/share/zsh/vendor-completions/_ocibundle"
    "$scratch/ocibundle" completion fish >"$root/usr/share/fish/vendor_completions.d/ocibundle.fish"
    cp packaging/copyright "$doc/copyright"
    gzip -9n <"$scratch/licenses-$1" >"$doc/third-party-licenses.gz"
    gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
    sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$1/" -e "s/@SIZE@/$(du -k -s --apparent-size "$root/usr" | cut -f1)/" \
        packaging/control >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$root" "dist/ocibundle_${version}_$1.deb" >/dev/null
}

CGO_ENABLED=0 go build -trimpath -o "$scratch/ocibundle" .
for arch in amd64 arm64; do
    build "$arch"
    package "$arch"
done
(cd dist && sha256sum -- * >"$scratch/sums")
mv "$scratch/sums" dist/SHA256SUMS
cat dist/SHA256SUMS
