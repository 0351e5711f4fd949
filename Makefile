# `make help` says what there is. Everything here is a thin call: the work is in cargo and in scripts/.

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
# What the released programs are built for, with musl where that can be; make TRIPLE=x86_64-unknown-linux-gnu is another.
TRIPLE  := $(shell scripts/triple 2>/dev/null)
# Tests, and what only this machine runs, are built for the machine itself.
HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
OCIRT   := $(CURDIR)/target/$(TRIPLE)/release/ocirt
SHIM    := $(CURDIR)/target/$(TRIPLE)/release/containerd-shim-ocirt-v2
# The runtime under test: RUNTIME=/usr/sbin/runc make integration
RUNTIME ?= $(OCIRT)
ARGS    ?=
PART    ?=
STEPS   ?= 100000000
SCRIPTS := $(shell grep -rlE '^\#!.*\b(ba)?sh\b' scripts build conformance bench integration packaging .ci --exclude='*.rs' 2>/dev/null)

# What the walks through engines need, besides what builds them.
ENGINES := containerd docker.io docker-compose docker-registry podman buildah containernetworking-plugins runc \
	busybox-static catatonit iproute2 iptables jq socat uidmap slirp4netns fuse-overlayfs protobuf-compiler libprotobuf-dev

.DELETE_ON_ERROR:
.PHONY: help demo build shim test unit schedules integration conformance engines engines-new engines-shim engines-shim-fast engines-shim-vm engines-shim-newest engines-shim-client bench-shim soak-shim engines-vm engines-load deb deb-test bench bench-page mutants lint install test-vm test-vm-fast clean

help: ## this text
	@echo 'ocirt, an OCI container runtime'
	@echo
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  RUNTIME=/usr/sbin/runc make integration     the tests against another runtime'
	@echo '  make integration ARGS="mounts hooks"        only the tests whose names have these words'
	@echo '  make install PREFIX=/usr DESTDIR=/tmp/pkg   where to'
	@echo '  make bench PEERS="$$(scripts/peers)"         against the newest crun and runc of Debian'

demo: ## a container's life, explained; needs root, and installs busybox
	@scripts/needs gcc libc6-dev busybox-static
	@$(MAKE) --no-print-directory -s build
	@RUNTIME='$(RUNTIME)' scripts/demo

build: ## the release binary: target/*/release/ocirt, static
	@scripts/triple --fetch
	$(CARGO) build --release --locked --target $(TRIPLE) --package ocirt

shim: ## containerd's shim for it: target/*/release/containerd-shim-ocirt-v2, static
	@scripts/triple --fetch
	$(CARGO) build --release --locked --target $(TRIPLE) --package containerd-shim-ocirt

test: ## unit, integration and conformance tests, and a summary; needs root, and installs what it needs
	@scripts/test unit integration conformance

unit: ## the tests beside the code, and those of the layers
	scripts/unit $(ARGS)

schedules: ## a hundred million steps of the shim's state machines, in random orders; STEPS=N; takes some minutes
	OCIRT_STEPS='$(STEPS)' $(CARGO) test --release --locked --package containerd-shim-ocirt --lib -- any_order

integration: $(if $(filter $(OCIRT),$(RUNTIME)),build shim) ## black-box tests of RUNTIME, and of the shim above it
	$(if $(filter $(OCIRT),$(RUNTIME)),OCIRT_SHIM="$${OCIRT_SHIM:-$(SHIM)}") RUNTIME='$(RUNTIME)' $(CARGO) test --locked --package ocirt-integration --test suite -- $(ARGS)

conformance: $(if $(filter $(OCIRT),$(RUNTIME)),build) ## runtime-tools' validation suite against RUNTIME; ARGS: programs
	conformance/run '$(RUNTIME)' $(ARGS)

engines: $(if $(filter $(OCIRT),$(RUNTIME)),build) ## Docker, containerd, Podman, Buildah, CRI driving RUNTIME; ARGS: walks, or --runtime FILE
	@scripts/needs $(ENGINES)
	cd integration/engines/cri && $(CARGO) build --locked
	OCIRT_CRIU="$$(scripts/criu)" RUNTIME='$(RUNTIME)' \
		$(CARGO) run --locked --quiet --package ocirt-engines -- $(ARGS)

engines-new: ## the same with a newer Debian's engines: Docker 26, containerd 1.7, Podman 5
	@$(MAKE) --no-print-directory engines ARGS="--root $$(scripts/debian trixie) $(ARGS)"

engines-shim: build shim ## containerd, CRI and Docker with this project's own shim
	@scripts/needs $(ENGINES)
	cd integration/engines/cri && $(CARGO) build --locked
	OCIRT_CRIU="$$(scripts/criu)" OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--walks integration/engines/shim --runtime '$(OCIRT)' $(ARGS)
	OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--runtime '$(OCIRT)' $(ARGS) containerd robust cri docker docker-robust
	OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--runtime /usr/sbin/runc $(ARGS) containerd
	OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--walks integration/engines/shim-new --root "$$(scripts/debian trixie)" --runtime '$(OCIRT)' $(ARGS)

engines-shim-fast: build shim ## the part of engines-shim that CI runs
	@scripts/needs $(ENGINES)
	cd integration/engines/cri && $(CARGO) build --locked
	OCIRT_CRIU="$$(scripts/criu)" OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--walks integration/engines/shim --runtime '$(OCIRT)'
	OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- --runtime '$(OCIRT)' containerd cri

engines-shim-client: build shim ## containerd's own Go library drives our shim, by what containerd's tests of shims ask for
	@scripts/needs $(ENGINES) golang-go golang-github-containerd-containerd-dev
	@mkdir -p .build/go
	cd integration/engines/client && GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE='$(CURDIR)/.build/go' \
		go build -o '$(CURDIR)/.build/shim-client' .
	OCIRT_CLIENT='$(CURDIR)/.build/shim-client' OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--walks integration/engines/client --jobs 1 --runtime '$(OCIRT)' $(ARGS)

bench-shim: build shim ## CPU, time and memory of containers beside containerd's own shim; ARGS: --root DIRECTORY
	@scripts/needs $(ENGINES) gcc libc6-dev
	@mkdir -p .build
	gcc -O2 -static -o .build/meter bench/floor/meter.c
	OCIRT_METER='$(CURDIR)/.build/meter' OCIRT_MEASURE='$(CURDIR)/integration/engines/bench/measure' OCIRT_SHIM='$(SHIM)' \
		$(CARGO) run --locked --quiet --package ocirt-engines -- \
		--walks integration/engines/bench --jobs 1 --runtime '$(OCIRT)' $(ARGS)

soak-shim: build shim ## thousands of containers and execs through one containerd and our shim; MANY=5000; takes half an hour
	@scripts/needs $(ENGINES)
	OCIRT_SOAK='$(CURDIR)/integration/engines/soak/many' OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--walks integration/engines/soak --jobs 1 --runtime '$(OCIRT)' $(ARGS)

engines-vm: $(if $(filter $(OCIRT),$(RUNTIME)),build) ## the same engines in a guest with cgroup v2 and every capability; takes minutes
	@scripts/needs protobuf-compiler libprotobuf-dev
	cd integration/engines/cri && $(CARGO) build --locked
	$(CARGO) build --locked --quiet --package ocirt-engines
	integration/engines/guest "$$(scripts/debian trixie)" target/$(HOST)/debug/engines --runtime '$(RUNTIME)' $(ARGS)

engines-shim-vm: build shim ## containerd with this project's own shim in that guest; takes minutes
	@scripts/needs protobuf-compiler libprotobuf-dev
	cd integration/engines/cri && $(CARGO) build --locked
	$(CARGO) build --locked --quiet --package ocirt-engines
	VM_ENV_OCIRT_SHIM='$(SHIM)' integration/engines/guest "$$(scripts/debian trixie)" target/$(HOST)/debug/engines \
		--walks integration/engines/shim --runtime '$(OCIRT)' $(ARGS)
	VM_ENV_OCIRT_SHIM='$(SHIM)' integration/engines/guest "$$(scripts/debian trixie)" target/$(HOST)/debug/engines \
		--runtime '$(OCIRT)' $(ARGS) containerd robust

engines-shim-newest: build shim ## containerd and CRI of Debian's development suite, with its own shim and with ours
	cd integration/engines/cri && $(CARGO) build --locked
	$(CARGO) run --locked --quiet --package ocirt-engines -- \
		--root "$$(scripts/debian forky)" --runtime '$(OCIRT)' $(ARGS) containerd robust cri
	OCIRT_SHIM='$(SHIM)' $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--root "$$(scripts/debian forky)" --runtime '$(OCIRT)' $(ARGS) containerd robust cri

engines-load: build ## a hundred containers through containerd, eight at a time, with ocirt and with runc
	$(CARGO) run --locked --quiet --package ocirt-engines -- --walks integration/engines/load \
		--jobs 1 --runtime '$(OCIRT)' --runtime /usr/sbin/runc

deb: build shim ## a Debian package, in .build/deb
	@packaging/deb '$(OCIRT)' '$(SHIM)'

deb-test: deb ## installs it on a newer Debian, runs a container by it, and removes it
	DEB="$$(ls $(CURDIR)/.build/deb/*.deb)" $(CARGO) run --locked --quiet --package ocirt-engines -- \
		--walks packaging/walks --root "$$(scripts/debian trixie)" --runtime '$(OCIRT)'

bench: build ## time, CPU and memory beside crun, runc and a floor program; PEERS="name=path ..."
	@scripts/needs gcc libc6-dev musl-tools busybox-static strace
	@install -D -m 755 '$(OCIRT)' .build/bench/ocirt # as it is installed: a file as a linker writes it starts slower
	OCIRT='$(CURDIR)/.build/bench/ocirt' $(CARGO) run --release --locked --quiet --package ocirt-bench -- $(ARGS)

bench-page: ## the figures and the picture of docs/benchmarks.md, beside Debian's newest crun and runc; on a quiet machine
	$(MAKE) --no-print-directory bench PEERS="$$(scripts/peers)" ARGS='--page docs $(ARGS)'

mutants: ## changes of src/container and src/plan that no unit test notices; PART=k/n takes a part, ARGS: files
	PART='$(PART)' scripts/mutants $(ARGS)

test-vm: ## the tests in a guest: cgroup v2, systemd, rootless, pure cgroup v1; builds the guest once
	@scripts/test vm-unit vm-integration vm-conformance vm-systemd-integration vm-rootless-integration \
		vm1-integration vm1-conformance

test-vm-fast: ## the part of test-vm that CI runs: unit and integration on cgroup v2
	@scripts/test vm-unit vm-integration

lint: ## formatting, clippy, layers, shellcheck, licenses
	@scripts/lint $(SCRIPTS)

install: build shim ## into $(DESTDIR)$(PREFIX), beside other runtimes: programs, manual pages, completions of shells
	@mkdir -p .build
	$(CARGO) run --release --locked --quiet --package ocirt-packaging -- .build/generated
	packaging/install-pages .build/generated '$(DESTDIR)$(PREFIX)'
	install -D -m 755 '$(OCIRT)' '$(DESTDIR)$(PREFIX)/sbin/ocirt'
	packaging/install-shim '$(SHIM)' '$(DESTDIR)$(PREFIX)'

clean: ## remove what was built here
	$(CARGO) clean
	rm -rf .build
