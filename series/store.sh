# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154
#
# From commits to stored patches. Sourced by series/refresh, which sets $tmp,
# $old, $base and $state.

# store_name COMMIT: the file the patch is kept in. A patch keeps its name when
# its subject or its change is that of a patch we had; else the subject names it.
store_name()
{
	local subject name id c n

	subject=$(tgit show -s --format=%s "$1")
	while read -r c n; do
		if [ "$(tgit show -s --format=%s "$c")" = "$subject" ]; then
			echo "$n"
			return
		fi
	done <"$state/names"
	id=$(patch_id "$1")
	while read -r c n; do
		if [ "$(patch_id "$c")" = "$id" ]; then
			echo "$n"
			return
		fi
	done <"$state/names"
	name=$(tgit show -s --format=%f "$1" | tr '[:upper:]' '[:lower:]' | cut -c1-52)
	echo "${name%-}.patch"
}

patch_id()
{
	tgit diff-tree -p "$1^" "$1" | git patch-id --stable | cut -d' ' -f1
}

# store_file COMMIT BLOB MODE PATH: a new file, PATH as in this repository
store_file()
{
	mkdir -p "$(dirname "$tmp/new/$4")"
	tgit cat-file blob "$2" >"$tmp/new/$4"
	[ "$3" != 100755 ] || chmod +x "$tmp/new/$4"
	echo "$4 $1 $2" >>"$tmp/files"
	echo "New-file: $4" >>"$tmp/entered"
}

# store_maintainers COMMIT: our section comes back out of the kernel's file.
# Fails when the change is not an addition; then it is an ordinary edit.
store_maintainers()
{
	local f=$tmp/new/MAINTAINERS line

	[ "$(tgit diff-tree --numstat -r "$1^" "$1" -- MAINTAINERS | cut -f2)" = 0 ] || return 1
	sed '/^[^#]/,$d' "$TOP/MAINTAINERS" >"$f" 2>/dev/null || :
	tgit diff-tree -p -U0 "$1^" "$1" -- MAINTAINERS | sed -n 's/^+\([^+]\)/\1/p;s/^+$//p' |
	sed -e '/./,$!d' | sed -e :a -e '/^\n*$/{$d;N;ba;}' |
	while IFS= read -r line; do
		case $line in
		[FX]:*) printf '%s:\t%s\n' "${line%%:*}" "$(repo_path "${line#*:	}")" ;;
		*) printf '%s\n' "$line" ;;
		esac
	done >>"$f"
	tgit show "$1^:MAINTAINERS" >"$tmp/theirs"
	maintainers_ours "$f" >"$tmp/ours"
	maintainers_insert "$tmp/theirs" "$tmp/ours" >"$tmp/both"
	tgit show "$1:MAINTAINERS" | cmp -s - "$tmp/both" ||
		die "$(tgit show -s --format=%s "$1"): the section in MAINTAINERS is not at its alphabetical place; series/tree would put it elsewhere"
	echo "MAINTAINERS $1 $(git hash-object --no-filters "$f")" >>"$tmp/files"
	echo "New-file: MAINTAINERS" >>"$tmp/entered"
}

# store_commit COMMIT: writes $tmp/patches/NAME and what enters with it
store_commit()
{
	local c=$1 name subject mode blob status path r edits=()

	subject=$(tgit show -s --format=%s "$c")
	name=$(store_name "$c")
	[ ! -e "$tmp/patches/$name" ] ||
		die "two commits would be stored as $name ('$subject'); give one another subject"
	# git am cuts a message at such lines, or takes them for mail headers
	if tgit show -s --format=%b "$c" | grep -qE '^(---|diff -|Index: )' ||
	   tgit show -s --format=%b "$c" | head -n 1 | grep -qE '^(From|Date|Subject): '; then
		die "'$subject': git am would take a line of the message for the patch or for a mail header; indent it"
	fi
	case $subject in
	''|fixup!*|squash!*|amend!*|'['*) die "'$subject' is no subject for a patch; rebase -i --autosquash, or reword it" ;;
	esac

	: >"$tmp/entered"
	while read -r _ mode _ blob status path; do
		r=$(repo_path "$path")
		[ "$mode" != 120000 ] || die "'$subject' adds or changes a symbolic link, $path; a series of ours holds files only"
		if [ "$status" = A ]; then
			store_file "$c" "$blob" "$mode" "$r"
		elif cut -d' ' -f1 "$tmp/files" | grep -Fxq "$r"; then
			die "'$subject' changes $path, which an earlier commit adds; a new file enters whole: squash them"
		elif [ "$path" != MAINTAINERS ] || ! store_maintainers "$c"; then
			edits+=("$path")
		fi
	done < <(tgit diff-tree -r --no-renames "$c^" "$c")
	{
		printf 'SPDX-License-Identifier: GPL-2.0\nSubject: %s\n\n' "$subject"
		tgit show -s --format=%b "$c" | git stripspace
		echo ---
		cat "$tmp/entered"
		if [ ${#edits[@]} -gt 0 ]; then
			echo
			tgit -c core.quotePath=true diff-tree -p --no-renames --abbrev=12 \
				--no-color --no-ext-diff "$c^" "$c" -- "${edits[@]}"
		fi
	} >"$tmp/patches/$name"
	echo "$name" >>"$tmp/patches/series"
	echo "$c $name" >>"$tmp/names"
}

# series_blob PATH: what the tree was put together from
series_blob()
{
	if [ "$1" = MAINTAINERS ]; then
		# it does not lie there whole: what git has here will do
		git -C "$TOP" rev-parse -q --verify HEAD:MAINTAINERS || true
	else
		tgit rev-parse -q --verify "$old:$(kernel_path "$1")" || true
	fi
}

# other_bases PATH: " (also in v6.12)", or nothing
other_bases()
{
	local list

	list=$(cd "$TOP/patches" && grep -lxF "New-file: $1" -- */*.patch 2>/dev/null |
		cut -d/ -f1 | sort -u | grep -vxF "$BASE" | paste -sd' ') || true
	[ -z "$list" ] || printf ' (also in %s)' "$list"
}
