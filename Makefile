# The one door to this project: `make help` says what there is.

PREFIX  ?= /usr/local
DESTDIR ?=
ROUNDS  ?= $(if $(QUICK),1,3)
CARGO   ?= cargo
INSTALL ?= install

# Where cargo builds, as cargo itself understands it.
target  := $(or $(CARGO_TARGET_DIR),target)
bindir  := $(DESTDIR)$(PREFIX)/bin
mandir  := $(DESTDIR)$(PREFIX)/share/man
docdir  := $(DESTDIR)$(PREFIX)/share/doc/sersync
manuals := $(wildcard man/*.[1-8])

comma   := ,
define newline


endef

# $(call ensure,PROGRAM,PACKAGES): on a bare Debian, root gets what is missing; others are told what to install.
ensure = command -v $1 >/dev/null || { \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo 'make: $1 is missing: install it (on Debian: apt-get install $2), or run make as root' >&2; \
		exit 1; \
	fi; \
	echo 'make: $1 is missing, installing $2'; \
	said=$$({ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y --no-install-recommends $2; } 2>&1) \
		|| { echo "$$said" >&2; exit 1; }; }

# What a toolchain may lack. A check that is left out is named, not passed over.
has_rustfmt    = $(shell $(CARGO) fmt --version 2>/dev/null)
has_clippy     = $(shell $(CARGO) clippy --version 2>/dev/null)
has_cargo_deny = $(shell $(CARGO) deny --version 2>/dev/null)
missing        = $(strip $(foreach tool,rustfmt clippy cargo_deny,$(if $(has_$(tool)),,$(subst _,-,$(tool)))))

.DEFAULT_GOAL := help
.PHONY: help build demo check bench install uninstall clean need-linker need-rsync want-lsyncd

help: ## list the targets
	@echo 'usage: make TARGET [VARIABLE=value]'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

build: need-linker ## build the release binary, target/release/sersync
	$(CARGO) build --release --locked

demo: need-linker need-rsync ## mirror a small tree before your eyes; KEEP=1 leaves it running to play with
	@$(CARGO) build --release --locked --quiet --bin sersync --example demo
	@$(target)/release/examples/demo $(if $(KEEP),--keep)

check: need-linker need-rsync ## everything that must hold: format, lints, tests, documentation, licences
	$(if $(has_rustfmt),$(CARGO) fmt --check)
	$(if $(has_clippy),$(CARGO) clippy --all-targets --locked -- -D warnings)
	$(CARGO) test --locked
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps
	$(if $(has_cargo_deny),$(CARGO) deny check bans licenses sources)
	@echo 'make check: passed$(if $(missing),$(comma) but NOT checked for lack of: $(missing))'

bench: need-linker need-rsync want-lsyncd ## plain rsync, lsyncd and sersync side by side; ROUNDS=3 QUICK=1 ONLY=single,storm
	$(CARGO) bench --locked --bench side_by_side -- --rounds $(ROUNDS) $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

install: $(target)/release/sersync ## install what was built below PREFIX=/usr/local; DESTDIR= for packagers
	$(INSTALL) -d '$(bindir)' '$(docdir)/examples'
	$(INSTALL) -m 755 '$<' '$(bindir)/sersync'
	$(INSTALL) -m 644 LICENSE README.md README.zh-CN.md CHANGELOG.md '$(docdir)/'
	$(INSTALL) -m 644 dist/examples/confxml.xml '$(docdir)/examples/'
	$(foreach page,$(manuals),$(INSTALL) -D -m 644 $(page) '$(mandir)/man$(subst .,,$(suffix $(page)))/$(notdir $(page))'$(newline))

uninstall: ## remove what install has put there
	rm -f '$(bindir)/sersync'
	rm -rf '$(docdir)'
	$(foreach page,$(manuals),rm -f '$(mandir)/man$(subst .,,$(suffix $(page)))/$(notdir $(page))'$(newline))

clean: ## remove everything that was built
	$(CARGO) clean

# Only when nothing was built: `sudo make install` needs no toolchain for root.
$(target)/release/sersync:
	@$(MAKE) --no-print-directory build

need-linker:
	@$(call ensure,cc,gcc libc6-dev)

need-rsync:
	@$(call ensure,rsync,rsync)

# Only compared with: the bench leaves it out where it cannot be had.
want-lsyncd:
	-@$(call ensure,lsyncd,lsyncd)
