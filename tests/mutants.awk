# SPDX-License-Identifier: GPL-2.0
#
# From mutants.tsv the short table: one line a kernel, how many tests it failed,
# in which way, and the first one. As Markdown.
# Comes after columns.awk.

{
	for (c = 3; c <= n; c++) {
		if ($c == "-")
			continue
		run[c]++
		if (!caught($c))
			continue
		bad[c]++
		if ($c == "FAIL")
			fail[c]++
		else if ($c == "HUNG")
			hung[c]++
		if (!(c in first))
			first[c] = $2
	}
}

END {
	print "| kernel | tests | caught by | of these hung | first |"
	print "|---|---|---|---|---|"
	for (c = 3; c <= n; c++)
		printf "| %s | %d | %d | %d | %s |\n", name[c], run[c], bad[c],
			hung[c], c in first ? first[c] : "-"
}
