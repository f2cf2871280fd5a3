# SPDX-License-Identifier: GPL-2.0
#
# Targets and help only; what they do is in series/, qemu/ and tests/.

BASE ?= v5.10
VARIANT := $(if $(STOCK),stock,$(if $(CONTROL),control,patched))
DEBUGARG := $(if $(DEBUG),debug)

# handed to the scripts through the environment
export KSRC TARBALL INPUT FORCE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## this list
	@echo "make run            the main job: page a real file through a patched kernel"
	@echo "make test           the self-tests, the series, and the kernels in QEMU"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "BASE=     one of: $$(awk '!/^#/ && NF { printf "%s ", $$1 }' bases/active)(default $(BASE))"
	@echo "STOCK=1   the base as released    CONTROL=1  stock with enforced COW"
	@echo "DEBUG=1   lockdep, KASAN, ...     INPUT=     the file that run pages"
	@echo "KSRC=     a kernel source, only read    TARBALL=  a kernel tarball"

.PHONY: run
run: ## evictor on a real file under QEMU (BASE= STOCK=1 CONTROL=1 DEBUG=1 INPUT=)
	@series/packages run
	@tests/demo $(BASE) $(VARIANT) $(DEBUGARG)

.PHONY: test
test: ## everything that CI runs, or all of one BASE=; ends with "N passed, N failed"
	@series/packages test
	@tests/run $(if $(filter file,$(origin BASE)),ci,$(BASE))

.PHONY: test-all
test-all: ## the same of every active base; v5.8 wants KSRC=
	@series/packages test
	@tests/run all

.PHONY: source
source: ## fetch and unpack the base's source (BASE= KSRC= TARBALL=)
	@series/packages run
	@series/source $(BASE)

.PHONY: tree
tree: ## git tree with the base and one commit a patch (BASE= FORCE=1)
	@series/packages run
	@series/tree $(BASE)

.PHONY: refresh
refresh: ## take commits made in the tree back into patches/ (BASE=)
	@series/refresh $(BASE)

.PHONY: series
series: ## render the git-am-able series into out/series/ (BASE=)
	@series/packages run
	@series/render $(BASE) $(if $(KDIR),"$(KDIR)")

.PHONY: am
am: ## apply the series to a kernel git tree (KDIR=)
	@series/am $(if $(KDIR),"$(KDIR)")

.PHONY: check
check: ## what linux-mm asks of a series (BASE=)
	@series/packages check
	@series/check $(BASE)

.PHONY: kernel
kernel: ## build a kernel; prints the image's path last (BASE= STOCK=1 CONTROL=1 DEBUG=1)
	@series/packages run
	@qemu/kernel $(BASE) $(VARIANT) $(DEBUGARG)

.PHONY: kselftest
kselftest: ## the series' kselftests under QEMU (BASE= STOCK=1 CONTROL=1 DEBUG=1)
	@series/packages run
	@tests/kselftest $(BASE) $(VARIANT) $(DEBUGARG)

.PHONY: compare
compare: ## stock, control and patched in one table, into results/ and README.md (BASE=)
	@series/packages test
	@tests/compare $(BASE)

.PHONY: mutants
mutants: ## which test catches which broken kernel (BASE=)
	@series/packages run
	@tests/mutants $(BASE)

.PHONY: peer
peer: ## a newer kernel's own selftests on stock and patched (BASE=)
	@series/packages peer
	@tests/peer $(BASE)

.PHONY: bench
bench: ## what the series costs, with bounds and plots (BASE= AGAINST=stock|control)
	@series/packages bench
	@tests/bench $(BASE) $(or $(AGAINST),stock)

.PHONY: stress-ng
stress-ng: ## Debian's stress-ng, what of it is about this memory (BASE= STOCK=1 DEBUG=1)
	@series/packages stress
	@tests/stress-ng $(BASE) $(VARIANT) $(DEBUGARG)

.PHONY: soak
soak: ## break_cow_stress for hours; goes on where it broke off (BASE= PART=normal|debug|faults)
	@series/packages run
	@tests/soak $(BASE) $(PART)

.PHONY: soak-mutants
soak-mutants: ## what break_cow_stress finds in each broken kernel (BASE=)
	@series/packages run
	@tests/soak-mutants $(BASE)

.PHONY: readme
readme: ## put the tables of results/ between the markers of README.md
	@tests/readme

.PHONY: clean
clean: ## remove what was built here, and say what that frees
	@tests/clean out

.PHONY: distclean
distclean: ## clean, and remove downloads and ccache too
	@tests/clean out cache
