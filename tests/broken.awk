# SPDX-License-Identifier: GPL-2.0
#
# From mutants.tsv the promises of break_cow that -v kernel=NAME broke, separated by
# semicolons: of each test that failed, what stands before the first ": ". One where
# tests hung and none failed takes a deadline for each, and is no proof of a test's
# own comparison: it is named only if there is nothing else.
# Comes after columns.awk.

{
	for (c = 3; c <= n && name[c] != kernel; c++)
		;
	split($2, promise, ": ")
	if (c > n || $1 != "break_cow" || !caught($c) || $2 ~ /^\(/)
		next
	if ($c == "HUNG")
		hung = hung == "" ? promise[1] : hung
	else if (!seen[promise[1]]++)
		list = list (list == "" ? "" : ";") promise[1]
}

END { print list == "" ? hung : list }
