# SPDX-License-Identifier: GPL-2.0
#
# Joins the result files of several kernels: one line a test, one column a
# kernel, in the order in which the tests first appear. -v names="stock patched".
#
# With -v mutants=N the last N columns are mutants, and it is an error (exit
# status 1, told on stderr) if one of them passed every test, or if a test of
# -v program=NAME was failed by no kernel in its own comparison; those that the file
# -v elsewhere=FILE names, as in the first two columns, have failed on another base.

BEGIN {
	FS = OFS = "\t"
	n = split(names, name, " ")
	while (elsewhere && (getline line < elsewhere) > 0)
		other[line] = 1
}

FNR == 1 { col++ }
/^# verdict: / { split($0, w, " "); verdict[col] = w[3]; next }
/^#/ { next }

{
	key = $1 OFS $2
	if (!(key in seen)) {
		seen[key] = 1
		order[++rows] = key
		prog[rows] = $1
	}
	cell[key, col] = $3
	if ($3 !~ /^(ok|skip|xfail)$/)
		caught[col] = 1
	# an expected failure is one: that test says which kernels it fails on
	if ($3 ~ /^(FAIL|xfail)$/)
		failed[key] = 1
}

END {
	printf "# program\ttest"
	for (c = 1; c <= n; c++)
		printf "\t%s", name[c]
	printf "\n# verdict\t"
	for (c = 1; c <= n; c++)
		printf "\t%s", verdict[c]
	print ""
	for (r = 1; r <= rows; r++) {
		line = order[r]
		for (c = 1; c <= n; c++)
			line = line OFS ((order[r], c) in cell ? cell[order[r], c] : "-")
		print line
	}

	for (c = n - mutants + 1; c <= n; c++)
		if (!caught[c]) {
			print "nothing caught " name[c] > "/dev/stderr"
			bad = 1
		}
	for (r = 1; mutants && r <= rows; r++)
		# that the program was cut short is no test of its own
		if (prog[r] == program && !(order[r] in failed) &&
		    order[r] !~ /\(whole program\)$/) {
			if (order[r] in other) {
				borrowed++
				continue
			}
			gsub(OFS, ": ", order[r])
			print "never seen failing by its own comparison: " \
				order[r] > "/dev/stderr"
			bad = 1
		}
	if (borrowed)
		print borrowed " tests were seen failing on other bases only" > "/dev/stderr"
	exit bad
}
