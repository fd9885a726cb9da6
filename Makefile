# The course in a virtual environment of its own (.venv). `make` alone lists what there is.
# Needs Python 3.11 or newer and make; kept to what GNU make 3.81 (macOS) understands.

VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
ONLY   ?=
JOBS   ?= 2
COURSE := $(VENV)/.course-installed
DEV    := $(VENV)/.dev-installed

.PHONY: help lab test notebooks check lint coverage site clean
.PHONY: test-machines test-hub test-offline test-colab test-oldest test-newest test-site audit
.DEFAULT_GOAL := help

help:
	@echo "make lab         set up if needed, open the course in JupyterLab    (make lab ARGS=--no-browser)"
	@echo "make test        set up if needed, run the whole test suite         (make test ARGS='-k patch')"
	@echo "make notebooks   run the sources into notebooks/*.ipynb             (make notebooks ONLY=03)"
	@echo "make check       do sources and notebooks agree? (seconds, no kernel)"
	@echo "make lint        ruff"
	@echo "make site        the course as a static site, in build/site         (make site ONLY='00 03')"
	@echo "make test-site   every page of it in a browser, and Lighthouse's marks"
	@echo "make coverage    how much of the package the notebooks exercise"
	@echo "make test-machines  every notebook on six simulated machines     (make test-machines ONLY=07)"
	@echo "make test-hub    ten students on a JupyterHub of this machine run notebook 03 at once"
	@echo "make test-offline  make test, where no other machine can be reached (Linux)"
	@echo "make audit       licences and known vulnerabilities of the pinned packages"
	@echo "make test-colab  every notebook on an emulated Colab                    (make test-colab ONLY=03)"
	@echo "make test-oldest, make test-newest  the suite with the oldest and the newest versions that pyproject.toml allows"
	@echo "make clean       remove .venv and caches; your notebooks and data stay"

# A candidate counts only if it runs: a version manager's shim may exist for a Python that is not there.
# PYTHON=/path/to/python overrides the search.
define FIND_PYTHON
if [ "$$(uname -sm)" = "Darwin x86_64" ]; then \
  echo "The course needs a PyTorch that no longer exists for Intel Macs. Its notebooks run on Colab: see README.md."; \
  exit 1; \
fi; \
found=; for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 python; do \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$candidate; break; fi; \
done; \
if [ -z "$$found" ]; then \
  echo "The course needs Python 3.11 or newer; found: $$(python3 --version 2>&1 || echo none)."; \
  echo "Install one (python.org, Homebrew, your package manager, or conda with environment.yml) and run make again,"; \
  echo "or name it: make lab PYTHON=/path/to/python3.12"; \
  exit 1; \
fi
endef

# One recipe for both installs: $(1) is what pip installs. An unusable .venv (never finished, or its Python gone) is made anew.
define INSTALL
@if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
  $(FIND_PYTHON); \
  echo "Making $(VENV) with $$found ($$("$$found" --version 2>&1))"; \
  if ! "$$found" -m venv --clear $(VENV); then \
    rm -rf $(VENV); \
    echo "Python could not make a virtual environment. On Debian and Ubuntu: sudo apt-get install python3-venv"; \
    exit 1; \
  fi; \
fi
@echo "Installing the course and what it needs (a few minutes and about 5 GB the first time)"
@$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable "$(1)"
endef

$(COURSE): pyproject.toml constraints.txt
	$(call INSTALL,.[lab])
	@touch $(COURSE)

$(DEV): pyproject.toml constraints.txt
	$(call INSTALL,.[dev])
	@touch $(COURSE) $(DEV)

lab: $(COURSE)
	@$(BIN)/vit-tutorial lab $(ARGS)

# pytest last, so that its summary is the last line. Notebooks run in kernels of their own, outputs compared (nbval).
# One torch thread a worker: two workers of two threads each on two cores wait for each other and take many times as long.
# tests/conftest.py orders the files, so xdist must not. The front ends that the browser tests need beside JupyterLab
# come first (seconds; nothing where they are there).
test: lint check
	@$(BIN)/python tools/build/install_front_ends.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval --nbval-cell-timeout 1200 -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow" tests notebooks $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .

notebooks: $(DEV)
	$(BIN)/python tools/build/notebooks.py --jobs $(JOBS) $(ONLY)

check: $(DEV)
	$(BIN)/python tools/build/notebooks.py --check

# Serial: coverage of the kernels is lost when xdist shares them out.
coverage: $(DEV)
	$(BIN)/python -m pytest --nbval --nbval-cell-timeout 1200 --cov=vit_tutorial --cov-report term-missing notebooks

# The explorers' numbers come from the notebooks, run once more (three minutes; kept in build/ until something changes).
site: $(DEV)
	@$(BIN)/python tools/build/install_front_ends.py
	$(BIN)/python tools/build/website.py $(ONLY)

test-site: site
	SITE=build/site $(BIN)/python -m pytest tests/test_site.py $(ARGS)
	$(BIN)/python tools/try/lighthouse.py build/site

# Other instruction sets, threads and precisions: an hour on two cores. ARGS="--on 'sse, 1 thread'" takes one machine.
test-machines: $(DEV)
	$(BIN)/python tools/try/machines.py $(ONLY) $(ARGS)

test-hub:
	$(call INSTALL,.[hub])
	$(BIN)/python tools/try/hub_load.py $(ARGS)

# What needs the network comes first; then the suite without one.
test-offline: $(DEV)
	@$(BIN)/python tools/build/install_front_ends.py
	$(BIN)/python tools/try/offline.py $(MAKE) test

# Each makes an environment of its own in .environments (5 GB) and keeps it.
test-colab: $(DEV)
	$(BIN)/python tools/try/colab.py $(ONLY)

test-oldest test-newest: $(DEV)
	$(BIN)/python tools/try/versions.py $(subst test-,,$@) $(ARGS)

audit: $(DEV)
	$(call INSTALL,.[audit])
	@$(BIN)/python tools/try/audit.py

clean:
	rm -rf $(VENV) .environments .pytest_cache .ruff_cache .hypothesis .coverage build *.egg-info
	find vit_tutorial tests tools notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
