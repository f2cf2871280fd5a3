# SPDX-License-Identifier: GPL-2.0
#
# From peer.tsv the short table: one line a program of the peer, one for all of
# the base's own. A program without TAP counts as one test, and so does the end
# of one that hung, died, or did not fulfil its plan. A clean console is no row. As
# Markdown.
# Comes after columns.awk.

{
	row = $1
	if (row ~ /^\/vm\//)
		row = "the base's own"
	sub(/^(in-folder )?\/peer\//, "", row)
	sub(/ -.*/, "", row)
	# the end of a program that had results of its own
	whole = $2 == "(whole program)"
	if ((whole && $1 == last || $1 == "console") && $3 == "ok" && $4 == "ok")
		next
	last = $1
	if (!(row in total))
		order[++rows] = row
	total[row]++
	for (c = 3; c <= n; c++)
		got[row, c, $c == "ok" || $c == "xfail" || $c == "skip" ? $c : "fail"]++
}

END {
	head = "| tests | of |"
	rule = "|---|---|"
	for (c = 3; c <= n; c++) {
		head = head " " name[c] ": pass | fail | xfail | skip |"
		rule = rule "---|---|---|---|"
	}
	print head "\n" rule
	for (r = 1; r <= rows; r++) {
		line = "| " order[r] " | " total[order[r]] " |"
		for (c = 3; c <= n; c++)
			line = line sprintf(" %d | %d | %d | %d |",
				got[order[r], c, "ok"], got[order[r], c, "fail"],
				got[order[r], c, "xfail"], got[order[r], c, "skip"])
		print line
	}
}
