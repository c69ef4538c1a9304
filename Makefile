# make demo   set up, then watch a simulated acquisition live
# make test   set up, then lint, types, import direction and tests
# make bench  set up, then measure speed and accuracy
# make docs   set up, then write the documentation to site/
# make clean  remove what these leave

BIN := .venv/bin

.PHONY: demo test bench docs clean

demo:
	@.ci/setup
	@.ci/demo

test:
	@.ci/setup test
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2

bench:
	@.ci/setup
	$(BIN)/python -P benchmarks/run.py

docs:
	@.ci/setup test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv demo site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
