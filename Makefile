# Everything is one command. `make help` lists them; a fresh machine needs Python 3.11 and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV_PYTHON = $(or $(PISCES_PYTHON),.venv/bin/python)
BIN = $(dir $(VENV_PYTHON))

.DEFAULT_GOAL := help
.PHONY: help run test matrix soak coverage mutants lint format bench messages clean dev

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'

run: ## Start Pisces on 127.0.0.1:PORT (8000), set up whatever is missing; Ctrl-C stops it
	@exec $(PYTHON) scripts/run.py

test: dev ## Run the whole suite; REQUIRE_SERVICES=1 turns what is missing into an error
	$(VENV_PYTHON) -m tests.run

soak: export SOAK = 1
soak: dev ## The long tests: a million operations, kills, cut wires, hang-ups; prints their figures (hours)
	$(VENV_PYTHON) -m tests.run -m soak

matrix: dev ## Every client's protocol to every upstream's with the official SDKs; prints the table
	$(VENV_PYTHON) -m tests.run -n 0 tests/matrix

coverage: dev ## Every branch of the ledger's modules by their tests; fails under 100 %
	$(VENV_PYTHON) -m coverage run -m tests.run tests/billing
	$(VENV_PYTHON) -m coverage report

mutants: dev ## How much of what could be broken in the ledger's modules their tests notice (an hour); fails under 90 %
	$(VENV_PYTHON) -m tests.mutants

# Types and migrations are checked against the settings, which want secrets; these protect nothing.
lint: export SECRET_KEY = lint-only-lint-only-lint-only-lint-only
lint: export ENCRYPTION_KEYS = lint-only-lint-only-lint-only-lint-only
lint: export DATABASE_URL = sqlite://:memory:
lint: dev ## Style, types, layers, migrations
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)mypy portal relay keys billing tests
	$(BIN)lint-imports
	$(VENV_PYTHON) manage.py makemigrations --check --dry-run

format: dev ## Rewrite the code in its style
	$(BIN)ruff check --fix .
	$(BIN)ruff format .

bench: dev ## Measure the relay beside a bare pass-through
	$(VENV_PYTHON) -m tests.bench

messages: dev ## Collect the texts to translate (needs gettext) and compile the translations
	$(VENV_PYTHON) manage.py makemessages --locale zh_Hans --no-location --no-wrap --ignore '.venv/*' --ignore 'tests/*' --ignore 'var/*'
	$(VENV_PYTHON) manage.py prepare

clean: ## Remove caches and the virtual environment; data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

dev:
	@$(PYTHON) scripts/bootstrap.py --dev >/dev/null
