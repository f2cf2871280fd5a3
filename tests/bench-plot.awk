# SPDX-License-Identifier: GPL-2.0
#
# From bench.tsv what tests/bench.gp plots, in -v dir=: a label and three values a line.

BEGIN { FS = "\t" }
/^#/ { next }

function value(x) { return x ~ /^[0-9.e+-]+$/ && x + 0 > 0 ? x : "NaN" }
function put(file, label) {
	printf "\"%s\"\t%s\t%s\t%s\n", label, value($5), value($6), value($7) > (dir "/" file)
}
function pages(x) { return x > 0 ? 1e9 / x : x }

$4 == "cost" && $3 == "4K" && ($2 == "get fast" || $2 == "get") && $1 !~ /again/ {
	put($2 == "get" ? "slow.dat" : "fast.dat", $1)
}
$1 ~ /^evictor/ && $4 == "cost" {
	for (i = 5; i <= 7; i++)
		$i = pages($i)
	split($1, p, ", ")
	plain = p[2] == "16M" && p[4] == "2 evictors"
	if (plain && $2 == "direct" && p[3] == "pool 1/8" && $3 == "4K")
		put("evictor.dat", "default")
	else if ($2 != "direct")
		put("evictor.dat", $2)
	else if ($3 != "4K")
		put("evictor.dat", "pages of " $3)
	else if (p[4] != "2 evictors")
		put("evictor.dat", p[4])
	else if (plain)
		put("evictor.dat", p[3])
	else
		put("evictor.dat", "region of " p[2])
}
