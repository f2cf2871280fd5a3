# SPDX-License-Identifier: GPL-2.0
#
# Sums up soak.tsv, a line a kernel and mode. Fails if a run did not pass, if there
# are too few operations, if a kind of operation is less than a hundredth of all
# on the patched kernel, or if a store that had to trap did not.

BEGIN {
	FS = "\t"
	least["normal"] = 1000000
	least["debug"] = 100000
	least["faults"] = 20000
}

/^# kernel/ {
	for (i = 1; i <= NF; i++) {
		name[i] = $i
		column[$i] = i
	}
	n = NF
	next
}
/^#/ { next }

{
	part = $2 ~ /faults/ ? "faults" : $1 ~ /-debug$/ ? "debug" : "normal"
	runs[part]++
	if ($5 != "passed") {
		print "not passed: " $1 " " $2 ", seed " $3 ": " $5
		bad = 1
	}
	if ($column["stores-that-had-to-trap"] != $column["stores-that-trapped"]) {
		print "traps missing: " $1 " " $2 ", seed " $3
		bad = 1
	}
	for (i = 7; i <= n; i++)
		sum[part, i] += $i
}

END {
	split(want, parts, " ")
	for (p = 1; p in parts; p++) {
		part = parts[p]
		ops = sum[part, column["operations"]] + 0
		printf "%s: %d operations in %d runs, %d references looked through, ",
			part, ops, runs[part],
			sum[part, column["references-looked-through"]]
		printf "%d of %d stores trapped, %d operations failed\n",
			sum[part, column["stores-that-trapped"]],
			sum[part, column["stores-that-had-to-trap"]],
			sum[part, column["operations-that-failed"]]
		if (ops < least[part]) {
			print "  too few, want " least[part]
			bad = 1
		}
		for (i = 7; i < column["operations"]; i++)
			if (part == "normal" && sum[part, i] * 100 < ops) {
				printf "  only %d of %s\n", sum[part, i], name[i]
				bad = 1
			}
	}
	exit bad
}
