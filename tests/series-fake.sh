# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# A small repository with a small kernel in $work, so that nobody's patches are
# touched and a run takes seconds. Sourced by series.sh.

# fake_kernel DIR SUBLEVEL
fake_kernel()
{
	local i

	mkdir -p "$1/mm" "$1/tools/testing/selftests/mm" "$1/Documentation/mm" "$1/scripts"
	printf 'VERSION = 5\nPATCHLEVEL = 10\nSUBLEVEL = %s\nEXTRAVERSION =\n\nall:\n' "$2" >"$1/Makefile"
	printf '*.o\n!/tools\n/ignored.c\n' >"$1/.gitignore"
	echo MAINTAINERS >"$1/tools/testing/selftests/mm/Makefile"
	echo MM >"$1/Documentation/mm/index.rst"
	cat >"$1/scripts/get_maintainer.pl" <<-'END'
	#!/bin/sh
	for mail; do :; done
	! grep -q '^+++ b/mm/gup' "$mail" || echo '"Ünïcode N. Ame" <u@example.org> (maintainer:GUP (AND SO ON))'
	echo 'Mem Ory <m@example.org> (maintainer:MM)'
	if grep -q '^+++ b/tools' "$mail"; then
		echo 'Mem Ory <other@example.org> (reviewer:TOOLS)'
		echo 'M@example.org (odd fixer:TOOLS)'
	else
		echo 'Re Ader <r@example.org> (reviewer:MM)'
	fi
	echo 'l@example.org (open list:MM)'
	END
	chmod +x "$1/scripts/get_maintainer.pl"
	echo 'linux ignores some of its own files' >"$1/ignored.c"
	for i in gup memory; do
		{
			seq -f 'int first_%g;' 30
			printf '\nint %s_fault(int flags)\n{\n\tint ret = 0;\n\n\tret = flags;\n\treturn ret;\n}\n\n' "$i"
			seq -f 'int last_%g;' 30
		} >"$1/mm/$i.c"
	done
	{
		printf 'List of maintainers\n\n\tM: *Mail* patches to\n\nMaintainers List\n----------------\n\n'
		for i in '3C59X NETWORK DRIVER' ZPOOL ALPS 'BPF (Safe)' 'BROADCOM B44' 'THE REST'; do
			printf '%s\nM:\tSome One <some@one>\nS:\tMaintained\nF:\tdrivers/x\n\n' "$i"
		done
	} | sed '$d' >"$1/MAINTAINERS"
}

# fake_repo: $work/repo with this repository's scripts and an empty series for
# $work/linux; its directories are named as in later kernels
fake_repo()
{
	fake_kernel "$work/linux" 7
	mkdir -p "$work/repo/bases" "$work/repo/patches/v5.10"
	cp -a "$here/series" "$here/config" "$work/repo/"
	cat >"$work/repo/MAINTAINERS" <<-END
	# SPDX-License-Identifier: GPL-2.0

	BREAK COW
	L:	linux-mm@kvack.org
	S:	Odd Fixes
	F:	Documentation/vm/break_cow.rst
	F:	tools/testing/selftests/vm/break_cow*
	END
	echo /out/ >"$work/repo/.gitignore"
	printf 'VERSION=5.10.7\nSELFTESTS=mm\nDOCS=mm\n' >"$work/repo/bases/v5.10"
	echo v5.10 ci >"$work/repo/bases/active"
	printf 'base: v5.10 5.10.7\n# SPDX-License-Identifier: GPL-2.0\n' >"$work/repo/patches/v5.10/series"
	printf 'SPDX-License-Identifier: GPL-2.0\nSubject: mm: a cover letter\n\nWhy, at length.\n' \
		>"$work/repo/patches/v5.10/cover-letter"
	git init -q -b main "$work/repo"
	keep start
}

# keep MESSAGE: commits what lies in the repository
keep()
{
	git -C "$work/repo" add -A && git -C "$work/repo" commit -q -m "$1"
}

# in_repo COMMAND..., with the small kernel
in_repo()
{
	(cd "$work/repo" && KSRC=$work/linux "$@")
}

# three_patches: commits a series of three in the tree: two edits, and one that
# adds files, our section in MAINTAINERS and an edit
three_patches()
{
	local t=$work/repo/out/tree/v5.10

	in_repo series/tree v5.10 >"$work/log" 2>&1 || { cat "$work/log"; return 1; }
	(
		set -e
		cd "$t"
		sed -i 's/^\tint ret = 0;/\tint ret = 1;/' mm/gup.c
		git commit -q -a -m $'mm/gup: Start with one\n\nZero says nothing.  Ünïcode does.\n\nFixes: 0123456789ab ("mm: x")'
		sed -i 's/^\tret = flags;/\tret |= flags;/' mm/gup.c mm/memory.c
		git commit -q -a -m $'mm: Keep what was there\n\nIt was lost:\n\n  --- a/indented line\n'
		echo 'int main(void) { return 0; }' >tools/testing/selftests/mm/break_cow.c
		printf '#!/bin/sh\nexit 0\n' >tools/testing/selftests/mm/break_cow.sh
		chmod +x tools/testing/selftests/mm/break_cow.sh
		echo 'Break COW' >Documentation/mm/break_cow.rst
		sed -i 's/^int last_1;/int test_1;/' mm/memory.c
		sed -i 's/^BROADCOM B44$/BREAK COW\nL:\tlinux-mm@kvack.org\nS:\tOdd Fixes\nF:\tDocumentation\/mm\/break_cow.rst\nF:\ttools\/testing\/selftests\/mm\/break_cow*\n\n&/' MAINTAINERS
		git add -A
		git commit -q -m $'selftests/vm: Test it\n\nWith files.'
	)
}
