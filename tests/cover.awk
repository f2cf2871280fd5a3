# SPDX-License-Identifier: GPL-2.0
#
# From mutants.tsv what "tests/mutants BASE again" runs beside stock, of
# -v kernels="NAME...", which are control and the mutants: one line a kernel, with the
# promises (in the name of a test, what stands before the first ": ") for BREAK_COW_ONLY,
# separated by semicolons. Those are the fewest kernels, or nearly, that fail each test
# of break_cow which stock does not fail: again and again the one that fails most of the
# tests that are left. One that is not in the table, or that nothing caught, comes
# without promises: all are run.
# Comes after columns.awk.

$1 != "break_cow" || $2 ~ /^\(/ { next }
{
	seen = 0
	for (c = 3; c <= n; c++) {
		known[name[c]] = known[name[c]] || caught($c)
		seen = seen || name[c] == "stock" && own($c)
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
	m = split(kernels, kernel, " ")
	do {
		most = 0
		for (i = 1; i <= m; i++) {
			count = 0
			for (r = 1; r <= rows; r++)
				count += !proven[r] && (kernel[i], r) in fails
			if (count > most) {
				most = count
				best = kernel[i]
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
		if (!known[kernel[i]])
			print kernel[i] "\t"
}
