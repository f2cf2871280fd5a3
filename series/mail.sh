# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2153
#
# From commits to mails that git am takes. Sourced after assemble.sh.

# user_identity DIR: sets $user_name and $user_email from git's configuration
user_identity()
{
	user_name=${GIT_AUTHOR_NAME:-$(git -C "$1" config user.name || true)}
	user_email=${GIT_AUTHOR_EMAIL:-$(git -C "$1" config user.email || true)}
	if [ -z "$user_name" ] || [ -z "$user_email" ]; then
		die "git does not know who you are; git config --global user.name 'Your Name', and user.email"
	fi
}

# scratch_repo DIR GIT: DIR becomes $TREE, an empty repository that sees the
# objects of the repository of folder GIT and never writes there
scratch_repo()
{
	local file

	git_fixed init -q --template= "$1"
	git -C "$2" rev-parse --path-format=absolute --git-path objects >"$1/.git/objects/info/alternates"
	file=$(git -C "$2" rev-parse --path-format=absolute --git-path shallow)
	[ ! -f "$file" ] || cp "$file" "$1/.git/shallow"
	TREE=$1
	# the kernel says how functions are found in its files
	mkdir -p "$1/.git/info"
	git -C "$2" show HEAD:.gitattributes >"$1/.git/info/attributes" 2>/dev/null || true
}

# render_mails LIST BASE DIR [COVER]: the commits of LIST ("<commit> <patch>")
# on top of commit BASE as mails from the user, with the cover letter COVER.
# Needs a scratch_repo.
render_mails()
{
	local head=$2 c description='' opts=() date

	while read -r c _; do
		head=$(tgit show -s --format=%B "$c" |
			GIT_AUTHOR_NAME=$user_name GIT_AUTHOR_EMAIL=$user_email \
			GIT_COMMITTER_NAME=$user_name GIT_COMMITTER_EMAIL=$user_email \
			git -C "$TREE" commit-tree -p "$head" "$(tgit rev-parse "$c^{tree}")")
	done <<<"$1"
	tgit update-ref refs/heads/series "$head"
	if [ -n "${4:-}" ]; then
		description=$(patch_message "$4")
		opts=(--cover-letter --cover-from-description=subject)
	fi
	tgit -c branch.series.description="$description" format-patch -q -n -o "$3" \
		--no-signature --abbrev=12 --zero-commit --no-renames "${opts[@]}" "$2..series"
	[ -n "${4:-}" ] || return 0
	# git dates a cover letter by the clock, which git_fixed() has stopped
	date=$(sed -n '/^Date: /{p;q}' "$3"/0001-*.patch)
	sed -i "0,/^Date: /s/^Date: .*/$date/" "$3/0000-cover-letter.patch"
}

# same_series LIST RANGE: do the commits of LIST ("<commit> <patch>") have the
# trees and messages of those in RANGE?
same_series()
{
	local theirs ours name bad=0

	while read -r theirs <&3 && read -r ours name; do
		if [ "$(tgit rev-parse "$theirs^{tree}")" != "$(tgit rev-parse "$ours^{tree}")" ]; then
			printf '%s: other content\n' "$name" >&2
			bad=1
		elif [ "$(tgit show -s --format=%s%n%n%b "$theirs" | git stripspace)" != \
		       "$(tgit show -s --format=%s%n%n%b "$ours" | git stripspace)" ]; then
			printf '%s: other message\n' "$name" >&2
			bad=1
		fi
	done 3< <(tgit rev-list --reverse "$2") < <(printf '%s\n' "$1")
	[ "$(tgit rev-list --count "$2")" = "$(printf '%s' "$1" | grep -c .)" ] || bad=1
	return $bad
}

# add_base_commit KDIR DIR: names the commit that KDIR is at in the cover letter in
# DIR, for who applies the series by machine. Only a commit that others have: it is at
# a tag, or in a branch of a remote. The series has to fit it.
add_base_commit()
{
	local commit index=$2/../index

	commit=$(git -C "$1" rev-parse -q --verify 'HEAD^{commit}' 2>/dev/null) ||
		die "KDIR=$1 is no git tree with a commit; name a kernel's"
	[ -n "$(git -C "$1" tag --points-at "$commit" | head -n 1)" ] ||
		[ -n "$(git -C "$1" branch -r --contains "$commit" | head -n 1)" ] ||
		die "KDIR=$1 is at a commit that nobody else has; check out a tag or a remote's branch"
	GIT_INDEX_FILE=$index git -C "$1" read-tree "$commit"
	cat "$2"/*[1-9]*.patch | GIT_INDEX_FILE=$index git -C "$1" apply --check --cached - ||
		die "the series does not fit $commit of $1; it is for $BASE, tested on $VERSION"
	rm -f "$index"
	printf '\nbase-commit: %s\n' "$commit" >>"$2/0000-cover-letter.patch"
}

# add_base_words REAL DIR: without such a commit the cover letter in DIR says which
# release the tree REAL has, and which was tested
add_base_words()
{
	local version

	version=$(cat "$1/.git/break-cow/version") || return
	if [ "$version" = "$VERSION" ]; then
		printf '\nBased on, and tested with, the release v%s.\n' "$VERSION"
	else
		printf '\nBased on the release v%s, tested with v%s.\n' "$version" "$VERSION"
	fi >>"$2/0000-cover-letter.patch"
}
