# make demo     a protected pair of VMs at work, shown step by step
# make test     lint, all tests, and a real pair, checked, on the installed QEMU and on the newest that Debian has
# make faults   kills, stops and cuts parts of pairs under load; COUNT=300 for more, SEED=S to repeat
# make loss     the protected pair beside unprotected guests while frames between node and client are lost, in
#               some 25 minutes; SEED=S to repeat, LOSS="--rounds 1 --only to-1" for parts
# make matrix   the check and a short fault suite on each release of QEMU that Debian has, fetched if need be, and one
#               table; COUNT=40 for more injections, MATRIX="--only 11.1" for one release
# make table    the protected pair beside QEMU's own proxy and no protection
# make bench    everything measured, beside testpmd, QEMU's proxy and unprotected guests, in some
#               30 minutes; BENCH=--quick in two, without guests; BENCH="--runs 5 engine ports" parts
# make dpdk-matrix  builds and runs the tests at ports and of the daemon on each release of DPDK that Debian has, each
#               in a Debian of its own that is removed again; RELEASES="24.11" for some, LOGS=DIR keeps what was said
# make fuzz     tries new inputs on the fuzz targets, for TIME=14400 seconds in all; needs cargo-fuzz and a nightly
#               compiler (docs/fuzzing.md); TARGETS="comparator primary" for some
# make mutants  whether the fuzz targets find faults: each of fuzz/mutants.list, for TIME=300 seconds at most
# make fresh    make demo and make test as the only two commands in a fresh Debian; SUITE=bookworm for another
# make install  PREFIX=/usr/local, DESTDIR for packagers
# make deb      a Debian package, in target/debian (docs/packaging.md)
# make cluster-test  a protected VM under Pacemaker in a fresh Debian: KILLS=10, CUTS=5, SEED=1
# make package-test  builds, installs, upgrades and purges the package in a fresh Debian; SUITE=bookworm for another
# make clean    what was built; the guest image too
#
# demo and test install what is missing (Debian, as root).

PREFIX ?= /usr/local
CARGO ?= $(or $(shell command -v cargo),$(wildcard $(HOME)/.cargo/bin/cargo),cargo)
TARGET = $(or $(CARGO_TARGET_DIR),target)
BIN = $(TARGET)/release/dpdk-colo
AUDIT = $(TARGET)/release/dpdk-colo-audit
CTL = $(TARGET)/release/coloctl
LAB = $(TARGET)/debug/colo-lab
IMAGE ?= lab/work/image
export CARGO

.PHONY: all demo test lint unit replay fuzz fuzz-short mutants instructions check check-newest faults faults-short loss matrix table bench dpdk-matrix fresh install deb package-test cluster-test clean packages lab

all:
	$(CARGO) build --release -p dpdk-colo -p dpdk-colo-audit -p coloctl

lab:
	$(CARGO) build -p colo-lab

demo: packages
	@$(MAKE) --no-print-directory all lab
	@hugepages/reserve 1024 $(LAB) demo --bin $(BIN) --image $(IMAGE)

test: packages
	@$(MAKE) --no-print-directory lint unit replay fuzz-short instructions check check-newest faults-short

# Both builds of the library: with DPDK and without. Only the warnings of this release of Rust fail:
# a later one, which Debian may have by then, knows of more.
LINTED = 1.95
DENY = $(if $(filter $(LINTED).%,$(word 2,$(shell $(CARGO) --version))),-D warnings)
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- $(DENY)
	$(CARGO) clippy -p dpdk-colo --no-default-features --all-targets -- $(DENY)
	RUSTDOCFLAGS="$(DENY) -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --manifest-path fuzz/Cargo.toml --all-targets -- $(DENY)
	for script in lab/guest/build scripts/* hugepages/reserve packaging/man-page packaging/ocf/* examples/*/* \
	  lab/cluster/test lab/cluster/takeover lab/cluster/lib lab/cluster/host lab/cluster/vm \
	  lab/cluster/node lab/cluster/ctl fuzz/run fuzz/mutants fuzz/options \
	  fuzz/rustc-wrapper; do bash -n $$script || exit 1; done

# The seeds of randomised tests, always the same here so that a change is judged by itself;
# `make unit DPDK_COLO_SEED=$$RANDOM` draws others.
DPDK_COLO_SEED ?= 1
unit: export DPDK_COLO_SEED := $(DPDK_COLO_SEED)
unit:
	$(CARGO) test -p dpdk-colo --no-default-features
	$(CARGO) test --workspace

# The fuzz targets: their corpora on this compiler, and new inputs where cargo-fuzz and a nightly compiler are.
replay:
	$(CARGO) test --manifest-path fuzz/Cargo.toml

TIME ?= $(if $(filter mutants,$(MAKECMDGOALS)),300,14400)
fuzz:
	@fuzz/run $(TIME) $(TARGETS)

fuzz-short:
	@fuzz/run --if-able 60

mutants:
	@fuzz/mutants $(TIME)

# What the comparator costs, in instructions per pair of frames; fails if one count grew by more
# than 3 %. `colo-bench instructions --update` after a change that is worth it.
instructions:
	$(CARGO) run --release -p colo-bench -- instructions --check

check: all lab
	$(LAB) check --bin $(BIN) --image $(IMAGE) --audit $(AUDIT)

# The same on the newest release of QEMU that Debian has, with nodes that connect to their guests.
check-newest: all lab
	$(LAB) check --qemu 11.1 --vhost-client --bin $(BIN) --image $(IMAGE) --audit $(AUDIT)

COUNT ?= 60
faults: all lab
	$(LAB) faults --bin $(BIN) --image $(IMAGE) --audit $(AUDIT) --count $(COUNT) $(if $(SEED),--seed $(SEED)) $(FAULTS)

faults-short: all lab
	$(LAB) faults --bin $(BIN) --image $(IMAGE) --audit $(AUDIT) --count 8 --seed 3000

loss: all lab
	$(LAB) loss --bin $(BIN) --image $(IMAGE) $(if $(SEED),--seed $(SEED)) $(LOSS)

matrix: all lab
	$(LAB) matrix --bin $(BIN) --image $(IMAGE) --audit $(AUDIT) --full $(if $(findstring command,$(origin COUNT)),--count $(COUNT)) $(MATRIX)

table: all lab
	$(LAB) table --bin $(BIN) --image $(IMAGE)

bench: packages
	$(CARGO) build --release -p dpdk-colo -p colo-lab -p colo-bench
	@$(TARGET)/release/colo-bench $(BENCH) --image $(IMAGE)

dpdk-matrix:
	@scripts/dpdk-matrix $(RELEASES)

SUITE ?= trixie
fresh:
	scripts/in-debian $(SUITE) bash -c 'time make demo && time make test'

package-test:
	scripts/package-test $(SUITE)

# The package is for the Debian that this runs on, and so is the cluster.
CLUSTER = $(TARGET)/cluster
cluster-test: deb lab
	$(LAB) image $(IMAGE)
	rm -rf $(CLUSTER) && mkdir -p $(CLUSTER)/image
	cp $(TARGET)/debian/dpdk-colo_*.deb $(CLUSTER)
	cp $(addprefix $(IMAGE)/,vmlinuz initrd.gz tcg_lock_shim.so) $(CLUSTER)/image
	. /etc/os-release && lab/cluster/test $(CLUSTER) $$VERSION_CODENAME
	. /etc/os-release && lab/cluster/takeover $(CLUSTER) $$VERSION_CODENAME

# The unit, the agent and all else that a package has lies below packaging/. Units name /usr/bin: change them for
# another PREFIX.
install: all
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/dpdk-colo
	install -D -m 755 $(AUDIT) $(DESTDIR)$(PREFIX)/bin/dpdk-colo-audit
	install -D -m 755 $(CTL) $(DESTDIR)$(PREFIX)/bin/coloctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/dpdk-colo/prometheus share/prometheus/*
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/dpdk-colo/grafana share/grafana/*
	mkdir -p $(addprefix $(DESTDIR)$(PREFIX)/share/,man/man1 bash-completion/completions zsh/site-functions)
	$(CTL) man > $(DESTDIR)$(PREFIX)/share/man/man1/coloctl.1
	packaging/man-page $(BIN) "network proxy for COLO, QEMU's fault tolerance" "coloctl(1)" "dpdk-colo-audit(1)" \
	  > $(DESTDIR)$(PREFIX)/share/man/man1/dpdk-colo.1
	packaging/man-page $(AUDIT) "judge the captures of dpdk-colo" "dpdk-colo(1)" \
	  > $(DESTDIR)$(PREFIX)/share/man/man1/dpdk-colo-audit.1
	$(CTL) completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/coloctl
	$(CTL) completions zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_coloctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system packaging/systemd/*.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d packaging/sysusers.d/*.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d packaging/tmpfiles.d/*.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/sysctl.d packaging/sysctl.d/*.conf
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/ocf/resource.d/colo packaging/ocf/*
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/dpdk-colo/examples packaging/config/*
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/share/doc/dpdk-colo/examples/fence examples/fence/*
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/share/doc/dpdk-colo/examples/cluster examples/cluster/*

# A package for the Debian that this runs on, in $(TARGET)/debian.
deb:
	@scripts/install-packages deb
	debian/rules clean
	rm -rf $(TARGET)/debian && mkdir -p $(TARGET)/debian
	DEB_RULES_REQUIRES_ROOT=no DEB_DIR=$(TARGET)/debian debian/rules binary
	debian/rules clean
	@ls $(TARGET)/debian/*.deb

clean:
	$(CARGO) clean
	rm -rf lab/work

packages:
	@scripts/install-packages
