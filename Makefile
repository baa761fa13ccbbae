# Needs Go and git. `make test` installs what the tests need, if run as root.

GO ?= go
PREFIX ?= /usr/local
DESTDIR ?=
SHARE = $(DESTDIR)$(PREFIX)/share
SHARE = $(DESTDIR)$(PREFIX)/share

# The version is what Go's build information says: a tag, or the commit.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath

.PHONY: all build release demo test faults race fuzz bench check install clean

all: build

build:
	$(BUILD) -o bin/ocibundle .

release:
	GOOS=linux GOARCH=amd64 $(BUILD) -ldflags=-s -o bin/ocibundle-linux-amd64 .
	GOOS=linux GOARCH=arm64 $(BUILD) -ldflags=-s -o bin/ocibundle-linux-arm64 .

demo: build
	@tests/with-cgroups.sh tests/demo.sh bin/ocibundle

# The cache directory holds what is slow to make and the same for all test packages.
# The go command's own cache of test results knows nothing of runtimes and engines.
# Some tests expect what a filesystem on a disk does, and /tmp may be in memory.
test: export TMPDIR ?= /var/tmp
test:
	tests/setup.sh
	@cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && chmod 755 "$$cache" && \
	    set -x && OCIBUNDLE_TEST_CACHE="$$cache" tests/with-cgroups.sh $(GO) test -count=1 -timeout 15m ./...

# Everything fails that can fail, one thing at a time; `test` takes a sample of it. About an hour and a half on two
# processors.
faults: export TMPDIR ?= /var/tmp
faults:
	tests/setup.sh
	tests/with-cgroups.sh $(GO) test -count=1 -timeout 12h ./tests/faults -all

race:
	tests/setup.sh
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(GO) test -race . ./pipeline/... ./specedit/... ./tarx/...

# About a minute each on two processors. A number of rounds rather than a time: go test
# may take its own deadline for a failure. What is in TMPDIR
# when a worker is stopped, nobody else would remove.
FUZZ_PARSER ?= 300000x
FUZZ_EXTRACT ?= 60000x
FUZZ = $(GO) test ./tarx -run '^$$' -fuzzminimizetime 20x

fuzz:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && export TMPDIR="$$dir" && set -x && \
	    $(FUZZ) -fuzz '^FuzzParser$$' -fuzztime $(FUZZ_PARSER) && \
	    $(FUZZ) -fuzz '^FuzzExtract$$' -fuzztime $(FUZZ_EXTRACT)

bench:
	tests/bench/run.sh

check:
	tests/check.sh

install: build
	install -D -m 755 bin/ocibundle $(DESTDIR)$(PREFIX)/bin/ocibundle
	install -d $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions \
	    $(SHARE)/fish/vendor_completions.d
	bin/ocibundle man >$(SHARE)/man/man1/ocibundle.1
	bin/ocibundle completion bash >$(SHARE)/bash-completion/completions/ocibundle
	bin/ocibundle completion zsh >$(SHARE)/zsh/site-functions/_ocibundle
	bin/ocibundle completion fish >$(SHARE)/fish/vendor_completions.d/ocibundle.fish

clean:
	rm -rf bin
