# Palimpsest: `make` lists the commands. Everything is installed into .venv, once; a later call installs nothing.
#
# Settings:
#   PYTHON=python3.12     the Python that .venv is made from, 3.11 or newer
#   TORCH='torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu'
#                         what pip is given for PyTorch: here the CPU build. The plain default is, on Linux x86-64,
#                         a CUDA build of several gigabytes; another index of that site has another CUDA version.
#   ARGS='seed=0,1,2'     overrides that `make run` passes on
#   TESTS='tests/grid'    what `make test` gives pytest, instead of everything
#   WORKERS=1             how many processes test, instead of one for each core

PYTHON ?= python3
TORCH ?= torch==2.13.0
ARGS ?=
TESTS ?=
WORKERS ?= logical

# One thread a process: the work runs in as many processes as there are cores.
export OMP_NUM_THREADS := 1
# For the packages and for what pip builds them with, in old and new versions of pip.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

python := .venv/bin/python
installed := .venv/.installed

.PHONY: help run test lint setup clean clean-outputs

help:
	@echo "make run            derive the whole table, then read outputs/latest/index.html"
	@echo "make test           ruff, mypy and the tests"
	@echo "make lint           ruff and mypy alone"
	@echo "make setup          install into .venv what the others need (they do so themselves)"
	@echo "make clean          remove .venv and the caches; results stay"
	@echo "make clean-outputs  remove outputs/, that is every result"

run: $(installed)
	@$(python) -m src.run -m sweeps=table1 $(ARGS)

# The tests on a real cluster come by themselves: time limits of a minute mean little on a busy machine. pytest exits with
# 5 where TESTS has none of a kind.
test: lint
	@echo "pytest"
	@$(python) -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder -m "not slurm" $(TESTS) || [ $$? = 5 ]
	@echo "pytest, on a cluster of SLURM"
	@$(python) -m pytest -m slurm $(TESTS) || [ $$? = 5 ]

lint: $(installed)
	@echo "ruff"
	@$(python) -m ruff check .
	@echo "mypy"
	@$(python) -m mypy

setup: $(installed)

$(installed): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Palimpsest needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)." \
	       "Name another one, as in: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make a virtual environment: its venv or ensurepip is missing" \
	       "(Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@command -v "$${CXX:-c++}" >/dev/null || { \
	  echo "No C++ compiler: $${CXX:-c++} is not on the PATH (Debian and Ubuntu: apt install g++)." \
	       "DeepSpeed builds the optimizer of deepspeed=offload with it." >&2; exit 1; }
	@$(python) -m pip --version >/dev/null 2>&1 || { \
	  echo "Creating .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "Installing PyTorch: $(TORCH)"
	@$(python) -m pip install $(TORCH)
	@echo "Installing the other packages, about 150: one to three minutes"
	@$(python) -m pip install -qq --editable '.[dev]'
	@touch $@
	@echo "Installed"

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis palimpsest.egg-info
	find . -path ./outputs -prune -o -type d -name __pycache__ -exec rm -rf {} +
	@if [ -e outputs ]; then echo "outputs/ is kept: make clean-outputs removes it"; fi

clean-outputs:
	rm -rf outputs
