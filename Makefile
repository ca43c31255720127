.PHONY: help venv demo demo-imagenet test coverage test-long test-all mutants bench bench-quick pictures docs lint format lock gpu clean

PYTHON_IN_VENV = .venv/bin/python

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

venv: .venv/.ready  ## make .venv with what requirements.txt pins and PyTorch (PYTHON=... names the interpreter; MXNet is for 3.8-3.11; TORCH=none)

.venv/.ready: requirements.txt requirements-torch.txt setup.py tools/make-venv
	@sh tools/make-venv

demo: .venv/.ready  ## train a small network on handwritten digits and show what came out (ENGINE=mxnet or torch)
	@GLUON_AFF_ENGINE=$(ENGINE) $(PYTHON_IN_VENV) tools/demo.py

demo-imagenet: .venv/.ready  ## the same with the AFF-ResNet-50 on 400 small pictures
	@rm -rf demo/imagenet
	@GLUON_AFF_ENGINE=$(ENGINE) $(PYTHON_IN_VENV) tools/demo.py pictures

test: .venv/.ready  ## run the tests; in a .venv without MXNet or PyTorch, those that do without
	OMP_NUM_THREADS=1 $(PYTHON_IN_VENV) -m pytest -n auto --maxprocesses 4 --dist loadfile

coverage: .venv/.ready  ## run them, a third slower, and list the lines that they leave out
	OMP_NUM_THREADS=1 $(PYTHON_IN_VENV) -m pytest -n auto --maxprocesses 4 --dist loadfile --cov=gluon_aff --cov-report=term:skip-covered

test-long: .venv/.ready  ## run the tests that train for minutes: an hour on two cores
	OMP_NUM_THREADS=1 $(PYTHON_IN_VENV) -m pytest -m long -n auto --maxprocesses 4 --dist load

test-all: .venv/.ready  ## run the tests on every Python 3.8-3.14 that is installed, from 3.12 on without MXNet
	$(PYTHON_IN_VENV) -m nox

mutants: .venv/.ready  ## put N=50 small faults (SEED=0, ROOMS=...) into a copy, one at a time: which do no tests notice?
	$(PYTHON_IN_VENV) -m tools.mutants -n $(or $(N),50) --seed $(or $(SEED),0) $(if $(ROOMS),--rooms $(ROOMS))

bench: .venv/.ready  ## measure speed and memory against a literal formulation of the original
	$(PYTHON_IN_VENV) -m benchmarks

bench-quick: .venv/.ready  ## a row of each kind, to see that all is in order: a few minutes
	$(PYTHON_IN_VENV) -m benchmarks --quick

pictures: .venv/.ready  ## draw docs/pictures anew; the heat maps are of what `make demo-imagenet` left
	$(PYTHON_IN_VENV) -m tools.pictures

docs: build/docs/.ready  ## build pages and API reference as a site, build/site/index.html; broken links fail it (Python 3.10 and newer)
	NO_MKDOCS_2_WARNING=1 build/docs/bin/python -m mkdocs build --strict

# Its own venv: the pages are built without the package, from its sources.
build/docs/.ready: requirements-docs.txt | .venv/.ready
	rm -rf build/docs
	$(PYTHON_IN_VENV) -m venv build/docs
	build/docs/bin/python -m pip install -qq -r requirements-docs.txt
	touch $@

lint: .venv/.ready  ## check style, types, and which room imports which
	$(PYTHON_IN_VENV) -m ruff check .
	$(PYTHON_IN_VENV) -m ruff format --check .
	$(PYTHON_IN_VENV) -m mypy
	$(PYTHON_IN_VENV) -m pytest -q -p no:cacheprovider tests/test_imports.py

format: .venv/.ready  ## lay the code out
	$(PYTHON_IN_VENV) -m ruff format .
	$(PYTHON_IN_VENV) -m ruff check --fix .

# Its own venv, because uv is of no other use here. GluonCV asks for opencv-python, the build that needs libGL;
# opencv-python-headless, which has the same cv2, takes its place.
lock: .venv/.ready  ## pin anew, in requirements.txt, what requirements.in asks for
	rm -rf build/lock
	$(PYTHON_IN_VENV) -m venv build/lock
	build/lock/bin/python -m pip install -qq uv==0.13.8
	build/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.8 \
		--no-emit-package opencv-python --custom-compile-command "make lock" --upgrade \
		--output-file build/lock/requirements.txt requirements.in
	mv build/lock/requirements.txt requirements.txt

# Downloaded first, so that a broken connection does not leave .venv without any MXNet.
gpu: .venv/.ready  ## put MXNet for NVIDIA GPUs (CUDA 11.2) in .venv
	$(PYTHON_IN_VENV) -m pip download -qq --no-deps --require-hashes --dest build/gpu -r requirements-cu112.txt
	$(PYTHON_IN_VENV) -m pip uninstall -qq -y mxnet mxnet-cu112
	$(PYTHON_IN_VENV) -m pip install -qq --no-deps --require-hashes --no-index --find-links build/gpu -r requirements-cu112.txt

clean:  ## remove .venv, caches and what builds and the demo left
	rm -rf .venv .nox .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage build dist demo gluon_aff.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
