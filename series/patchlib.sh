# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Stored patches: what they hold, and how they become commits. Sourced after
# lib.sh and load_base.
#
#	SPDX-License-Identifier: GPL-2.0
#	Subject: mm/...: ...
#
#	message
#	---
#	New-file: tools/testing/selftests/vm/x.c
#
#	diff --git ... (the edits; new files are not among them)

# git in out/tree/<base>
tgit()
{
	git_fixed -C "$TREE" "$@"
}

# driver_commit: the commit of the tree that adds the driver for tests, if any
driver_commit()
{
	tgit log --format=%H base..refs/break-cow/series -- mm/break_cow_test.c
}

# put_back DIR: a worktree to what it has committed; fails if it cannot. Debian's
# .gitignore hides all that is new at the top level: the driver, on stock.
put_back()
{
	[ -z "$(git_fixed -C "$1" status --porcelain --ignored | head -n 1)" ] ||
		{ git_fixed -C "$1" reset -q --hard && git_fixed -C "$1" clean -fdxq; }
}

# fragments [COMMIT]: the kernel config of the base, a file a line. A commit without
# the driver, that of the whole series if none is named, has no use for its symbol.
fragments()
{
	echo "$TOP/config/base.config"
	! tgit cat-file -e "${1:-refs/break-cow/series}:mm/break_cow_test.c" 2>/dev/null ||
		echo "$TOP/config/series.config"
	[ ! -f "$TOP/config/$BASE.config" ] || echo "$TOP/config/$BASE.config"
}

# The path of a new file in the kernel, and back.
kernel_path()
{
	case $1 in
	tools/testing/selftests/vm/*) echo "tools/testing/selftests/$SELFTESTS/${1#tools/testing/selftests/vm/}" ;;
	Documentation/vm/*) echo "Documentation/$DOCS/${1#Documentation/vm/}" ;;
	*) echo "$1" ;;
	esac
}

repo_path()
{
	case $1 in
	"tools/testing/selftests/$SELFTESTS"/*) echo "tools/testing/selftests/vm/${1#"tools/testing/selftests/$SELFTESTS/"}" ;;
	"Documentation/$DOCS"/*) echo "Documentation/vm/${1#"Documentation/$DOCS/"}" ;;
	*) echo "$1" ;;
	esac
}

# patch_names DIR: the series in DIR, in order. Its first line names the base.
patch_names()
{
	local line

	[ -f "$1/series" ] || die "$1/series is missing; its first line is 'base: $BASE $VERSION'"
	read -r line <"$1/series" || true
	[ "$line" = "base: $BASE $VERSION" ] ||
		die "the first line of $1/series must be 'base: $BASE $VERSION', as bases/$BASE says"
	sed -e 1d -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$1/series"
}

# patches_sum: of all that patches/BASE holds, the cover letter too. series/tree
# records it, and series/refresh tells by it whether something changed since.
patches_sum()
{
	cat "$PATCHES"/* | sha256sum
}

# patch_part PATCH subject|body|files|edits
patch_part()
{
	awk -v want="$2" '
		BEGIN { part = "head" }
		part == "head" && $0 == "" { part = "body"; next }
		part == "head" && want == "subject" && sub(/^Subject: /, "") { print }
		part == "body" && $0 == "---" { part = "files"; next }
		part == "files" && /^diff / { part = "edits" }
		part == "files" && want == "files" && sub(/^New-file: /, "") { print }
		part == want && want != "files" { print }' "$1"
}

# patch_message PATCH: what the commit says
patch_message()
{
	{
		patch_part "$1" subject
		echo
		patch_part "$1" body
	} | git stripspace
}

# check_patch PATCH: dies unless it has the form above
check_patch()
{
	local p=${1#"$TOP/"} line

	[ -f "$1" ] || die "$p is named in the series and missing"
	read -r line <"$1" || true
	[ "$line" = "SPDX-License-Identifier: GPL-2.0" ] ||
		die "$p must begin with 'SPDX-License-Identifier: GPL-2.0'"
	[ "$(patch_part "$1" subject | wc -l)" = 1 ] || die "$p needs one 'Subject:' line"
	grep -qx -e --- "$1" || die "$p has no line '---' after its message"
	! patch_part "$1" edits | grep '^new file mode ' >/dev/null ||
		die "$p adds a file in its diff; keep the file in this repository, with a 'New-file:' line"
}

# misfit LOG PATCH: from what git apply said, "file, hunk (function)"
misfit()
{
	local file line

	file=$(sed -n 's/^error: patch failed: \(.*\):\([0-9]*\)$/\1/p' "$1" | head -n 1)
	line=$(sed -n 's/^error: patch failed: \(.*\):\([0-9]*\)$/\2/p' "$1" | head -n 1)
	if [ -z "$file" ]; then
		sed -n 's/^error: //p' "$1" | head -n 1
		return
	fi
	awk -v file="$file" -v line="$line" '
		/^diff --git / { in_it = ($3 == "a/" file) }
		in_it && /^@@ / && $2 ~ "^-" line "(,|$)" {
			print file ", hunk " $0
			found = 1
			exit
		}
		END { if (!found) print file ", line " line }' "$2"
}

# offsets LOG: hunks that fit elsewhere than their numbers say, from apply -v
offsets()
{
	sed -n -e 's/^Checking patch \(.*\)\.\.\.$/\1/;t file' \
	       -e '/^Hunk #.*offset/{G;s/^Hunk #\([0-9]*\) succeeded at \([0-9]*\) (offset \(-*[0-9]*\) lines*)\.\n\(.*\)$/\4: hunk \1 fits at line \2, \3 lines off/p;}' \
	       -e b -e ':file' -e h "$1"
}
