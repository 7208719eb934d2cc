# Everything starts here; nothing needs to be installed by hand. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := $(CURDIR)/.venv
BOOTSTRAP := $(CURDIR)/.cache/uv-$(UV_VERSION)
UV := $(BOOTSTRAP)/bin/uv
ANSIBLE := PATH="$(VENV)/bin:$$PATH" ANSIBLE_CONFIG="$(CURDIR)/ansible.cfg" "$(VENV)/bin/ansible-playbook"
SUITE ?=
PAGE ?=
# Where a proxy with a certificate of its own stands in between, the system knows it and uv does not.
export UV_SYSTEM_CERTS := true

.DEFAULT_GOAL := help
.PHONY: help venv rollout test lint bench reference sandbox-down clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

venv: $(VENV)/.ready ## the tools, from the lock file

$(UV): scripts/bootstrap-uv
	@scripts/bootstrap-uv "$(PYTHON)" "$(UV_VERSION)" "$(BOOTSTRAP)"

$(VENV)/.ready: $(UV) uv.lock pyproject.toml $(wildcard plugins_src/*/pyproject.toml) sandbox/pyproject.toml
	@UV_PROJECT_ENVIRONMENT="$(VENV)" "$(UV)" sync --frozen --quiet --python "$(PYTHON)" --no-python-downloads
	@touch $@

rollout: venv ## the main job on the sandbox fleet: nothing to three healthy plugins
	@$(ANSIBLE) playbooks/sandbox.yml
	@$(ANSIBLE) playbooks/release.yml
	@$(ANSIBLE) playbooks/rollout.yml

test: venv ## all tests
	@scripts/run-tests

lint: venv ## ruff, mypy --strict, yamllint, ansible-lint (production)
	@scripts/lint

bench: venv ## benchmarks; SUITE=name for one of them, PAGE=1 writes the last figures into their page
	@PATH="$(VENV)/bin:$$PATH" PYTHONPATH=tests:collections "$(VENV)/bin/python" -m bench $(if $(PAGE),--page,$(SUITE))

reference: venv ## write docs/reference from the code
	@"$(VENV)/bin/python" scripts/generate_reference.py

sandbox-down: venv ## stop the sandbox fleet
	@$(ANSIBLE) playbooks/sandbox.yml -e sandbox_state=down

clean: ## remove what the make targets made (stops the sandbox first)
	@if [ -x "$(VENV)/bin/ansible-playbook" ] && [ -d var/sandbox ]; then $(ANSIBLE) playbooks/sandbox.yml -e sandbox_state=down; fi
	@rm -rf var .venv .cache .ansible
