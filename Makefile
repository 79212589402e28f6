# Two commands do everything on a fresh machine with Python 3.11 or later:
#
#   make demo    the whole job on generated images; ends by naming the report to open
#   make test    formatting, lint, types and the whole test suite
#
# Before a release: `make wheel` runs the demo's commands, on fewer images, with a wheel in
# an empty environment.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := demo
GUARD  := $(BIN)/mlguard
WHEEL  := .wheel
FEWER  := --set train.epochs=1 --set data.shapes_images=[64,8,8]

.PHONY: demo commands wheel test setup clean

# The demo has a keystore of its own, opened with a file, so that nothing is asked.
demo: $(VENV)/.train
	$(MAKE) commands

commands: export MLGUARD_KEYSTORE := $(DEMO)/keystore.mlgk
commands: export MLGUARD_IDENTITY_FILE := $(DEMO)/owner.identity
commands:
	rm -rf $(DEMO)
	mkdir -m 700 $(DEMO)
	$(GUARD) keygen acme
	$(GUARD) protect --recipe demo --key acme --out $(DEMO)/run --baseline $(SETTINGS)
	$(GUARD) export $(DEMO)/run --out $(DEMO)/acme.mlgb
	$(GUARD) samples --recipe demo --out $(DEMO)/images $(SETTINGS)
	$(GUARD) predict $(DEMO)/acme.mlgb $(DEMO)/images --key acme --out $(DEMO)/masks --overlay
	# 30 and 31 are verdicts on the model, not failures of the demo.
	$(GUARD) audit $(DEMO)/run --key acme --out $(DEMO)/report; case $$? in 0|30|31) ;; *) exit 1;; esac

wheel:
	rm -rf $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEEL)/dist .
	$(WHEEL)/bin/python -m pip install --quiet --constraint .ci/constraints.txt \
	  "$$(echo $(WHEEL)/dist/*.whl)[train]"
	$(MAKE) commands DEMO=$(WHEEL)/demo GUARD=$(WHEEL)/bin/mlguard SETTINGS='$(FEWER)'

test: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

setup: $(VENV)/.dev

$(VENV)/.train: EXTRAS := train
$(VENV)/.dev: EXTRAS := train,dev
$(VENV)/.train $(VENV)/.dev: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) $(WHEEL)
