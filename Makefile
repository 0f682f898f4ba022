# Everything a newcomer or CI needs; each target sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test test-all check format bench bench-strategies bench-supernet \
	bench-proxies bench-serve leaderboard docs clean
.DEFAULT_GOAL := install

install: $(STAMP)

# torch first and pinned, so that no dependency pulls gigabytes of CUDA in.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/parti search digits --budget 2m30s --workers 2 --study demo

test: $(STAMP)
	$(BIN)/pytest -n 2 -m "not slow"

test-all: $(STAMP)
	$(BIN)/pytest -n 2

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Every strategy on the tables in $PARTI_TABLES or ../shared/data, in under 20 minutes on 2 cores.
bench-strategies: $(STAMP)
	$(BIN)/python -m benchmarks.bench_strategies
	$(BIN)/python -m benchmarks.bench_faithful --seeds 200

# A step of DARTS' search network, beside a straightforward one: time, memory, equal losses.
bench-supernet: $(STAMP)
	$(BIN)/python -m benchmarks.bench_supernet

# Training-free proxies on 1,000 cells of NAS-Bench-201: correlations, and time per network. Weights are
# drawn as torch does, as where the published numbers come from.
bench-proxies: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bench_proxies --torch

# A server under load (with wrk, if there is one): requests per second, p99, CPU per request.
bench-serve: $(STAMP)
	$(BIN)/python -m benchmarks.bench_serve

# The same with more seeds and problems, into docs/leaderboard.md: an hour; it goes on where it was
# stopped. Peers are in it where they are installed.
leaderboard: $(STAMP)
	$(BIN)/python -m benchmarks.bench_strategies --committed --peers

docs: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build site parti-studies
