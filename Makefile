# `make run` and `make test` do all set-up themselves; `make help` lists everything.
#
# Set-up is a chain of steps. Each leaves a stamp when it has ended, and is done again when what it
# depends on is newer. A step that was cut short leaves a `.begun` file and installs anew next time.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
WORKERS ?= 2
ifeq ($(origin CXX),default)
CXX := c++
endif

VENV := .venv
STAMPS := $(VENV)/.stamps
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check --no-input

KERNELS := $(foreach folder,csrc csrc/torch csrc/cuda,$(wildcard $(folder)/*.cpp $(folder)/*.h))
REAL := tests/drills/test_real_drills.py
EXTENSION := src/ithaca/_C.abi3.so
STUBS := $(addprefix runtime/control/control_pb2,.py .pyi _grpc.py)

# The environment holds absolute paths and a link to its interpreter: made anew if either moved.
ifneq ($(shell test -x $(PY) && cat $(STAMPS)/venv 2>/dev/null),$(CURDIR))
.PHONY: $(STAMPS)/venv
endif

.PHONY: help
help: ## this list
	@echo 'Ithaca. All set-up is done by the first target that needs it.'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'
	@echo 'PYTHON=python3.12 chooses the interpreter, CXX=clang++ the compiler, WORKERS=4 the'
	@echo 'number of test processes.'

# --- use ------------------------------------------------------------------------------------------

.PHONY: run test lint types unit soak asan format clean
run: setup ## train the quickstart job
	@$(VENV)/bin/ithaca run configs/quickstart.yaml

test: lint types unit ## lint, types and the whole test suite

lint: setup ## style, imports and format of all sources
	@echo 'lint'
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet .

types: setup ## strict type check of product and tests
	@echo 'types'
	@$(VENV)/bin/mypy

unit: setup ## the test suite
	@echo 'tests'
	@$(VENV)/bin/pytest -n $(WORKERS) --dist loadgroup tests/unit tests/drills --ignore $(REAL)
	@echo 'tests that start clusters, one after the other: they wait for real processes'
	@$(VENV)/bin/pytest tests/integration $(REAL)

DRILLS := $(filter-out configs/drills/job.yaml,$(wildcard configs/drills/*.yaml))
soak: setup ## every drill on real processes: half an hour
	@$(VENV)/bin/pytest --soak tests/drills/test_real_drills.py
	@missed=; for drill in $(DRILLS); do $(VENV)/bin/ithaca drill $$drill || missed+=" $$drill"; done; \
	    [ -z "$$missed" ] || { echo "not passed:$$missed" >&2; exit 1; }

PROGRAMS := $(patsubst csrc/tests/%.cpp,build/asan/%,$(wildcard csrc/tests/*.cpp))
asan: $(PROGRAMS) ## the C++ kernels alone, with address and undefined-behaviour checks
	@for program in $^; do $$program; done

build/asan/%: csrc/tests/%.cpp $(filter-out csrc/bindings.cpp csrc/torch/% csrc/cuda/%,$(KERNELS))
	@mkdir -p $(@D)
	@$(CXX) -std=c++20 -O1 -g -Wall -Wextra -Werror -fno-omit-frame-pointer \
	    -fsanitize=address,undefined -fno-sanitize-recover=all -Icsrc $(filter %.cpp,$^) -o $@

format: setup ## rewrite all sources in the house format
	@$(VENV)/bin/ruff check --quiet --fix .
	@$(VENV)/bin/ruff format .

clean: ## remove the environment and everything built
	@rm -rf $(VENV) build dist src/*.egg-info src/ithaca/_C.*.so $(STUBS)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

PEERS := build/peers
.PHONY: peers
peers: $(PEERS)/.ready ## the packages that we are compared with, in an environment of their own

# It sees the product's environment: only what that lacks is installed, and nothing there changes.
$(PEERS)/.ready: $(wildcard requirements/peers/*.txt) | setup
	@echo 'set-up: the peers, in $(PEERS)'
	@rm -rf $(PEERS)
	@$(PY) -m venv --without-pip $(PEERS)
	@echo "import site; site.addsitedir('$$(echo $(CURDIR)/$(VENV)/lib/python*/site-packages)')" \
	    > $$(echo $(PEERS)/lib/python*/site-packages)/product.pth
	@$(PIP) --python $(PEERS)/bin/python install --no-deps $(addprefix -r ,$^)
	@touch $@

.PHONY: faces gpu
faces: peers ## our faces to other libraries, tried with these libraries
	@PYTHONPATH=src $(PEERS)/bin/python -m pytest tests/peers

# For machines with a GPU, torch, triton, numpy and pytest, and nothing of our set-up: the extension
# is built where no pyproject.toml lies, which old versions of setuptools do not understand.
gpu: ## the tests that need a GPU, with PYTHON's own torch
	@mkdir -p build/gpu
	@for part in setup.py csrc src; do ln -sfn ../../$$part build/gpu/$$part; done
	@cd build/gpu && $(PYTHON) setup.py --quiet build_ext --inplace
	@$(PYTHON) -m pytest -c tests/gpu/pytest.ini --rootdir . --confcutdir=tests/gpu tests/gpu

# --- set-up ---------------------------------------------------------------------------------------

define install
@echo 'set-up: $(1)'
@touch $@.begun
@$(PIP) install $(if $(wildcard $@.begun),--force-reinstall) $(2) || { echo \
    'set-up: stopped; the reason is above. If it was the network (or a proxy), call make again' \
    'when it is back: set-up goes on from here.' >&2; exit 1; }
@mv $@.begun $@
endef

.PHONY: setup
setup: $(STAMPS)/ready ## everything needed, once

$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || { echo \
	    'set-up: there is no $(PYTHON). Python 3.11 or newer is needed; if it has another name:' \
	    'make PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) requirements/check.py '$(CXX)' $(VENV)
	@echo 'set-up: virtual environment $(VENV)'
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@echo '$(CURDIR)' > $@

$(STAMPS)/build: requirements/build.txt $(STAMPS)/venv
	$(call install,pip and setuptools,-r $<)

$(STAMPS)/torch: requirements/torch.txt $(STAMPS)/build
	$(call install,torch (the largest download),-r $<)

$(STAMPS)/lock: requirements/lock.txt $(STAMPS)/torch
	$(call install,the pinned packages,-r $<)

$(STAMPS)/deepspeed: requirements/deepspeed.txt $(STAMPS)/lock
	$(call install,deepspeed,--no-deps --no-build-isolation -r $<)
	@$(PIP) check

$(STUBS) &: runtime/control/control.proto runtime/control/generate.py $(STAMPS)/lock
	@echo 'set-up: gRPC stubs'
	@$(PY) runtime/control/generate.py
	@touch $(STUBS)

# What pyproject.toml says about the package, without the settings of the tools.
$(STAMPS)/project: pyproject.toml $(STAMPS)/venv
	@sed '/^\[tool/,$$d' $< | cmp -s - $@ || sed '/^\[tool/,$$d' $< > $@

$(STAMPS)/package: setup.py $(STAMPS)/project $(STAMPS)/torch | $(STAMPS)/deepspeed
	@echo 'set-up: the package and its C++ extension (a minute)'
	@CXX='$(CXX)' $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# The step before has built it too; this one builds it alone when only its sources have changed.
$(EXTENSION): $(KERNELS) $(STAMPS)/package
	@if [ ! -e $@ ] || [ -n "$$(find $(KERNELS) -newer $@)" ]; then \
	    echo 'set-up: the C++ extension'; \
	    mkdir -p build; \
	    CXX='$(CXX)' $(PY) setup.py --quiet build_ext --inplace > build/extension.log 2>&1 || \
	        { cat build/extension.log >&2; exit 1; }; \
	fi
	@touch $@

$(STAMPS)/ready: $(STUBS) $(EXTENSION) $(STAMPS)/package $(STAMPS)/deepspeed
	@$(PY) -c 'import torch, ithaca._C'
	@touch $@
