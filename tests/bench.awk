# SPDX-License-Identifier: GPL-2.0
#
# From bench.tsv the short table: one line a bound, with the case that comes nearest
# to it or misses it by most; and the plots. As Markdown. Comes after columns.awk.

{
	if ($10 == "-")
		next
	b = $10
	if (!(b in total))
		order[++rows] = b
	total[b]++
	if ($12 == "holds")
		holds[b]++
	near = $11 > 0 ? $7 / $11 : 1 + $7
	if (!(b in worst) || near > worst[b]) {
		worst[b] = near
		line[b] = sprintf("%s: %s, %s | %s | %s | %s | %s", $1, $2, $3, $5, $6, $7,
				  $8)
	}
}

END {
	print "| bound | holds | nearest: case | stock | control | patched | ratio |"
	print "|---|---|---|---|---|---|---|"
	for (r = 1; r <= rows; r++) {
		b = order[r]
		printf "| %s | %d of %d | %s |\n", b, holds[b], total[b], line[b]
	}
	base = FILENAME
	sub(/\/bench.tsv$/, "", base)
	sub(/.*\//, "", base)
	printf "\n![instructions of a GUP](results/%s/bench-gup.svg)\n", base
	printf "![pages of the evictor for 10^9 instructions](results/%s/bench-evictor.svg)\n", base
}
