# SPDX-License-Identifier: GPL-2.0
#
# From mutants.tsv the promises of break_cow that -v kernel=NAME broke, separated by
# semicolons: of each test that failed, what stands before the first ": ".
# Comes after columns.awk.

{
	for (c = 3; c <= n && name[c] != kernel; c++)
		;
	split($2, promise, ": ")
	if (c <= n && $1 == "break_cow" && caught($c) &&
	    $2 !~ /^\(/ && !seen[promise[1]]++)
		list = list (list == "" ? "" : ";") promise[1]
}

END { print list }
