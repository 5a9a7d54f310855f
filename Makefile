# The one door to this project: `make help` says what there is.

PREFIX  ?= /usr/local
DESTDIR ?=
ROUNDS  ?= $(if $(QUICK),1,3)
SECONDS ?= 600
CARGO   ?= cargo
INSTALL ?= install

# Where cargo builds, as cargo itself understands it.
target  := $(or $(CARGO_TARGET_DIR),target)
tools   := $(abspath $(target))/tools
staging := $(CURDIR)/target/package

# systemd, the bus, polkit and fish look for most of this at one place, whatever PREFIX is.
UNITDIR ?= $(or $(shell pkg-config --variable=systemdsystemunitdir systemd 2>/dev/null),/usr/lib/systemd/system)
FISHDIR ?= /usr/share/fish/vendor_completions.d
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
DOCS    ?= LICENSE README.md README.zh-CN.md CHANGELOG.md
STRIP   ?=

# $(call to,DIRECTORY,FILES): DESTINATION=FILE for each of them that is there.
to = $(foreach file,$(wildcard $2),$(strip $1)/$(notdir $(file))=$(file))

units := $(wildcard dist/systemd/*.service dist/systemd/*.target dist/systemd/*.slice)
files  = \
	$(call to,$(UNITDIR),$(units)) \
	$(call to,/usr/lib/systemd/system-preset,dist/systemd/*.preset) \
	$(call to,/usr/lib/systemd/catalog,dist/systemd/*.catalog) \
	$(call to,/usr/share/dbus-1/system.d,dist/dbus/*.conf) \
	$(call to,/usr/share/dbus-1/interfaces,dist/dbus/*.xml) \
	$(call to,/usr/share/polkit-1/actions,dist/dbus/*.policy) \
	$(call to,$(docdir),$(DOCS)) \
	$(call to,$(docdir)/examples,dist/examples/* dist/systemd/*.conf) \
	$(foreach section,1 5 8,$(call to,$(PREFIX)/share/man/man$(section),man/*.$(section)))
docdir = $(PREFIX)/share/doc/sersync

# Made by the program itself.
completions = \
	bash=$(PREFIX)/share/bash-completion/completions/sersync \
	zsh=$(ZSHDIR)/_sersync \
	fish=$(FISHDIR)/sersync.fish

# The two sides of a word A=B.
left  = $(firstword $(subst =, ,$1))
right = $(lastword $(subst =, ,$1))

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

# $(call ensure_tool,PROGRAM,CRATE): builds what cargo lacks, below the target directory; it runs once, so it is not optimized.
ensure_tool = command -v $1 >/dev/null || { \
	echo 'make: $1 is missing, building it in $(tools)'; \
	$(CARGO) install --debug --quiet --locked --root '$(tools)' --target-dir '$(tools)/build' $2 && rm -rf '$(tools)/build'; }
CARGO_DEB          := cargo-deb@3.8.0 --no-default-features
CARGO_GENERATE_RPM := cargo-generate-rpm@0.21.1
export PATH        := $(PATH):$(tools)/bin

# What a toolchain may lack. A check that is left out is named, not passed over.
has_rustfmt    = $(shell $(CARGO) fmt --version 2>/dev/null)
has_clippy     = $(shell $(CARGO) clippy --version 2>/dev/null)
has_cargo_deny = $(shell $(CARGO) deny --version 2>/dev/null)
has_root       = $(filter 0,$(shell id -u))
# The tests in a booted systemd want root and a machine that may mount: SERSYNC_NO_BOOT=1 leaves them out.
has_boot       = $(if $(filter 1,$(SERSYNC_NO_BOOT)),,$(if $(has_root),$(shell $(may_mount) && echo yes)))
may_mount       = unshare --mount --pid --fork --propagation=private sh -ec 'cd /mnt && mount -t tmpfs tmpfs . && cd /mnt && \
	mkdir up work root && mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work root' >/dev/null 2>&1
has_rpm        = $(shell command -v rpm)
missing        = $(strip $(foreach tool,rustfmt clippy cargo_deny boot rpm,$(if $(has_$(tool)),,$(subst _,-,$(tool)))))
boot_left_out  = $(if $(has_boot),,@echo 'make check: the tests in a booted systemd are LEFT OUT: they want root, \
	a machine that may mount, and no SERSYNC_NO_BOOT=1')

.DEFAULT_GOAL := help
.PHONY: help build demo check drill bench install uninstall deb rpm clean need-linker need-rsync need-ssh need-bus need-systemd want-lsyncd want-mandoc want-shells want-fuse want-broker want-old-bus

help: ## list the targets
	@echo 'usage: make TARGET [VARIABLE=value]'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

build: need-linker ## build the release binary, target/release/sersync
	$(CARGO) build --release --locked

demo: need-linker need-rsync ## mirror a small tree before your eyes; KEEP=1 leaves it running to play with
	@$(CARGO) build --release --locked --quiet --bin sersync --example demo
	@$(target)/release/examples/demo $(if $(KEEP),--keep)

check: need-linker need-rsync need-ssh need-bus want-mandoc want-shells want-fuse ## everything that must hold: format, lints, tests, documentation, licences
	$(if $(has_rustfmt),$(CARGO) fmt --check)
	$(if $(has_clippy),$(CARGO) clippy --all-targets --locked -- -D warnings)
	$(boot_left_out)
	$(if $(has_boot),@$(MAKE) --no-print-directory need-systemd want-broker want-old-bus deb $(if $(has_rpm),rpm))
	$(if $(has_boot),SERSYNC_BOOTED=1) CARGO='$(CARGO)' tests/run
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps
	$(if $(has_cargo_deny),$(CARGO) deny check bans licenses sources)
	@echo 'make check: passed$(if $(missing),$(comma) but NOT checked for lack of: $(missing))'

drill: need-linker need-rsync need-bus ## random faults for SECONDS=600, with SEED=N again; MILLION=1: one long outage; RACES=200: unmounts
	$(if $(RACES),SERSYNC_RACE_ROUNDS=$(RACES) $(CARGO) test --release --locked --test it -- lazily,\
		SERSYNC_DRILL_SECONDS=$(SECONDS) $(if $(SEED),SERSYNC_DRILL_SEED=$(SEED)) $(if $(MILLION),TMPDIR=/dev/shm) \
		$(CARGO) test --release --locked --test drill -- $(if $(MILLION),--ignored million,nothing_is_lost))

bench: need-linker need-rsync want-lsyncd ## plain rsync, lsyncd and sersync side by side; ROUNDS=3 QUICK=1 ONLY=single,storm
	$(CARGO) bench --locked --bench side_by_side -- --rounds $(ROUNDS) $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

install: $(target)/release/sersync ## install what was built below PREFIX=/usr/local; DESTDIR= for packagers
	$(INSTALL) -D -m 755 $(STRIP) '$<' '$(DESTDIR)$(PREFIX)/bin/sersync'
	ln -sf sersync '$(DESTDIR)$(PREFIX)/bin/sersync2'
	$(foreach file,$(files),$(INSTALL) -D -m 644 '$(call right,$(file))' '$(DESTDIR)$(call left,$(file))'$(newline))
	$(foreach shell,$(completions),'$<' completions $(call left,$(shell)) \
		| $(INSTALL) -D -m 644 /dev/stdin '$(DESTDIR)$(call right,$(shell))'$(newline))
	sed -i 's|/usr/bin/sersync|$(PREFIX)/bin/sersync|g' $(foreach unit,$(units),'$(DESTDIR)$(UNITDIR)/$(notdir $(unit))')
	$(INSTALL) -d -m 755 '$(DESTDIR)/etc/sersync'
	$(if $(DESTDIR),,@$(take_over)$(newline)	@$(restart))

uninstall: ## stop what runs and remove what install has put there; configurations and state stay
	$(if $(DESTDIR),,@$(stop))
	rm -f '$(DESTDIR)$(PREFIX)/bin/sersync' '$(DESTDIR)$(PREFIX)/bin/sersync2'
	$(foreach file,$(files),rm -f '$(DESTDIR)$(call left,$(file))'$(newline))
	$(foreach shell,$(completions),rm -f '$(DESTDIR)$(call right,$(shell))'$(newline))
	rm -rf '$(DESTDIR)$(docdir)'
	rmdir --ignore-fail-on-non-empty '$(DESTDIR)/etc/sersync' || true
	$(if $(DESTDIR),,@$(take_over))

# Says to what is running that files have come or gone; a chroot has nothing that runs.
define take_over
if [ -d /run/systemd/system ]; then \
	systemctl daemon-reload && journalctl --update-catalog && systemctl reload dbus.service \
		|| echo 'make: run `systemctl daemon-reload; journalctl --update-catalog; systemctl reload dbus`' >&2; \
fi
endef

# As the packages do it: what runs goes on with the new program, and does not outlive its unit.
running := 'sersync@*.service' 'sersync2-*.service'
restart  = if [ -d /run/systemd/system ]; then systemctl try-restart $(running) || true; fi
stop     = if [ -d /run/systemd/system ]; then systemctl stop sersync.target $(running) || true; fi

# LICENSE is named in Debian's copyright file, CHANGELOG.md has another name there, and Debian's zsh has a place of its
# own for what packages bring. DEBEMAIL, as of Debian's own tools, is who answers for the package.
deb: build ## build a Debian package, target/debian/sersync_*.deb
	@$(call ensure,dpkg-shlibdeps,dpkg-dev)
	@$(call ensure_tool,cargo-deb,$(CARGO_DEB))
	@$(call stage,ZSHDIR=/usr/share/zsh/vendor-completions DOCS='$(filter-out LICENSE CHANGELOG.md,$(DOCS))')
	rm -f '$(target)'/debian/sersync_*.deb
	$(CARGO) deb --no-build --locked $(if $(DEBEMAIL),--maintainer '$(or $(DEBFULLNAME),The sersync developers) <$(DEBEMAIL)>')

rpm: build ## build an RPM package, target/generate-rpm/sersync-*.rpm
	@$(call ensure_tool,cargo-generate-rpm,$(CARGO_GENERATE_RPM))
	@$(call stage)
	rm -f '$(target)'/generate-rpm/sersync-*.rpm
	$(CARGO) generate-rpm

# $(call stage,VARIABLES): installs to where the packages are made from.
stage = rm -rf '$(staging)' && $(MAKE) --no-print-directory install \
	DESTDIR='$(staging)' PREFIX=/usr UNITDIR=/usr/lib/systemd/system STRIP=-s $1 >/dev/null

clean: ## remove everything that was built
	$(CARGO) clean

# Only when nothing was built: `sudo make install` needs no toolchain for root.
$(target)/release/sersync:
	@$(MAKE) --no-print-directory build

need-linker:
	@$(call ensure,cc,gcc libc6-dev)

# busctl comes with systemd.
need-bus:
	@$(call ensure,dbus-daemon,dbus)
	@$(call ensure,busctl,systemd)

need-systemd:
	@$(call ensure,/sbin/init,systemd-sysv)
	@$(call ensure,systemd-nspawn,systemd-container)
	@$(call ensure,pkcheck,polkitd)
	@$(call ensure,rsync,rsync)

need-rsync:
	@$(call ensure,rsync,rsync)

# The tests start an sshd of their own.
need-ssh:
	@$(call ensure,ssh,openssh-client)
	@$(call ensure,/usr/sbin/sshd,openssh-server)

# Only compared with: the bench leaves it out where it cannot be had.
want-lsyncd:
	-@$(call ensure,lsyncd,lsyncd)

# The manual pages are compared with the program in any case; without it they are not linted.
want-mandoc:
	-@$(call ensure,mandoc,mandoc)

# A file system that can be made to hang, where there may be one.
want-fuse:
	-@[ ! -e /dev/fuse ] || $(call ensure,bindfs,bindfs)

# They are asked what they make of the completions, where they are.
want-shells:
	-@$(call ensure,zsh,zsh)
	-@$(call ensure,fish,fish)

# Only fetched, for the machine that the tests boot: installed, it would be the bus of this one from its next boot on.
want-broker:
	-@command -v dbus-broker-launch >/dev/null || ls '$(tools)'/dbus-broker_*.deb >/dev/null 2>&1 || { \
		echo 'make: fetching dbus-broker to $(tools)'; \
		mkdir -p '$(tools)' && cd '$(tools)' && apt-get update -qq && apt-get download -qq dbus-broker 2>/dev/null; }

# The oldest dbus-daemon that reads our policy, of Debian 11. Only for that machine, too.
want-old-bus:
	-@$(call fetch,dbus_1.12.28-0+deb11u1_amd64.deb,926474b9a8a05e7255d6ba43c4bfd0b4181ddd14145417a21df3ab90b368f852)
	-@$(call fetch,libdbus-1-3_1.12.28-0+deb11u1_amd64.deb,fc7c43086fd5330fef47eb9bd6b50972a0b351fa5d08a1e075ddbc4101e2c4a2)

# $(call fetch,FILE,SHA256): a package of dbus of another Debian than this one, for as long as its mirrors have it.
fetch = ls '$(tools)/$1' >/dev/null 2>&1 || { \
	echo 'make: fetching $1 to $(tools)'; \
	mkdir -p '$(tools)' && /usr/lib/apt/apt-helper -qq download-file \
		'http://deb.debian.org/debian/pool/main/d/dbus/$1' '$(tools)/$1' SHA256:$2; }
