# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2153,SC2154
#
# For series/check-*: one line an item, and the logs in out/check/<base>.
# Sourced after assemble.sh. What compiles wants of the caller: $folder, the one in arch/
# of the architecture; $dirs, what is compiled; $src, $jobs, and $more, config fragments.

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

# touched_files: C files that the series edits and that are compiled for arch/$folder
touched_files()
{
	tgit diff --no-renames --diff-filter=AM --name-only "$base" "$head" -- '*.c' ':!tools' ':!samples' |
		awk -F / -v arch="$folder" '$1 != "arch" || $2 == arch'
}

# touched_dirs: their folders, as make targets, without those below another of
# them: given both, v5.8's kbuild leaves the upper one's own files out. KVM's common
# part is built from the architecture's folder.
touched_dirs()
{
	touched_files | sed -e 's|[^/]*$||' -e "s|^virt/kvm/\$|arch/$folder/kvm/|" | sort -u |
		awk 'last == "" || index($0, last) != 1 { print; last = $0 }'
}

# all_compiled FOLDER TEXT: whether each file named on stdin has an object in FOLDER, or
# one was made from it
all_compiled()
{
	local f to=$1 log=$dir/log/uncompiled

	while IFS= read -r f; do
		[ -f "$to/${f%.c}.o" ] || grep -qsE "(^|[ /])$f( |\$)" "$to/${f%/*}"/.*.o.cmd ||
			echo "$f"
	done >"$log"
	item "$([ -s "$log" ]; echo $((!$?)))" "$2" "$log"
}

# kmake SRC OUTDIR LOG ARGUMENT...
kmake()
{
	local from=$1 to=$2 log=$3

	shift 3
	make -C "$from" O="$to" CC="$CC" -j"$jobs" "$@" >"$log" 2>&1 </dev/null
}

# warnings LOG: of gcc, sparse and Sphinx; without line numbers and the folder, to be compared
warnings()
{
	grep -iE 'warning:|error:' "$1" |
		sed -E -e "s|$src/(stock\|patched)/||g" -e 's/:[0-9]+(:[0-9]+)?:/:/g' -e 's/line [0-9]+/line/g' |
		sort -u
}

# compile WHICH NAME FRAGMENT ARGUMENT...: the touched folders of stock or
# patched with one more fragment, log in $dir/log/NAME-WHICH
compile()
{
	local which=$1 name=$2 fragment=$3 to=$dir/$2-$1 known=() d

	shift 3
	# afresh: what is not compiled again does not warn again
	rm -rf "$to"
	ONLY_LAST=1 "$TOP/series/config" "$src/$which" "$to" "${more[@]}" "$fragment" \
		>"$dir/log/$name-$which" 2>&1 || return 1
	for d in "${dirs[@]}"; do
		[ ! -d "$src/$which/$d" ] || known+=("$d")
	done
	kmake "$src/$which" "$to" "$dir/log/$name-$which" "$@" "${known[@]}"
}

# nothing_new NAME TEXT: what patched says that stock did not
nothing_new()
{
	local log=$dir/log/$1-new

	comm -13 <(warnings "$dir/log/$1-stock") <(warnings "$dir/log/$1-patched") >"$log"
	item "$([ -s "$log" ]; echo $((!$?)))" "$2" "$log"
}
