# SPDX-License-Identifier: GPL-2.0
#
# From compare.tsv the short table: one line a group of tests (what stands before
# the colon of their names), one column a kernel. As Markdown.
# Comes after columns.awk.

{
	group = $2
	if (!sub(/:.*/, "", group))
		group = "all"
	group = $1 ", " group
	if (!(group in total))
		order[++rows] = group
	total[group]++
	for (c = 3; c <= n; c++)
		if ($c == "ok")
			ok[group, c]++
		else if ($c == "HUNG")
			hung[group, c]++
}

END {
	head = "| tests |"
	rule = "|---|"
	for (c = 3; c <= n; c++) {
		head = head " " name[c] " |"
		rule = rule "---|"
	}
	print head "\n" rule
	for (r = 1; r <= rows; r++) {
		g = order[r]
		line = "| " g " |"
		for (c = 3; c <= n; c++) {
			line = line sprintf(" %d/%d", ok[g, c], total[g])
			if (hung[g, c])
				line = line sprintf(" (%d hung)", hung[g, c])
			line = line " |"
		}
		print line
	}
}
