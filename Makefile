# `make` alone says what there is to make. Works with the make of macOS (GNU 3.81) too.
#
#   make lab PYTHON=python3.12             another Python for the virtual environment
#   make lab VENV="$CONDA_PREFIX"          an environment that is there already
#   make lab LAB_ARGS="--port=9999"        more options for JupyterLab
#   make test TEST_PROCESSES=4
#   make notebooks NOTEBOOKS=notebooks/02_why_time_matters.ipynb    only this one

PYTHON    ?= python3
VENV      ?= .venv
LAB_ARGS  ?=
NOTEBOOKS ?=
# Of the tests, and of the notebooks; each takes up to 4 GB and one core.
TEST_PROCESSES ?= 2

# As in blvnet_lab/threads.py, which says why; notebooks import PyTorch before it.
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 5000
endif

PY    := $(VENV)/bin/python
START := notebooks/00_start_here.ipynb

# JupyterLab refuses to run as root (usual in containers) unless told; without a display there is
# no browser to open, and it only prints its address.
ROOT_FLAG    := $(if $(filter 0,$(shell id -u)),--allow-root)
BROWSER_FLAG := $(if $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname -s)),,--no-browser)

.PHONY: help lab test notebooks clean

help:
	@echo 'make lab        set up $(VENV) and open JupyterLab at $(START)'
	@echo 'make test       style, spelling, notebook hygiene, unit and browser tests, every notebook strictly'
	@echo 'make notebooks  run all notebooks again, in place (after changing one)'
	@echo 'make clean      delete $(VENV) and what tests and builds left behind'

# On the PATH, for its terminals and for `!python` in a notebook.
lab: $(VENV)/.ready-lab
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" "$(PY)" -m jupyterlab $(ROOT_FLAG) $(BROWSER_FLAG) --ServerApp.root_dir="$(CURDIR)" \
	  --LabApp.default_url=/lab/tree/$(START) $(LAB_ARGS)

test: $(VENV)/.ready-dev
	"$(PY)" -m ruff check .
	"$(PY)" -m ruff format --check .
	"$(PY)" -m codespell_lib README.md Makefile pyproject.toml docs blvnet_lab notebooks
	"$(PY)" tests/notebooks.py check
	OMP_NUM_THREADS=1 "$(PY)" -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
	"$(PY)" -m pytest -n $(TEST_PROCESSES) --dist loadfile --nbval notebooks

notebooks: $(VENV)/.ready-dev
	"$(PY)" tests/notebooks.py run $(NOTEBOOKS)

clean:
	rm -rf "$(VENV)" build dist .pytest_cache .ruff_cache .hypothesis

# The stamps: pip runs only when pyproject.toml is newer than the last successful installation.
$(VENV)/.ready-lab: pyproject.toml
	$(call install,.)
	@touch "$@"

# The developers' extra contains the plain package, so both are ready.
$(VENV)/.ready-dev: pyproject.toml
	$(call install,.[dev])
	@touch "$(VENV)/.ready-lab" "$@"

# A half-made environment (no pip: Debian without python3-venv) counts as none.
define install
@"$(PY)" -m pip --version >/dev/null 2>&1 || { $(check_python) "$(PYTHON)" -m venv "$(VENV)"; }
@echo 'Installing into $(VENV); the first time takes minutes and, with CUDA, 6 GB in all.'
"$(PY)" -m pip install --disable-pip-version-check --editable '$(1)'
endef

check_python = \
  came=$$("$(PYTHON)" -c 'import platform; print(platform.python_version())' 2>/dev/null) \
    || came='nothing that runs'; \
  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
    echo "expected: Python 3.11 or newer as $(PYTHON)"; \
    echo "got:      $$came"; \
    echo "remedy:   make $(MAKECMDGOALS) PYTHON=python3.12 (or whichever newer one is installed),"; \
    echo "          or, with conda: conda env create -f environment.yml"; \
    exit 1; } >&2;
