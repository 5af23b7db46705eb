# demo, test, lint and docs set everything up first; a second call finds the stamp and skips it.
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
OUT := runs/demo
STUDIES := $(basename $(notdir $(wildcard scripts/studies/*.yaml)))

export SDL_VIDEODRIVER ?= dummy
export MPLBACKEND ?= Agg
# Tests start hundreds of processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo study verify torture test test-all coverage lint docs clean

setup: $(STAMP)

# Entry points go stale in an editable install, hence the dependency on pyproject.toml.
$(STAMP): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet -c constraints.txt torch
	$(PYTHON) -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: setup
	$(PYTHON) scripts/demo.py --out $(OUT)

# A whole study of scripts/studies; the same call continues it. It says first how long it takes.
study: setup
	$(if $(NAME),,$(error NAME is missing; allowed: $(STUDIES), as in make study NAME=classic))
	$(PYTHON) scripts/compare.py --study scripts/studies/$(NAME).yaml --out runs/studies/$(NAME) \
	    $(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--workers $(WORKERS))

# A killed and resumed run beside an undisturbed one, in under a minute; torture is the long form.
verify: setup
	$(PYTHON) scripts/verify.py

torture: setup
	$(PYTHON) scripts/torture.py

# All tests but the long ones, which take seconds each: whole learning, compiling, kills, blocks of the pages, processes
# of W&B. test-all runs those too.
test: setup
	$(PYTHON) -m pytest -m "not long"

test-all: setup
	$(PYTHON) -m pytest

# Which lines of the package the tests run, in processes that they start too.
coverage: setup
	$(PYTHON) -m pytest --cov --cov-report=term-missing:skip-covered --cov-report=html

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

# Every warning is an error; nothing is loaded from elsewhere. Open site/index.html.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet
	@echo "pages: site/index.html"

clean:
	rm -rf $(VENV) runs build site *.egg-info
