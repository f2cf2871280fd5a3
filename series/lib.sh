# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# Sourced by every script. $TOP is found from this file, so a clone of the
# repository works on its own patches and its own out/.

set -euo pipefail
umask 022
export LC_ALL=C
# Started from a git hook these would point every git below at the wrong tree.
# shellcheck disable=SC2046
unset $(git rev-parse --local-env-vars) CDPATH GREP_OPTIONS

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
OUT=$TOP/out
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/break-cow
SELF=$(basename "$(dirname "$(readlink -f "$0")")")/${0##*/}
# Sourced by the scripts that talk to git trees of ours.
NEUTRAL_NAME=break-cow
NEUTRAL_EMAIL=break-cow@localhost

# die "what is wrong; what to do"
die()
{
	printf '%s: %s\n' "$SELF" "$*" >&2
	exit 1
}

# Progress and remarks. stdout is kept for what a caller reads.
note()
{
	printf '%s: %s\n' "$SELF" "$*" >&2
}

# load_base BASE: reads bases/BASE, sets $BASE and the variables of that file.
load_base()
{
	BASE=${1:-}
	[ -n "$BASE" ] || die "no base given; use one of: $(bases)"
	if [ "${BASE//[^A-Za-z0-9._-]/}" != "$BASE" ] ||
	   [ ! -f "$TOP/bases/$BASE" ] || [ "$BASE" = active ]; then
		die "no base named '$BASE'; use one of: $(bases)"
	fi
	VERSION='' PACKAGE='' PACKAGE_VERSION='' ARCHIVE='' SUITE='' SHA256=''
	SOURCE_PACKAGE='' SELFTESTS=vm DOCS=vm BUILD_FIXUPS=() CONTROL_KERNEL=control
	STOCK_FIXUPS=() SOAK=(normal debug faults)
	OWN_TESTS=() GET_MAINTAINER=''
	CHECK=(apply patch docs commits warnings options archs)
	# shellcheck disable=SC1090
	. "$TOP/bases/$BASE"
	[ -n "$VERSION" ] || die "bases/$BASE names no VERSION"
	# "5.10": what the Makefile of a tree of this base says
	KERNEL=$(printf '%s\n' "$VERSION" | cut -d. -f1-2)
	PATCHES=$TOP/patches/$BASE
	TREE=$OUT/tree/$BASE
}

# The active bases, on one line.
bases()
{
	sed -e 's/#.*//' "$TOP/bases/active" | awk 'NF { printf "%s%s", s, $1; s = " " }'
}

# need PROGRAM...: dies naming the missing ones.
need()
{
	local p missing=

	for p in "$@"; do
		command -v "$p" >/dev/null || missing+=" $p"
	done
	[ -z "$missing" ] || die "missing:$missing; run series/packages test"
}

# git with neither the user's configuration nor identity, at a fixed time:
# the same input gives the same object ids on every machine.
git_fixed()
{
	GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1 \
	GIT_AUTHOR_NAME=$NEUTRAL_NAME GIT_AUTHOR_EMAIL=$NEUTRAL_EMAIL \
	GIT_AUTHOR_DATE='2020-12-13 22:41:22 +0000' \
	GIT_COMMITTER_NAME=$NEUTRAL_NAME GIT_COMMITTER_EMAIL=$NEUTRAL_EMAIL \
	GIT_COMMITTER_DATE='2020-12-13 22:41:22 +0000' \
	git -c core.hooksPath=/dev/null -c commit.gpgSign=false "$@"
}

# lock_out: one writer of out/ at a time. A script started by a script that
# holds the lock inherits it.
lock_out()
{
	[ "${BREAK_COW_LOCKED:-}" != "$OUT" ] || return 0
	mkdir -p "$OUT"
	exec 9>"$OUT/.lock"
	flock -n 9 || die "another run is using $OUT; wait for it to end"
	export BREAK_COW_LOCKED=$OUT
}

# free_space DIR MIB WHAT: dies unless that much can be written below DIR.
free_space()
{
	local have

	mkdir -p "$1"
	have=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
	[ "$have" -ge "$2" ] || die "$3 takes $2 MiB in $1 and $have are free; make room"
}

# tree_version DIR: "5.10.262", as the Makefile of a kernel tree says; fails
# when DIR is no kernel tree.
tree_version()
{
	[ -f "$1/Makefile" ] || return 1
	awk '$2 == "=" && $1 ~ /^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)$/ && !($1 in v) { v[$1] = $3 }
	     /^[a-z].*:/ { exit }
	     END {
		if (v["VERSION"] !~ /^[0-9]+$/ || v["PATCHLEVEL"] !~ /^[0-9]+$/)
			exit 1
		s = v["VERSION"] "." v["PATCHLEVEL"]
		if (v["SUBLEVEL"] > 0)
			s = s "." v["SUBLEVEL"]
		print s v["EXTRAVERSION"]
	     }' "$1/Makefile"
}

# results_head COMMAND [CPUS]: how a table in results/ begins: the command, the kernel,
# and which mm/ was measured, as "git rev-parse COMMIT:mm" names it.
results_head()
{
	local git=(git_fixed -C "$TREE" rev-parse)

	echo "# SPDX-License-Identifier: GPL-2.0"
	echo "# $1; $(cat "$TREE/.git/break-cow/version"), x86-64, QEMU with TCG, ${2:-2 CPUs}"
	echo "# mm/ is git tree $("${git[@]}" base:mm) on stock (the test driver is added to it), $("${git[@]}" refs/break-cow/series:mm) on patched"
}

# pack DIR: what is in it, as an initramfs; the same input gives the same bytes
pack()
{
	(cd "$1" && find . -exec touch -h -d @0 {} + &&
	 find . | sort | cpio -o --quiet -H newc -R 0:0 --reproducible) | gzip -n -6
}

# same_sum FILE SHA256
same_sum()
{
	[ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]
}
