# Two commands do everything on a fresh machine with Python 3.11 or later:
#
#   make demo    the whole job on generated images; ends by naming the report to open
#   make test    formatting, lint, types and the whole test suite
#
# `make help` lists the others.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := demo
GUARD  := $(BIN)/mlguard
WHEEL  := .wheel
TOOLS  := .tools
FEWER  := --set train.epochs=1 --set data.shapes_images=[64,8,8]

.PHONY: help bench demo commands wheel format types lint check test suite shuffled coverage test-oldest \
  docs docs-serve man fuzz release sign setup clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sort | awk -F ':.*## ' '{printf "%-13s %s\n", $$1, $$2}'

# The demo has a keystore of its own, opened with a file, so that nothing is asked.
demo: $(VENV)/.train ## keygen, protect, export, predict, audit on generated images
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

wheel: ## the demo's commands, on fewer images, with a wheel in an empty environment
	rm -rf $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip wheel --quiet --no-deps --wheel-dir $(WHEEL)/dist .
	$(WHEEL)/bin/python -m pip install --quiet --constraint .ci/constraints.txt \
	  "$$(echo $(WHEEL)/dist/*.whl)[train]"
	$(MAKE) commands DEMO=$(WHEEL)/demo GUARD=$(WHEEL)/bin/mlguard SETTINGS='$(FEWER)'

# One thread for each process: two processes with two threads each wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
COVERED := 92 # per cent of the lines of keystore, bundle and runtime; measured: 94
COVER  := --cov=keystore --cov=mlguard.bundle --cov=mlguard.runtime --cov-report=term \
  --cov-fail-under=$(COVERED)
OLDEST := tests/bundle tests/sealing tests/signing tests/grants tests/keystore tests/runtime tests/issuing \
  -o addopts='--strict-markers -m "not slow and not trains"'
# What a developer changes most: no training, no browser, no audit.
QUICK  := tests/bundle tests/sealing tests/signing tests/grants tests/transforms \
  tests/mlguard tests/marks tests/keystore tests/weights tests/house mlguard keystore

lint: format types ## formatting, lint and types

format: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint ## lint, types and the quick tests; under 90 s on two quiet cores
	$(PYTEST) -n 2 --dist worksteal -q -m 'not slow and not gpu and not interop and not trains' $(QUICK)

# mypy leaves a core to itself, so the tests begin beside it.
test: format ## what CI runs: lint, types and the whole suite, in two processes
	$(MAKE) --jobs 2 types suite

# In their order: files of few tests, which take longest, would all come last.
suite: $(VENV)/.dev
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder

shuffled: $(VENV)/.dev ## the whole suite in TIMES (10) random orders: does a test need another?
	for seed in $$(seq $(or $(TIMES),10)); do \
	  $(PYTEST) -q -n 2 --dist loadfile --no-loadscope-reorder \
	    --random-order --random-order-seed=$$seed || exit 1; done

coverage: $(VENV)/.dev ## of keystore, bundle and runtime, by their own tests, with a floor
	$(PYTEST) -n 2 --dist loadfile -q tests/keystore tests/bundle tests/runtime \
	  tests/sealing tests/issuing $(COVER)

test-oldest: ## the quick tests with the oldest versions that pyproject.toml allows
	rm -rf .oldest
	$(PYTHON) -m venv .oldest
	.oldest/bin/python -m pip install --quiet --constraint .ci/oldest.txt --editable '.[cpu,onnx,pkcs11,sql]' \
	  pytest hypothesis safetensors
	OMP_NUM_THREADS=1 .oldest/bin/python -m pytest -q -p no:cacheprovider $(OLDEST)

docs: $(VENV)/.dev ## the site, into build/site
	$(BIN)/python docs/_site/build.py build

docs-serve: docs ## and show it on http://127.0.0.1:8000
	cd build/site && ../../$(BIN)/python -m http.server --bind 127.0.0.1 8000

man: $(VENV)/.dev ## a man page for each command, into build/man
	$(BIN)/python docs/_site/man.py build/man

fuzz: $(VENV)/.dev ## feed broken files to every parser for SECONDS (60) each
	$(BIN)/python -m tests.fuzzing $(or $(SECONDS),60)

# What is built is what is tried: the five commands run with the wheel in dist/.
release: ## wheel, source, checks, bill of materials and signature, into dist/
	rm -rf dist build/man $(WHEEL) $(TOOLS)
	$(PYTHON) -m venv $(WHEEL)
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --constraint .ci/constraints.txt build twine cyclonedx-bom
	$(WHEEL)/bin/python -m pip install --quiet --constraint .ci/constraints.txt '.[train]'
	$(WHEEL)/bin/python docs/_site/man.py build/man
	$(TOOLS)/bin/python -m build --outdir dist
	$(TOOLS)/bin/python -m twine check --strict dist/*
	$(WHEEL)/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*.whl
	$(MAKE) commands DEMO=$(WHEEL)/demo GUARD=$(WHEEL)/bin/mlguard SETTINGS='$(FEWER)'
	$(TOOLS)/bin/python -m cyclonedx_py environment $(WHEEL)/bin/python --output-file dist/mlguard.cdx.json
	if [ -n "$$MLGUARD_KEYSTORE" ]; then $(MAKE) sign; \
	  else echo 'not signed: MLGUARD_KEYSTORE names no keystore with the signing key'; fi

sign: ## sign what is in dist/ with the key of MLGUARD_KEYSTORE, and check it
	$(WHEEL)/bin/python .ci/release.py sign dist
	$(WHEEL)/bin/mlguard signer show > build/signer.pub
	$(WHEEL)/bin/python .ci/release.py verify dist build/signer.pub

# The quick set of measurements, into docs/results/bench.{json,md}.
bench: $(VENV)/.train ## the quick set of measurements, under ten minutes
	$(BIN)/python benchmarks/bench.py --out docs/results/bench.json --page docs/results/bench.md

setup: $(VENV)/.dev

$(VENV)/.train: EXTRAS := train
$(VENV)/.dev: EXTRAS := train,dev
$(VENV)/.train $(VENV)/.dev: pyproject.toml .ci/constraints.txt
	@echo 'installing torch and what else is needed into $(VENV): some minutes, 6 GB on disk'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) $(WHEEL) $(TOOLS) .oldest build dist
