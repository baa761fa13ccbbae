# Needs Go and git. `make test` installs what the tests need, if run as root.

# Also where go.dev's archive puts it, which sudo does not look into.
GO ?= $(or $(shell command -v go),$(wildcard /usr/local/go/bin/go),go)
PREFIX ?= /usr/local
DESTDIR ?=
SHARE = $(DESTDIR)$(PREFIX)/share

# The version is what Go's build information says: a tag, or the commit.
# The tag leaves out a generator of manuals that nothing here uses.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -tags urfave_cli_no_docs

# Whoever runs make here trusts the repository, whoever owns it, as in a container that has it
# mounted. git(1), safe.directory.
ifndef GIT_CONFIG_COUNT
export GIT_CONFIG_COUNT = 1
export GIT_CONFIG_KEY_0 = safe.directory
export GIT_CONFIG_VALUE_0 = *
endif

.PHONY: all go build release dist demo test test-vm matrix faults memory race fuzz bench check install clean

all: build

go:
	@GO=$(GO) tests/setup.sh go

build: go
	$(BUILD) -o bin/ocibundle .

# For install: what was built as somebody else need not be built again.
bin/ocibundle: main.go VERSION go.mod go.sum $(shell find cli docs pipeline specedit tarx -type f)
	$(MAKE) build

release: go
	GOOS=linux GOARCH=amd64 $(BUILD) -ldflags=-s -o bin/ocibundle-linux-amd64 .
	GOOS=linux GOARCH=arm64 $(BUILD) -ldflags=-s -o bin/ocibundle-linux-arm64 .

# What is released: static binaries, Debian packages, bills of materials, SHA256SUMS.
dist: go
	packaging/dist.sh

demo: build
	@tests/with-cgroups.sh tests/demo.sh bin/ocibundle

# The cache directory holds what is slow to make and the same for all test packages.
# The go command's own cache of test results knows nothing of runtimes and engines.
# Some tests expect what a filesystem on a disk does, and /tmp may be in memory. The time
# limit is for what hangs: a busy machine takes several times as long as an idle one.
test: export TMPDIR ?= /var/tmp
test: go
	tests/setup.sh
	@cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && chmod 755 "$$cache" && \
	    set -x && OCIBUNDLE_TEST_CACHE="$$cache" tests/with-cgroups.sh $(GO) test -vet=off -count=1 -timeout 60m ./...

# Everything fails that can fail, one thing at a time: half an hour on two processors that have
# nothing else to do. `test` runs a sample.
faults: export TMPDIR ?= /var/tmp
faults: go
	tests/setup.sh
	tests/with-cgroups.sh $(GO) test -count=1 -timeout 24h ./tests/faults -all

# The worst that anyone can write, and the peak of memory for each, of which docs/memory.md is the
# table. Minutes. `test` runs a sample.
memory: export TMPDIR ?= /var/tmp
memory: go
	tests/setup.sh
	$(GO) test -count=1 -timeout 2h -v ./tests/memory -all -table $(CURDIR)/docs/memory.md

# Other machines: bare ones, such as qemu boots, and one of systemd's that services run on. An
# hour where it has to emulate the processor; what came out is in docs/machines.md.
test-vm: go
	tests/machines/run.sh
	$(GO) test -tags vm -count=1 -timeout 60m ./tests/unit

# Every runtime starts a bundle; what came out is in docs/runtimes.md. Minutes.
matrix: go
	tests/with-cgroups.sh tests/matrix/run.sh; status=$$?; tests/with-cgroups.sh tests/matrix/compare.sh && exit $$status

race: go
	tests/setup.sh
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(GO) test -race ./cli ./pipeline/... ./specedit/... ./tarx/...

# About a minute each on two processors. A number of rounds rather than a time: go test
# may take its own deadline for a failure. What is in TMPDIR
# when a worker is stopped, nobody else would remove.
FUZZ_PARSER ?= 300000x
FUZZ_EXTRACT ?= 60000x
FUZZ_DOCUMENTS ?= 50000x
FUZZ_IMAGES ?= 20000x
FUZZ = $(GO) test -run '^$$' -fuzzminimizetime 20x

fuzz: go
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && export TMPDIR="$$dir" && set -x && \
	    $(FUZZ) -fuzz '^FuzzParser$$' -fuzztime $(FUZZ_PARSER) ./tarx && \
	    $(FUZZ) -fuzz '^FuzzExtract$$' -fuzztime $(FUZZ_EXTRACT) ./tarx/extract && \
	    $(FUZZ) -fuzz '^FuzzDocument$$' -fuzztime $(FUZZ_DOCUMENTS) ./specedit && \
	    $(FUZZ) -fuzz '^FuzzAccounts$$' -fuzztime $(FUZZ_DOCUMENTS) ./specedit && \
	    $(FUZZ) -fuzz '^FuzzImageConfig$$' -fuzztime $(FUZZ_DOCUMENTS) ./specedit/imageconfig && \
	    $(FUZZ) -fuzz '^FuzzDocuments$$' -fuzztime $(FUZZ_IMAGES) ./pipeline/image && \
	    $(FUZZ) -fuzz '^FuzzReadProgram$$' -fuzztime $(FUZZ_DOCUMENTS) ./pipeline/check

bench: go
	tests/bench/run.sh

check: go
	tests/check.sh

install: bin/ocibundle
	umask 022 && \
	    install -D -m 755 bin/ocibundle $(DESTDIR)$(PREFIX)/bin/ocibundle && \
	    install -d $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions \
	        $(SHARE)/fish/vendor_completions.d && \
	    bin/ocibundle man >$(SHARE)/man/man1/ocibundle.1 && \
	    bin/ocibundle completion bash >$(SHARE)/bash-completion/completions/ocibundle && \
	    bin/ocibundle completion zsh >$(SHARE)/zsh/site-functions/_ocibundle && \
	    bin/ocibundle completion fish >$(SHARE)/fish/vendor_completions.d/ocibundle.fish

clean:
	rm -rf bin dist
