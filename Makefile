# make run    install into .venv, trace a prompt through the shipped model, write the page
# make test   install what tests need and run them all
.PHONY: run test install lint format viewer clean

PROMPT ?= the capital of the state containing Dallas is

run: install
	@.venv/bin/cutaway trace "$(PROMPT)" --out out/first-trace

test:
	@sh tools/test.sh

install:
	@sh tools/install.sh

lint:
	@sh tools/install.sh test,lint
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/lint-imports --no-cache
	.venv/bin/mypy

format:
	.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

viewer:
	cd viewer && npm ci && npm run build

clean:
	rm -rf .venv out viewer/node_modules .mypy_cache .ruff_cache .pytest_cache
