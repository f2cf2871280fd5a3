# SPDX-License-Identifier: GPL-2.0
#
# One line a result from the TAP of a run, tab separated:
#	program	name	kind
# where kind is ok, or skip, xfail, FAIL, HUNG, ERROR, CRASH, or "not ok" for a
# failure that says no more. A program that left no "end" gets the line
#	program	(whole program)	CUT

function flush_open() {
	if (prog != "")
		print prog "\t(whole program)\tCUT"
	prog = ""
}

BEGIN { OFS = "\t" }

/^# begin / { flush_open(); prog = $3; next }
/^# end /   { prog = ""; next }

/^(not )?ok [0-9]+/ {
	kind = /^not/ ? "not ok" : "ok"
	sub(/^(not )?ok [0-9]+ ?(- )?/, "")
	name = $0
	i = index($0, " # ")
	if (i) {
		name = substr($0, 1, i - 1)
		word = substr($0, i + 3)
		sub(/[^A-Z].*/, "", word)
		if (word == "SKIP" || word == "XFAIL")
			kind = tolower(word)
		else if (kind == "not ok" && word ~ /^(FAIL|HUNG|ERROR|CRASH)$/)
			kind = word
	}
	print prog, name, kind
}

END { flush_open() }
