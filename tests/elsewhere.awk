# SPDX-License-Identifier: GPL-2.0
#
# From the mutants.tsv of all bases the tests, as in the first two columns, that a base
# need not see failing itself, for they failed on another. With -v again=1 those are
# none that failed on it by its own -v table=FILE.
# Comes after columns.awk.

{
	for (c = 3; c <= NF; c++)
		if (own($c)) {
			failed[(FILENAME == table), $1 FS $2]
			test[$1 FS $2]
			next
		}
}

END {
	for (t in test)
		if (!((1, t) in failed) || !again && (0, t) in failed)
			print t
}
