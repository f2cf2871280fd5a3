# SPDX-License-Identifier: GPL-2.0
#
# Judges the results of tests/peer.list (lines of tap.awk with whole=1) on two
# kernels. -v base=BASE -v names="stock patched"; files: skips, list, results of
# the first, of the second. Prints one line a result,
#	program	test	first	second
# and on stderr all that must not be; exit status 1 then:
#	a result worse on the second, one that is on one kernel only,
#	a program without results, a skip that the list of skips does not name,
#	a name in that list that nothing skips.
# The nth result of a program is the same test on both kernels: a name may tell
# of a failure, and then differs.

function bad(text) {
	print text > "/dev/stderr"
	failed = 1
}

# what a name may add of its own accord: "(feature missing)", and what it counted
function stem(name) {
	sub(/ \([^()]*\)$/, "", name)
	gsub(/[0-9]+/, "N", name)
	return name
}

function rank(kind) {
	if (kind == "ok" || kind == "xfail")
		return kind == "ok" ? 4 : 3
	return kind ~ /^(not ok|FAIL|ERROR)$/ ? 2 : 1
}

# A skip is neither better nor worse: what ran before must run still.
function worse(was, is) {
	if (is == was || is == "ok")
		return 0
	return is == "skip" || was == "skip" || rank(is) < rank(was)
}

function listed(program, name,    i) {
	for (i = 1; i <= skips; i++)
		if (program ~ ("^(" skip_program[i] ")$") &&
		    name ~ ("^(" skip_name[i] ")$"))
			return used[i] = 1
	return 0
}

BEGIN { FS = OFS = "\t"; split(names, name_of, " ") }

FNR == 1 { file++ }
/^#/ || !NF { next }

file <= 2 && base !~ ("^(" $1 ")$") { next }
file == 1 {
	if (NF != 4)
		bad("skips: not base, program, name, reason: " $0)
	skip_program[++skips] = $2
	skip_name[skips] = $3
	next
}
file == 2 { wanted[$3] = 1; order[++programs] = $3; next }

{
	col = file - 2
	if (!($1 in wanted)) {
		wanted[$1] = 1
		order[++programs] = $1
	}
	i = ++count[$1, col]
	test[$1, i, col] = $2
	kind[$1, i, col] = $3
	if ($3 == "skip" && !listed($1, $2))
		bad(name_of[col] ": skip not listed: " $1 ": " $2)
}

END {
	for (p = 1; p <= programs; p++) {
		prog = order[p]
		a = count[prog, 1] + 0
		b = count[prog, 2] + 0
		if (!a || !b)
			bad("no results: " prog)
		else if (a != b)
			bad(sprintf("%s: %d results on %s, %d on %s", prog, a,
				    name_of[1], b, name_of[2]))
		for (i = 1; i <= (a > b ? a : b); i++) {
			was = i > a ? "-" : kind[prog, i, 1]
			is = i > b ? "-" : kind[prog, i, 2]
			first = test[prog, i, 1]
			second = test[prog, i, 2]
			name = second != "" && (is == "ok" || was != "ok") ? \
				second : first
			if (was == "ok" && is == "ok" && stem(first) != stem(second))
				bad(prog ": result " i " is \"" first "\" and \"" \
				    second "\"")
			else if (was != "-" && is != "-" && worse(was, is))
				bad("worse: " prog ": " name ": was " was ", now " is)
			print prog, name, was, is
		}
	}
	for (i = 1; i <= skips; i++)
		if (!used[i])
			bad("skips: nothing skips " skip_program[i] ": " skip_name[i])
	exit failed
}
