# The four commands, the same on a laptop and in CI:  make demo · make test · make check · make bench
# Each sets up what it needs in .venv and node_modules; Debian packages through apt where it may.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# uv brings roots of its own: those of a company, pip and curl find in the system's store.
export UV_SYSTEM_CERTS := 1

# What `real` tests start, each command with the Debian package that brings it.
COMPONENTS := promtool=prometheus prometheus=prometheus amtool=prometheus-alertmanager \
	prometheus-alertmanager=prometheus-alertmanager openssl=openssl curl=curl node=nodejs npm=npm \
	chromium=chromium faketime=faketime pg_ctlcluster=postgresql

# Where `make release` puts what is handed out.
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

# The documents as a site, in site/; a broken link ends it.
docs: $(VENV)/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Fails where an advisory is known for what the product or its build needs. Where none can be asked it says so,
# and fails in CI, unless AUDIT_UNAVAILABLE=skip.
audit: $(VENV)/dev
	@$(BIN)/python requirements/audit.py requirements/extras.lock requirements/build.lock

bench: $(VENV)/dev
	$(BIN)/python -m bench

# Blows to three replicas as processes, half an hour, and what the orgs' login history says of each.
drills: $(VENV)/dev components
	$(BIN)/python -m tests.end_to_end.drills

# An hour of faults drawn at random on one daemon, and what was lost; `make test` deals a few of them.
soak: $(VENV)/dev components
	$(BIN)/python -m tests.end_to_end.soak

# Hostile input, ten minutes for each way in; `make test` tries the same briefly.
fuzz: $(VENV)/dev
	$(BIN)/python -m tests.fuzz

# `make demo` needs what the product needs; the others need the tools as well.
$(VENV)/run: requirements/run.lock pyproject.toml
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

# Installs what is missing where it may, else says what to install; a test whose component is missing is
# skipped on a laptop and fails in CI.
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

# The source archive, the wheel made from it, the bill of materials (CycloneDX) of an empty environment into
# which the wheel and the locked dependencies were installed, and checksums. It signs nothing: that key is yours.
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

# The pictures of the README, of the demo at the end of its story; smaller where pngquant is installed.
screenshots: $(VENV)/dev components
	$(BIN)/python -m tests.screenshots docs/screenshots
	@! command -v pngquant >/dev/null || pngquant --force --skip-if-larger --strip --ext .png docs/screenshots/*.png

# Writes the lock files anew from pyproject.toml, for every platform and Python that the project supports:
# what runs, what builds, what the tests need, and what runs with all extras (Vault, PostgreSQL, notifications).
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
