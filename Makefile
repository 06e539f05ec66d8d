# Two commands for a reader (lab, test); the rest for those who change something. tools/ holds the logic.
PYTHON ?= python3
PY := .venv/bin/python
PARTS := lint types unit notebooks-check nbval browser

.DEFAULT_GOAL := help
.PHONY: help setup lab test $(PARTS) nbval-lax notebooks site course bench pins clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "  The parts of 'make test' are targets too: $(PARTS)"

setup:  ## make or repair .venv; does nothing when it is up to date
	@$(PYTHON) tools/bootstrap.py

lab: setup  ## open JupyterLab on notebooks/00_start_here.ipynb
	@$(PY) tools/lab.py $(ARGS)

test: setup  ## style, types, tests, every notebook, the widgets in a browser: what a change must pass
	@$(PY) tools/suite.py $(PARTS)

$(PARTS) nbval-lax: setup
	@$(PY) tools/suite.py $@

site: setup  ## the course as web pages in build/site, with live widgets; no network, no kernel (some minutes)
	@$(PY) tools/build_site.py $(ARGS)

course: setup  ## the teaching kit in build/kit (syllabus, slides, questions, archives), and the site
	@$(PY) tools/build_course.py $(ARGS)

bench: setup  ## run the benchmarks
	@$(PY) tools/suite.py $@

notebooks: setup  ## rebuild notebooks/*.ipynb from notebooks/src, run them, store their outputs
	@$(PY) tools/notebooks.py build --execute

pins: setup  ## rewrite constraints.txt after a change of pyproject.toml; versions that still fit stay
	$(PY) -m pip install -q uv
	$(PY) -m uv pip compile pyproject.toml --extra dev --extra grading --universal --python-version 3.10 \
	    --no-header --no-annotate --no-emit-index-url --quiet --output-file constraints.txt

clean:  ## remove caches; .venv, data and runs stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -path ./data -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +

distclean: clean  ## remove .venv as well
	rm -rf .venv *.egg-info
