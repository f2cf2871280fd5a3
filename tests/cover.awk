# SPDX-License-Identifier: GPL-2.0
#
# From mutants.tsv what "tests/mutants BASE again" runs, of -v mutants="NAME...": one line
# a mutant, with the promises (in the name of a test, what stands before the first ": ")
# for BREAK_COW_ONLY, separated by semicolons. That is the fewest, or nearly, that fail
# each test of break_cow which neither stock nor control fails: again and again the
# mutant that fails most of the tests that are left. One that is not in the table, or
# that nothing caught, comes without promises: all are run.
# Comes after columns.awk.

$1 != "break_cow" || $2 ~ /^\(/ { next }
{
	seen = 0
	for (c = 3; c <= n; c++) {
		known[name[c]] = known[name[c]] || caught($c)
		seen = seen || name[c] !~ /^mutant-/ && own($c)
	}
	if (seen)
		next
	split($2, part, ": ")
	promise[++rows] = part[1]
	for (c = 3; c <= n; c++)
		if (own($c))
			fails[name[c], rows] = 1
}

END {
	m = split(mutants, mutant, " ")
	do {
		most = 0
		for (i = 1; i <= m; i++) {
			count = 0
			for (r = 1; r <= rows; r++)
				count += !proven[r] && (mutant[i], r) in fails
			if (count > most) {
				most = count
				best = mutant[i]
			}
		}
		list = ""
		for (r = 1; r <= rows && most; r++) {
			if (proven[r] || !((best, r) in fails))
				continue
			proven[r] = 1
			if (!named[best, promise[r]]++)
				list = list (list == "" ? "" : ";") promise[r]
		}
		if (most)
			print best "\t" list
	} while (most)
	for (i = 1; i <= m; i++)
		if (!known[mutant[i]])
			print mutant[i] "\t"
}
