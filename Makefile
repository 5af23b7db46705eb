# demo, test and lint set everything up first; a second call finds the stamp and skips it.
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
OUT := runs/demo

export SDL_VIDEODRIVER ?= dummy
export MPLBACKEND ?= Agg

.PHONY: setup demo verify torture test lint clean

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

# A killed and resumed run beside an undisturbed one, in under a minute; torture is the long form.
verify: setup
	$(PYTHON) scripts/verify.py

torture: setup
	$(PYTHON) scripts/torture.py

test: setup
	$(PYTHON) -m pytest

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) runs build *.egg-info
