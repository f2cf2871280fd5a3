# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Whom a series is sent to. Sourced by series/render for bases that say so.

# people TREE MAIL: whom the get_maintainer.pl of TREE names for MAIL, a line each:
# "to" for who looks after a file and "cc" for who reads along and for lists, a tab,
# the address. By files and keywords, not by who committed what.
people()
{
	local out

	out=$(cd "$1" && scripts/get_maintainer.pl --no-git --no-git-fallback \
		--no-fixes --roles --no-rolestats "$2") || return
	awk '{
		address = $1
		if (i = index($0, ">"))
			address = substr($0, 1, i)
		role = substr($0, length(address) + 2)
		print (role ~ /^\((maintainer|supporter|odd fixer)/ ? "to" : "cc") "\t" address
	}' <<<"$out"
}

# once: of lines as people() prints them the first of each address and of each name,
# and "to" before "cc"
once()
{
	sort -r -s -t "$(printf '\t')" -k 1,1 | awk -F '\t' '
		NF > 1 {
			n = split(tolower($2), part, /[<>]/)
			mail = n > 1 ? part[2] : part[1]
			name = n > 1 ? part[1] : mail
			gsub(/[" ]/, "", name)
			if (!(mail in seen) && !(name in seen))
				print
			seen[mail] = seen[name] = 1
		}'
}

# header NAME: addresses on standard input become one folded header field of a mail
header()
{
	perl -MEncode -e '
		my @a;
		while (<STDIN>) {
			chomp;
			next if !length;
			$_ = decode("UTF-8", $_);
			# get_maintainer.pl leaves the name as it is in MAINTAINERS
			s/^"?(.*?)"? </encode("MIME-Q", $1) . " <"/e if /[^ -~]/;
			push @a, $_;
		}
		print "$ARGV[0]: ", join(",\n ", @a), "\n" if @a;' "$1"
}

# add_people TREE DIR: puts who looks after a file into To of its mail in DIR, who
# reads along and the lists into Cc, and everybody into the cover letter.
add_people()
{
	local mail who all=''

	[ -x "$1/scripts/get_maintainer.pl" ] ||
		die "$1 has no scripts/get_maintainer.pl to say who gets this"
	# the cover letter, 0000, comes last
	while read -r mail; do
		if [[ $mail = */0000-* ]]; then
			who=$(sort -u <<<"$all")
		else
			who=$(people "$1" "$mail") || die "$1/scripts/get_maintainer.pl fails; see above"
			all+=$who$'\n'
		fi
		who=$(once <<<"$who")
		PEOPLE=$(sed -n 's/^to.//p' <<<"$who" | header To &&
			sed -n 's/^cc.//p' <<<"$who" | header Cc) awk '
			!done && /^$/ { print ENVIRON["PEOPLE"]; done = 1 }
			{ print }' "$mail" >"$mail.new" || return
		mv "$mail.new" "$mail"
	done < <(printf '%s\n' "$2"/*.patch | sort -r)
}
