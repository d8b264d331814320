# Kosmos: the few commands a person needs. Each sets up what it needs first.
#   make demo            the whole main job on this machine, then keeps serving
#   make test            everything that must hold before a change is shared
# Variables: PYTHON=python3.12  STAY=0 (demo ends with its verdict)  STUDY=/path (your own DICOM)
#            DEMO_PLAIN=1 (demo without TLS and assertions)
#            SCALE=small|100k|1m|10m (make bench: a region's registry, an hour for 1m)
#            SECONDS=60 (make fuzz: of each parser, 600 unless you say; make soak: of each
#            promise, its full length unless you say)  TARGETS="mllp mime" (make fuzz: these)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# The newest of these that is there and new enough.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

ROOMS := metadata manifest transactions soap hl7 storage security registry repository \
	imaging_source consumer conformance node
CHECKED := $(ROOMS) benchmarks tests conftest.py

# What the tests play against and nobody here wrote: Debian's names, then one command or file of each.
PEERS := dcmtk:storescu dicom3tools:dciodvfy libxml2-utils:xmllint postgresql:pg_ctlcluster \
	strace:strace curl:curl openssl:openssl iproute2:ss procps:ps poppler-utils:pdftotext \
	unzip:unzip softhsm2:softhsm2-util orthanc:Orthanc \
	orthanc-dicomweb:/usr/share/orthanc/plugins/libOrthancDicomWeb.so
MISSING_PEERS = $(foreach peer,$(PEERS),$(shell PATH="$$PATH:/usr/sbin:/sbin"; \
	one=$(lastword $(subst :, ,$(peer))); command -v $$one >/dev/null || test -e $$one \
		|| echo $(firstword $(subst :, ,$(peer)))))

# What looks at an install from outside it: names of PyPI.
SUPPLY := cyclonedx-bom pip-audit

# Twice as many as the cores of the smallest machine: tests of whole nodes wait for much.
WORKERS ?= 4
# Tests start hundreds of processes: each would compile all the code anew.
export PYTHONDONTWRITEBYTECODE :=
STAY ?= 1
STUDY ?=
SCALE ?=
SECONDS ?=
TARGETS ?=

.PHONY: help
help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' \
		| while IFS=$$'\t' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: $(VENV)/.run ## Publish, find and see real studies; STAY=0 ends after it, STUDY=/path is yours
	@$(BIN)/kosmos demo $(if $(filter 0,$(STAY)),--no-stay) \
		$(if $(filter 1,$(DEMO_PLAIN)),--plain) $(if $(STUDY),--study "$(STUDY)")

.PHONY: test
test: peers $(VENV)/.test ## Lint, types, floors of the house, all tests
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory --jobs 2 types tests

# A minute of one core: beside the tests, which leave some time of the other.
.PHONY: types
types: $(VENV)/.test
	$(BIN)/mypy $(CHECKED)

.PHONY: tests
tests: $(VENV)/.test
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: fuzz
fuzz: $(VENV)/.test ## Play each parser for SECONDS=600 with broken inputs; TARGETS="mllp mime": those
	$(BIN)/python -W ignore -m tests.fuzz --seconds $(or $(SECONDS),600) $(TARGETS)

.PHONY: soak
soak: peers $(VENV)/.test ## Prove what holds for long: an hour of one machine; SECONDS=60 of each
	KOSMOS_SOAK_SECONDS=$(SECONDS) $(BIN)/pytest tests/soak

.PHONY: bench
bench: PEERS += nginx-light:nginx
bench: peers $(VENV)/.test ## Measure beside references in the same run; SCALE=1m: a region's registry
	$(BIN)/python -m benchmarks $(if $(SCALE),--scale $(SCALE))

.PHONY: sbom
sbom: build/shipped/.done build/supply/.done ## Write build/sbom.json: what an install brings, as CycloneDX
	build/supply/bin/cyclonedx-py environment --output-reproducible \
		--output-format JSON --output-file build/sbom.json build/shipped/bin/python
	@echo "build/sbom.json"

.PHONY: advisories
advisories: build/shipped/.done build/supply/.done ## Ask the network for known holes in what an install brings
	build/supply/bin/pip-audit --strict --skip-editable --path "$$(build/shipped/bin/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib"))')"

.PHONY: peers
peers: ## Install the foreign programs that tests play against (Debian, as root)
	@missing="$(strip $(MISSING_PEERS))"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq --no-install-recommends -y $$missing >/dev/null; \
	else \
		echo "Not here: $$missing. The tests that need them are skipped;" \
			"with root rights: apt-get install $$missing"; \
	fi

.PHONY: clean
clean: ## Remove what was built; data of a node is never touched
	rm -rf $(VENV) *.egg-info build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The stamps: set up once, again when the lists of dependencies change.
$(VENV)/.run: setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing Kosmos into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing Kosmos and its test tools into $(VENV) ..."
	@$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.run

# A fresh install without tools of tests, and the tools that look at it.
build/shipped/.done: setup.cfg pyproject.toml | $(BIN)/python
	@$(PYTHON) -m venv --clear build/shipped
	@build/shipped/bin/python -m pip install --disable-pip-version-check --quiet --editable .
	@touch $@

build/supply/.done: Makefile | $(BIN)/python
	@$(PYTHON) -m venv --clear build/supply
	@build/supply/bin/python -m pip install --disable-pip-version-check --quiet $(SUPPLY)
	@touch $@

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Kosmos needs Python 3.11 or newer. On Debian: apt-get install python3 python3-venv" >&2; \
		exit 1; \
	fi
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null; \
		else \
			echo "Python's venv is not installed. On Debian: sudo apt-get install python3-venv" >&2; \
			exit 1; \
		fi; \
	fi
	@$(PYTHON) -m venv $(VENV)
