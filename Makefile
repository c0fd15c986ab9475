PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out
# threads that wait must not spin: on a busy machine that costs many times what it saves
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help venv tools demo test lint types fmt check picture gallery docs bench clean

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

venv: $(VENV)/.installed ## a virtual environment with the tested set of packages

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# trained models to test with: only their files are read, so what the packages depend on stays away
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
	    magika rapidocr-onnxruntime
	touch $@

# aihwkit's wheel also asks for what builds it and for torchvision, which its torch tiles do not use
tools: venv ## the simulators to compare with: aihwkit, ZigZag, qonnx
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[zigzag,qonnx]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps aihwkit

demo: venv ## compile the digits CNN, explain the partition, train it on simulated tiles
	$(BIN)/python examples/digits_model.py $(OUT)/digits.onnx
	$(BIN)/ffebm-compile $(OUT)/digits.onnx -o $(OUT)/digits.plan --hardware reference --block-size 2 \
	    --free-sweeps 4 --nudged-sweeps 3
	$(BIN)/ffebm explain $(OUT)/digits.plan
	rm -rf $(OUT)/digits.plan.run
	$(BIN)/ffebm train $(OUT)/digits.plan --data digits --epochs 8 --lr 0.004 --schedule cosine --beta 0.5
	$(BIN)/ffebm report $(OUT)/digits.plan --run $(OUT)/digits.plan.run -o $(OUT)/digits.html
	@echo "plan: $(OUT)/digits.plan   trained model: $(OUT)/digits.plan.run/trained.onnx   report: $(OUT)/digits.html"

test: venv ## the test suite, under ten minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

lint: venv ## ruff, lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv ## mypy --strict on package and tests
	$(BIN)/mypy

fmt: venv ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types test ## everything that must hold

picture: venv ## the partition of the digits CNN as an SVG
	$(BIN)/python examples/digits_model.py $(OUT)/digits.onnx
	$(BIN)/ffebm-compile $(OUT)/digits.onnx -o $(OUT)/picture.plan --block-size 2
	$(BIN)/ffebm show $(OUT)/picture.plan --svg docs/partition.svg

gallery: venv ## the pictures of reports in docs/ and at the top of the README; needs chromium
	$(BIN)/python docs/make_gallery.py $(OUT)/gallery

docs: venv ## the API reference in out/docs, from docstrings; its links are checked
	$(BIN)/python docs/make_reference.py $(OUT)/docs

bench: venv ## speed and memory, as ratios against baselines of the same run
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/digits.py
	$(BIN)/python benchmarks/report.py

clean: ## everything that was made
	rm -rf $(VENV) $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
