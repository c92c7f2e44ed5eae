# The four commands, the same on a laptop and in CI:  make demo · make test · make check · make bench
# Each sets up what it needs in .venv and node_modules; Debian packages through apt where it may.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# uv has its own root certificates; a company's are in the system's store, as for pip and curl.
export UV_SYSTEM_CERTS := 1

# Programs that `real` tests start, each with its Debian package.
COMPONENTS := promtool=prometheus prometheus=prometheus amtool=prometheus-alertmanager \
	prometheus-alertmanager=prometheus-alertmanager openssl=openssl curl=curl node=nodejs npm=npm \
	chromium=chromium faketime=faketime pg_ctlcluster=postgresql

# Where `make release` writes the release.
DIST := dist

.PHONY: demo test check docs bench drills fuzz audit release components lock screenshots clean

demo: $(VENV)/run
	$(BIN)/bearerwatch demo

test: $(VENV)/dev components node_modules/installed
	$(BIN)/pytest -n auto --dist worksteal --cov --cov-report=term

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory docs audit

# The documents as a site, in site/. Fails on a broken link.
docs: $(VENV)/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Fails if a dependency has a known advisory. If no advisory database can be reached, it says so, and fails in CI
# unless AUDIT_UNAVAILABLE=skip.
audit: $(VENV)/dev
	@$(BIN)/python requirements/audit.py requirements/extras.lock requirements/build.lock

bench: $(VENV)/dev
	$(BIN)/python -m bench

# Breaks three real replicas for half an hour, and prints what the orgs' login history says.
drills: $(VENV)/dev components
	$(BIN)/python -m tests.end_to_end.drills

# Breaks one daemon with random faults for an hour, and prints what was lost; `make test` runs a few of them.
soak: $(VENV)/dev components
	$(BIN)/python -m tests.end_to_end.soak

# Fuzzers, ten minutes each; `make test` runs them briefly.
fuzz: $(VENV)/dev
	$(BIN)/python -m tests.fuzz

# `make demo` only needs the product's dependencies; the other targets need the tools, too.
$(VENV)/run: requirements/run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "$(PYTHON) is older than Python 3.11. If you have a newer one, name it: make $(MAKECMDGOALS) PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/run.lock
	$(BIN)/pip install --quiet --require-hashes -r requirements/build.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/dev: requirements/dev.lock $(VENV)/run
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	touch $@

node_modules/installed: package.json package-lock.json
	npm ci --silent --no-audit --no-fund
	touch $@

# Installs missing programs if it may, otherwise says what to install. Without them tests are skipped on a laptop,
# and fail in CI.
components:
	@missing=""; for pair in $(COMPONENTS); do \
	  command -v $${pair%%=*} >/dev/null 2>&1 || missing="$$missing $${pair#*=}"; done; \
	missing=$$(printf '%s\n' $$missing | sort -u | tr '\n' ' '); \
	if [ -z "$$(echo $$missing)" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null 2>&1; then \
	  echo "For the whole suite, install by your system's means (names as in Debian): $$missing"; exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=""; elif sudo -n true 2>/dev/null; then sudo="sudo"; else \
	  echo "For the whole suite: sudo apt-get install $$missing"; exit 0; fi; \
	echo "Installing $$missing"; \
	$$sudo apt-get update -qq && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

# The source archive, the wheel, a bill of materials (CycloneDX) of an empty environment with the wheel and its
# locked dependencies, and checksums. It signs nothing: use your own key.
release: $(VENV)/dev
	rm -rf $(DIST)/bearerwatch-* $(DIST)/SHA256SUMS $(DIST)/.empty
	@echo 'Building the archive and the wheel …'
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir $(DIST)
	@echo 'Installing them into an empty environment …'
	$(BIN)/uv venv --quiet --python $(BIN)/python $(DIST)/.empty
	$(BIN)/uv pip install --quiet --python $(DIST)/.empty --require-hashes -r requirements/run.lock
	$(BIN)/uv pip install --quiet --python $(DIST)/.empty --no-deps --no-index $(DIST)/bearerwatch-*.whl
	$(DIST)/.empty/bin/bearerwatch --version
	@echo 'Writing the bill of materials …'
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
	  --output-file $(DIST)/bearerwatch-$$($(BIN)/uv version --short).cdx.json $(DIST)/.empty
	rm -rf $(DIST)/.empty
	cd $(DIST) && sha256sum bearerwatch-* >SHA256SUMS && cat SHA256SUMS

# The README's pictures, taken at the end of the demo; smaller if pngquant is installed.
screenshots: $(VENV)/dev components
	$(BIN)/python -m tests.screenshots docs/screenshots
	@! command -v pngquant >/dev/null || pngquant --force --skip-if-larger --strip --ext .png docs/screenshots/*.png

# Rewrites the lock files from pyproject.toml, for every supported platform and Python: for running, building,
# testing, and running with all extras (Vault, PostgreSQL, notifications).
# With extras: pip takes `coverage[toml]` as not pinned by `coverage==…` once there is a newer coverage.
lock: $(VENV)/dev
	$(BIN)/uv pip compile --quiet --universal --upgrade --no-strip-extras --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header pyproject.toml -o requirements/run.lock
	$(BIN)/uv pip compile --quiet --universal --upgrade --no-strip-extras --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header requirements/build.in -o requirements/build.lock
	$(BIN)/uv pip compile --quiet --universal --upgrade --no-strip-extras --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --all-extras --group dev -c requirements/run.lock pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --all-extras -c requirements/dev.lock pyproject.toml -o requirements/extras.lock

clean:
	rm -rf $(VENV) dist node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
