# SPDX-License-Identifier: GPL-2.0
#
# One line a result from the TAP of a run, tab separated:
#	program	name	kind
# where kind is ok, or skip, xfail, FAIL, HUNG, ERROR, CRASH, or "not ok" for a
# failure that says no more. A program that left no "end" gets the line
#	program	(whole program)	CUT
# kselftest.h puts the directive in front of the name; that is read as well.
#
# With -v whole=1 the program is the whole command, and each that ended gets
# such a line too: ok, HUNG, CRASH (by a signal), SHORT (fewer or more results
# than planned); and of a program without a plan what its exit status says. Names
# are then made whole by "# [RUN] NAME", where a test says so.

function flush_open() {
	if (prog != "")
		print prog, "(whole program)", "CUT"
	prog = ""
}

function close_whole(how,    by) {
	by = how == "exit=0" ? "ok" : how == "exit=4" ? "skip" : "not ok"
	if (how ~ /^deadline/)
		by = "HUNG"
	else if (how ~ /^signal/)
		by = "CRASH"
	else if (plan >= 0 && plan == n)
		by = "ok"
	else if (plan >= 0 && !(by == "skip" && skips == n))
		by = "SHORT"
	print prog, "(whole program)", by
}

BEGIN { OFS = "\t" }

/^# begin / {
	flush_open()
	prog = whole ? substr($0, 9) : $3
	plan = -1
	n = skips = 0
	label = ""
	next
}
/^# end /   {
	if (whole && prog != "")
		close_whole($4)
	prog = ""
	next
}
/^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; next }

/^# \[RUN\] / { label = substr($0, 9); next }

/^(not )?ok [0-9]+/ {
	n++
	kind = /^not/ ? "not ok" : "ok"
	sub(/^(not )?ok [0-9]+ ?(- )?/, "")
	# a newline forgotten, seen in ksm_functional_tests
	next_label = ""
	if (i = index($0, "# [RUN] ")) {
		next_label = substr($0, i + 8)
		$0 = substr($0, 1, i - 1)
	}
	name = $0
	i = index(" " $0, " # ")
	if (i) {
		word = rest = substr($0, i + 2)
		sub(/[^A-Za-z].*/, "", word)
		name = substr($0, 1, i - 2)
		if (i == 1) {
			name = substr(rest, length(word) + 2)
			word = toupper(word)
		}
		if (word == "SKIP" || word == "XFAIL")
			kind = tolower(word)
		else if (kind == "not ok" && word ~ /^(FAIL|HUNG|ERROR|CRASH)$/)
			kind = word
	}
	skips += kind == "skip"
	if (whole && label != "" && index(name, label) != 1)
		name = label ": " name
	label = next_label
	print prog, name, kind
}

END { flush_open() }
