# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2153,SC2154
#
# From stored patches and new files to commits, without a work tree. Sourced
# after patchlib.sh.

# maintainers_ours FILE: our sections, with the base's paths
maintainers_ours()
{
	local line

	sed -e '/^[^#]/,$!d' "$1" | while IFS= read -r line; do
		case $line in
		[FX]:*)
			# A trailing slash or a pattern survives the mapping.
			printf '%s:\t%s\n' "${line%%:*}" "$(kernel_path "${line#*:	}")" ;;
		*)
			printf '%s\n' "$line" ;;
		esac
	done
}

# maintainers_insert THEIRS OURS: the kernel's MAINTAINERS with our sections at
# their alphabetical place. The kernel's order is not perfect: ours goes where the
# fewest sections are on the wrong side of it.
maintainers_insert()
{
	awk -v ours="$2" '
		function key(s) { s = toupper(s); return s == "THE REST" ? "ZZZZZZ" : s }
		function header(i) {
			return i > start && line[i] != "" && line[i - 1] == "" &&
			       line[i] !~ /^[A-Z]:/ && line[i + 1] ~ /^[A-Z]:\t/
		}
		{ line[NR] = $0 }
		/^Maintainers List/ { start = NR }
		END {
			for (i = 1; i <= NR; i++)
				if (header(i)) {
					at[++n] = i
					name[n] = key(line[i])
				}
			RS = ""
			while ((getline section < ours) > 0) {
				split(section, l, "\n")
				k = key(l[1])
				place = least = cost = 0
				for (j = 1; j <= n; j++) {
					if (cost < least || j == 1) {
						least = cost
						place = at[j]
					}
					cost += name[j] < k ? -1 : 1
				}
				if (cost >= least && place)
					put[place] = put[place] section "\n\n"
				else
					last = last "\n" section "\n"
			}
			for (i = 1; i <= NR; i++)
				print put[i] line[i]
			printf "%s", last
		}' "$1"
}

# add_file FROM PATH: the new file PATH (as in this repository) below FROM goes
# into the index at its place in the kernel
add_file()
{
	local k mode=100644 blob

	[ -f "$1/$2" ] || die "New-file: $2 of $name is not in this repository"
	if [ "$2" = MAINTAINERS ]; then
		tgit show "$head:MAINTAINERS" >"$tmp/theirs" 2>/dev/null ||
			die "linux has no MAINTAINERS to add our section to"
		maintainers_ours "$1/$2" >"$tmp/ours"
		maintainers_insert "$tmp/theirs" "$tmp/ours" >"$tmp/both"
		blob=$(tgit hash-object -w --no-filters "$tmp/both")
		k=MAINTAINERS
	else
		k=$(kernel_path "$2")
		[ -z "$(tgit ls-files -- "$k")" ] || die "New-file: $2 of $name is in the kernel already, as $k"
		[ ! -x "$1/$2" ] || mode=100755
		blob=$(tgit hash-object -w --no-filters "$1/$2")
	fi
	tgit update-index --add --cacheinfo "$mode,$blob,$k"
	echo "$k" >>"$tmp/new"
}

# add_patch DIR FROM: the stored patch $name becomes a commit on $head
add_patch()
{
	local p=$1/$name f tree

	check_patch "$p"
	patch_part "$p" edits >"$tmp/edits"
	if [ -s "$tmp/edits" ]; then
		f=$(sed -n 's/^diff --git a\/\(.*\) b\/.*/\1/p' "$tmp/edits" | grep -Fxf "$tmp/new" | head -n 1) || true
		[ -z "$f" ] || die "$name edits $f, a new file of an earlier patch; a new file enters whole, in one patch"
		if ! tgit apply --cached --whitespace=nowarn -v "$tmp/edits" 2>"$tmp/log"; then
			die "$name does not fit: $(misfit "$tmp/log" "$tmp/edits")"
		fi
		offsets "$tmp/log" | while IFS= read -r f; do note "$name: $f"; done
	fi
	while IFS= read -r f; do
		! grep -Fxq "$(kernel_path "$f")" "$tmp/new" || die "New-file: $f of $name entered in an earlier patch"
		add_file "$2" "$f"
	done < <(patch_part "$p" files)
	tree=$(tgit write-tree)
	[ "$tree" != "$(tgit rev-parse "$head^{tree}")" ] || die "$name changes nothing"
	patch_message "$p" >"$tmp/message"
	head=$(tgit commit-tree -p "$head" -F "$tmp/message" "$tree")
	printf '%s %s\n' "$head" "$name"
}

# assemble DIR FROM COMMIT: commits the series in DIR with the new files below
# FROM on top of COMMIT, and prints "<commit> <patch>" lines. No ref moves.
assemble()
(
	head=$3
	tmp=$(mktemp -d "$TREE/.git/assemble-XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 130' INT TERM
	: >"$tmp/new"
	export GIT_INDEX_FILE=$tmp/index
	tgit read-tree "$head"
	names=$(patch_names "$1")
	for name in $names; do
		add_patch "$1" "$2"
	done
)
