# The two commands: `make demo` and `make test`. Each does all its set-up first.
PYTHON ?= python3
BIN := .venv/bin

VENV_PACKAGES := python3-venv
RUN_PACKAGES := $(VENV_PACKAGES) bubblewrap nxagent nxproxy openbox xterm xfonts-base
DEB_PACKAGES := build-essential debhelper libvirt-dev pkg-config python3-dev python3.11-venv
TEST_PACKAGES := $(RUN_PACKAGES) xvfb x11-apps x11-utils xdotool busybox-static haproxy faketime
TEST_PACKAGES += lxc uidmap
TEST_PACKAGES += libvirt-dev pkg-config gcc python3-dev qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients kmod tini
TEST_PACKAGES += mmdebstrap e2fsprogs zstd btrfs-progs iproute2 nftables dnsmasq-base
TEST_PACKAGES += systemd-container $(DEB_PACKAGES) chromium chromium-driver fonts-dejavu-core

TOGETHER := tests/unit tests/contract tests/world tests/admin

.PHONY: deb demo test soak lint types bench clean screenshots packages-demo packages-test
.DELETE_ON_ERROR:

# Packages are looked for at each start: they may have been removed since the environment was made.
demo: packages-demo .venv/.core
	@exec $(BIN)/qvd-demo

# Without the right to install packages, the tests that need them are skipped by name; in CI that is an error.
# First what has no more of the machine than a process and a database of its own, two at a time; then the rest.
test: packages-test .venv/.test
	@$(BIN)/python -m pytest -n 2 $(TOGETHER); together=$$?; \
	$(BIN)/python -m pytest $(addprefix --ignore=,$(TOGETHER)) && exit $$together

# Faults on real nodes, in random order: SOAK_MINUTES=5, and SOAK_SEED to repeat an order. The last line is JSON.
soak: packages-test .venv/.test
	@$(BIN)/python -m tests.soak

packages-demo:
	@sh tools/need-packages.sh $(RUN_PACKAGES)

packages-test:
	@sh tools/need-packages.sh $(TEST_PACKAGES) || test "$$CI" != true

# Debian packages, in dist/. They are for the Python of this Debian, whatever $(PYTHON) is.
deb:
	@sh tools/need-packages.sh $(DEB_PACKAGES)
	@sh tools/make-deb.sh

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.test
	$(BIN)/mypy

# Pictures of all of the panel's screens, in docs/screenshots/.
screenshots: packages-test .venv/.test
	@$(BIN)/python -m tests.browser.shots

bench: packages-test .venv/.test
	$(BIN)/python -m bench

.venv/.core: setup.cfg pyproject.toml
	@sh tools/need-packages.sh $(VENV_PACKAGES)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing QVD and its Python libraries into .venv"
	@$(BIN)/python -m pip install -q -e '.[demo]' --config-settings editable_mode=compat
	@touch $@

.venv/.test: .venv/.core
	@echo "Installing the test tools into .venv"
	@$(BIN)/python -m pip install -q -e '.[test]' --config-settings editable_mode=compat
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
