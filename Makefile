# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make demo` and `make test` set everything up themselves, on a bare Debian 12 or 13 with Python, git and
# make.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

PYTHON ?= python3
KERNEL ?= debian:newest-6.1-cloud
NEWER ?= debian:newest-6.12-deb12-cloud
VENV := .venv
RESULTS := results
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-for-tests
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat
FUZZ_INPUTS ?= 100000
FUZZ_SEED ?= 1
FUZZ_SECONDS ?= 600
WITHOUT_KERNEL := tests/unit tests/tools tests/objects tests/ledger tests/kgraft
TORTURE_COUNT ?= 3000
TORTURE_SEED ?= $(shell date +%s)
MODULE := $(RESULTS)/livepatch-proc-version.ko

# What kgbuild itself needs from Debian. python3-venv is added below where this Python has no venv of its own.
#   bubblewrap debian-archive-keyring   run compilers in a sandbox, and check what is downloaded
#   dpkg tar xz-utils              unpack kernels
#   qemu-system-x86 busybox-static boot them
PACKAGES := \
	bubblewrap debian-archive-keyring \
	binutils make \
	dpkg tar xz-utils \
	qemu-system-x86 busybox-static
# What the tests need as well.
#   gcc-12                         they compile small objects
#   gcc libc6-dev flex bison bc libelf-dev libssl-dev   prepare a kernel of one's own (kernel add); objtool needs libelf
#   ovmf                           firmware of guests
#   clang                          pairs of objects for the tests, as kernels built with clang have them
#   e2fsprogs                      a file system for the tests
#   gpg gpg-agent                  sign the mirror that the tests make
#   dash openssl gnupg softhsm2 ... lintian rpm createrepo-c apt-utils dnf   packages, repositories, signatures
#   chromium fonts-dejavu-core     the tests look at pages
#   man-db zsh fish                the tests try man pages and completions
#   cpio patch git bsdutils util-linux   what the tests compare ours with
#   npm                            pip builds the parser of Mermaid's drawings with it
TEST_PACKAGES := \
	gcc-12 gcc libc6-dev flex bison bc libelf-dev libssl-dev \
	ovmf \
	clang e2fsprogs cpio patch git bsdutils util-linux \
	dash coreutils openssl gnupg softhsm2 libengine-pkcs11-openssl lintian rpm rpmlint createrepo-c apt-utils dnf shellcheck \
	chromium fonts-dejavu-core man-db zsh fish npm

# Python compiles each file once, and not in each of the hundred processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE
export KGBUILD_TEST_KERNEL := $(KERNEL)
export KGBUILD_TEST_NEWER_KERNEL := $(NEWER)

.PHONY: help demo test test-all check quick unit unit-test fuzz-test fuzz torture-test torture kernel-test docs site bench kernel venv packages test-packages clean

help:
	@echo 'make demo           install what is needed, fetch a kernel, build a live patch, boot it and show it working'
	@echo
	@echo 'make quick          before a commit, under a minute: formatting, lint, types, and the shape of the project'
	@echo 'make unit K=words   the tests without a kernel whose names have these words'
	@echo 'make test           everything that CI runs, which is the layers that are marked *, in this order'
	@echo 'make test-all       that, and TORTURE_COUNT=$(TORTURE_COUNT) other random programs'
	@echo
	@echo 'Layers of the tests, each by itself:'
	@echo ' *make check          formatting, lint, types'
	@echo ' *make unit-test      all tests without a kernel:'
	@echo '                        tests/unit     one behaviour each, in Python alone: under a minute'
	@echo '                        tests/tools    one behaviour each, with compilers, browsers, shells, package tools'
	@echo '                        tests/objects  pairs compiled from small C files'
	@echo '                        tests/ledger   pairs and random edits: every difference is listed'
	@echo '                        tests/kgraft   modules in a program that acts as a kernel with an old interface'
	@echo ' *make fuzz-test      tests/fuzz: $(FUZZ_INPUTS) broken inputs, the same ones every time'
	@echo ' *make torture-test   tests/torture: 300 random programs, patched while they run, the same ones every time'
	@echo ' *make kernel-test    tests/kernel: patches built for real kernels, and booted'
	@echo '  make fuzz           broken inputs, guided by coverage, for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo '  make torture        TORTURE_COUNT=$(TORTURE_COUNT) other random programs'
	@echo
	@echo 'make docs           write docs/limits.md, noise.md, probes.md and sections.md'
	@echo 'make site           build the documentation site below results/site'
	@echo 'make bench          measure build times and memory'
	@echo 'make clean          remove results and the virtual environment (the kernels stay in the cache)'
	@echo
	@echo 'KERNEL=$(KERNEL) names the kernel, NEWER=$(NEWER) a second one for the tests, PYTHON=$(PYTHON) the interpreter.'

demo: kernel
	@mkdir -p $(RESULTS)
	$(BIN)/kgbuild build examples/proc-version/fix.patch --kernel $(KERNEL) -o $(MODULE) \
		--report $(RESULTS)/livepatch-proc-version.json
	$(BIN)/kgbuild verify $(MODULE) --kernel $(KERNEL)
	$(BIN)/kgbuild vm $(MODULE) --kernel $(KERNEL) --check 'grep -q kgbuild /proc/version'

test: check unit-test fuzz-test torture-test kernel-test

test-all: export KGBUILD_TEST_SUITES := debian:newest-6.12-deb13-cloud debian:newest-7.3-cloud \
	debian:5.10.0-43-cloud-amd64 debian:newest-7.2-deb14-cloud debian:newest-6.12-deb13
test-all: test torture

# Under a minute, before a commit.
quick: check
	$(BIN)/python -m pytest -q tests/unit/test_imports.py tests/unit/test_names.py tests/unit/test_tests.py tests/unit/cli

# make unit K='state and not pairs'
unit: venv
	$(BIN)/python -m pytest -q -n auto --dist loadfile -k '$(K)' $(WITHOUT_KERNEL)

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict kgbuild

unit-test: venv
	$(BIN)/python -m pytest -n auto --dist loadfile $(WITHOUT_KERNEL)

# The same inputs every time. FUZZ_SEED=2 gives others.
fuzz-test: venv
	$(BIN)/python -m tests.fuzz.seeded --inputs $(FUZZ_INPUTS) --seed $(FUZZ_SEED) --keep $(RESULTS)/fuzz
	$(BIN)/python -m tests.fuzz.edits

fuzz: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.guided --seconds $(FUZZ_SECONDS) $(RESULTS)/fuzz/corpus

# Random programs, changed at random and patched while they run: the same ones every time. `torture` takes others; the
# time of day is their seed, which is printed.
torture-test: venv
	$(BIN)/python -m pytest -n auto tests/torture
	$(BIN)/python -m tests.torture.run --count 300 --seed 1 --keep $(RESULTS)/torture

torture: venv
	$(BIN)/python -m tests.torture.run --count $(TORTURE_COUNT) --seed $(TORTURE_SEED) --keep $(RESULTS)/torture

kernel-test: venv kernel
	$(BIN)/kgbuild kernel fetch $(NEWER)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/kernel

docs: venv
	$(BIN)/python -c 'import sys; from kgbuild.report.reference_docs import render_limits; sys.stdout.write(render_limits())' \
		> docs/limits.md
	$(BIN)/python -c 'import sys; from kgbuild.report.reference_docs import render_noise; sys.stdout.write(render_noise())' \
		> docs/noise.md
	$(BIN)/python -c 'import sys; from kgbuild.report.reference_docs import render_probes; sys.stdout.write(render_probes())' \
		> docs/probes.md
	$(BIN)/python -c 'import sys; from kgbuild.report.reference_docs import render_input_limits as r; sys.stdout.write(r())' \
		> docs/input-limits.md
	$(BIN)/python -c 'import sys; from kgbuild.report.reference_docs import render_sections; sys.stdout.write(render_sections())' \
		> docs/sections.md
	$(BIN)/python docs/schema/derive.py
	$(BIN)/python -c 'import json; from kgbuild.releases.config import config_schema; print(json.dumps(config_schema(), indent=2))' \
		> docs/schema/config-1.json

# Nothing is fetched; a link that leads nowhere is an error.
site: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[site]'
	$(BIN)/python docs/site/build.py $(RESULTS)/site

bench: kernel
	@mkdir -p $(RESULTS)
	$(BIN)/python benchmarks/end_to_end.py
	$(BIN)/python benchmarks/graph.py
	$(BIN)/python benchmarks/headers.py
	$(BIN)/python benchmarks/diff.py

kernel: packages $(STAMP)
	$(BIN)/kgbuild kernel fetch $(KERNEL)

# kgbuild and what its tests need
venv: test-packages $(TEST_STAMP)

$(STAMP): pyproject.toml | packages
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	$(BIN)/python -m compileall -q kgbuild
	@touch $@

$(TEST_STAMP): $(STAMP) | test-packages
	$(INSTALL) --editable '.[dev]'
	@touch $@

# Only what is missing is installed.
packages: WANTED = $(PACKAGES)
test-packages: WANTED = $(PACKAGES) $(TEST_PACKAGES)
packages test-packages:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "kgbuild needs Python 3.11 or later, and '$(PYTHON)' is not: say make PYTHON=python3.11" >&2; exit 1; }
	@if ! command -v apt-get > /dev/null; then \
		echo 'No apt-get here, so nothing is installed; see `kgbuild doctor` for what is missing.'; exit 0; \
	fi; \
	missing=; \
	for package in $(WANTED); do \
		if [ $$package = npm ] && command -v npm > /dev/null; then continue; fi; \
		dpkg-query -W -f '$${Status}' $$package 2> /dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || missing="$$missing python3-venv"; \
	[ -n "$$missing" ] || exit 0; \
	root=; \
	if [ "$$(id -u)" != 0 ]; then \
		root=sudo; \
		if ! command -v sudo > /dev/null; then \
			echo "Not root, and no sudo here. As root: apt-get update; apt-get install$$missing" >&2; exit 1; \
		fi; \
	fi; \
	echo "Debian packages:$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$root apt-get update -qq < /dev/null || echo 'apt-get update failed: going on with the lists that are here' >&2; \
	$$root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq --yes --no-install-recommends $$missing < /dev/null

clean:
	rm -rf $(RESULTS) $(VENV)
