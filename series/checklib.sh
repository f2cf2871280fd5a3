# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2153
#
# For series/check-*: one line an item, and the logs in out/check/<base>.
# Sourced after assemble.sh.

# check_start BASE [stock]: brings the tree up to date, and that worktree; sets
# $BASE..., $dir, $base, $head, $list
check_start()
{
	load_base "$1"
	lock_out
	"$TOP/series/tree" "$@" >/dev/null
	dir=$OUT/check/$BASE
	mkdir -p "$dir/log"
	base=$(tgit rev-parse 'base^{commit}')
	head=$(tgit rev-parse refs/break-cow/series)
	list=$(cat "$TREE/.git/break-cow/names")
	[ -n "$list" ] || die "the series of $BASE is empty; nothing to check"
	failed=0
}

# item STATUS NAME [LOG]: the line of one item, and on failure what LOG ends with
item()
{
	if [ "$1" = 0 ]; then
		echo "ok - $2"
		return
	fi
	failed=1
	echo "not ok - $2"
	[ -z "${3:-}" ] || [ ! -s "$3" ] || {
		tail -n 15 "$3" | sed 's/^/# /'
		echo "# all of it: ${3#"$TOP/"}"
	}
}

# touched_files: C files that the series edits and that x86 compiles
touched_files()
{
	tgit diff --no-renames --diff-filter=AM --name-only "$base" "$head" -- '*.c' ':!tools' ':!samples' |
		grep -v '^arch/[^x]' || true
}

# touched_dirs: their folders, as make targets, without those below another of
# them: given both, v5.8's kbuild leaves the upper one's own files out. KVM's common
# part is built from the architecture's folder.
touched_dirs()
{
	touched_files | sed -e 's|[^/]*$||' -e 's|^virt/kvm/$|arch/x86/kvm/|' | sort -u |
		awk 'last == "" || index($0, last) != 1 { print; last = $0 }'
}

# uncompiled: touched files without an object, and that none was made from
uncompiled()
{
	local f to=$dir/warnings-patched

	touched_files | while IFS= read -r f; do
		[ -f "$to/${f%.c}.o" ] || grep -qsE "(^|[ /])$f( |\$)" "$to/${f%/*}"/.*.o.cmd ||
			echo "$f"
	done
}

