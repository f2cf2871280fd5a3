# SPDX-License-Identifier: GPL-2.0
#
# The table of make bench, from the TAP of all runs, each after a line "# kernel NAME":
#
#	case way size measure  stock control patched  ratio spread  bound limit verdict
#
# separated by tabs. A kernel's value is the median of its runs. Ratio is patched
# against -v against=stock or control, the median of pairs of runs; spread is the
# least and the most of that, or what the runs in one boot have. Calls of fork() are
# 1 to 4 % apart from boot to boot of one and the same kernel, in steps of about 1100
# instructions, and there is noise in each boot: their value is the median of the least
# of each boot, and their ratio that of these. -v kernel=5.10, -v
# names="stock control patched": the third one is judged. Exits with 1 if a bound is
# missed. An instruction of the evictor takes -v ns=2.
#
# Pages a second have no bound: the evictor waits for a disk in them, which is as fast
# as the machine happens to be. Pages for the same number of instructions have one.

BEGIN {
	FS = OFS = "\t"
	split(names, name, " ")
	split(kernel, v, ".")
	unshare = v[1] > 5
	ref = against == "control" ? 2 : 1
}

/^# kernel / {
	sub(/^# kernel /, "")
	for (k = 3; k > 1 && name[k] != $0; k--)
		;
	next
}

function fork_call(key) { return key ~ /\tfork\t.*\tcall$/ }

function row(key) {
	if (!(key in known)) {
		known[key] = 1
		order[++rows] = key
	}
}

# case, way, size, measure, median, least, most
/^# bench\t.*\tbegun$/ {
	row($2 OFS $3 OFS $4 OFS "rate")
	row($2 OFS $3 OFS $4 OFS "cost")
	word[$2 OFS $3 OFS $4, k] = "hung"
	next
}
/^# bench\t/ {
	key = $2 OFS $3 OFS $4 OFS $5
	row(key)
	i = ++n[key, k]
	val[key, k, i] = $2 ~ /^evictor/ && $5 == "cost" ? $6 / ns : fork_call(key) ? $7 : $6
	least[key, k] = NF > 6 ? $7 : ""
	most[key, k] = $8
	next
}

# What hung or crashed has no figures, but a place in the table.
/^not ok .* # / {
	how = $0
	sub(/.* # /, "", how)
	sub(/ .*/, "", how)
	what = $0
	sub(/^not ok [0-9]+ /, "", what)
	sub(/ # .*/, "", what)
	if (split(what, w, /: |, /) == 3) {
		row(w[1] OFS w[3] OFS w[2] OFS "cost")
		word[w[1] OFS w[3] OFS w[2], k] = tolower(how)
	}
}

function median(key, k,    i, j, t, a, m) {
	m = n[key, k]
	for (i = 1; i <= m; i++)
		a[i] = val[key, k, i]
	for (i = 2; i <= m; i++)
		for (j = i; j > 1 && a[j - 1] > a[j]; j--) {
			t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
		}
	return m ? (a[int((m + 1) / 2)] + a[int(m / 2) + 1]) / 2 : ""
}

# Sets ratio and spread
function compare(key,    i, m, r) {
	ratio = spread = "-"
	m = n[key, 3] < n[key, ref] ? n[key, 3] : n[key, ref]
	for (i = 1; i <= m; i++) {
		if (!val[key, ref, i])
			return
		val["r", 0, i] = val[key, 3, i] / val[key, ref, i]
	}
	if (!m)
		return
	n["r", 0] = m
	r = fork_call(key) ? median(key, 3) / median(key, ref) : median("r", 0)
	ratio = sprintf("%.3f", r)
	lo = hi = r
	for (i = 1; i <= m; i++) {
		if (val["r", 0, i] < lo) lo = val["r", 0, i]
		if (val["r", 0, i] > hi) hi = val["r", 0, i]
	}
	if (m == 1 && least[key, 3] != "" && least[key, ref] > 0) {
		lo = least[key, 3] / most[key, ref]
		hi = most[key, 3] / least[key, ref]
	}
	spread = sprintf("%.3f..%.3f", lo, hi)
}

# The bounds: each sets bound (in words) and limit
function bounds(key, part, stock,    state, fast, store, take, again) {
	bound = ""
	state = part[1]
	again = sub(/, (again|loop)$/, "", state)
	fast = part[2] ~ / fast$/
	store = part[2] == "store"
	take = part[2] ~ /^(get|pin|vmsplice)/
	if (part[4] == "cost" && state == "writable" && fast) {
		bound = "(a) fast GUP: at most 4 instructions a page more"
		limit = stock + 4
	} else if (part[4] == "cost" && state == "writable" && take) {
		bound = "(a) slow GUP: at most 1.01 x"
		limit = 1.01 * stock
	} else if (part[4] == "cost" && store && state ~ /^(untouched|zero page|shared|file)$/) {
		bound = "(a) write fault: at most 1.01 x"
		limit = 1.01 * stock
	} else if (part[4] == "call" && part[2] == "fork") {
		bound = "(a) fork: at most 1.01 x"
		limit = 1.01 * stock
	} else if (state ~ /^(uffd-wp|mprotect|child exited)$/ && take) {
		if (part[4] == "copies" || part[4] == "splits") {
			bound = "(b) ours and protected: 0 " part[4]
			limit = 0
		} else if (part[4] == "faults") {
			limit = unshare && state == "child exited" && !again
			bound = "(b) ours and protected: " limit " faults"
		} else if (part[4] == "cost" && fast) {
			bound = "(b) ours and protected: fast GUP at most 1.2 x (a)"
			limit = 1.2 * median("writable" OFS part[2] OFS part[3] OFS "cost", 3)
		}
	} else if (state == "shared" && take && part[4] ~ /^(faults|copies)$/) {
		limit = again ? 0 : part[4] == "faults" ? 2 : 1
		bound = "(c) shared: at most " limit " " part[4] " a page" (again ? " later" : "")
	} else if (state ~ /^(untouched|file)$/ && take && part[4] == "new") {
		bound = "(d), (e) short reference: 0 pages allocated"
		limit = 0
	} else if (state ~ /^evictor, (64|256|1024)M/ && part[4] == "cost") {
		bound = "evictor, O_DIRECT: cost a page flat, at most 1.05 x that at 4 MiB"
		limit = 1.05 * at_4m
	} else if (state ~ /^evictor/ && part[2] == "direct" && part[4] == "cost") {
		bound = "evictor, O_DIRECT: at least 0.97 x pages for the same instructions"
		limit = stock / 0.97
	}
}

# A multiple of what was not measured is no limit.
function limit_known() { return limit > 0 || bound !~ / x/ }

END {
	print "# case", "way", "size", "measure", "stock", "control", "patched",
		"ratio", "spread", "bound", "limit", "verdict"
	for (r = 1; r <= rows; r++)
		if (order[r] ~ /^evictor, 4M.*\tcost$/)
			at_4m = median(order[r], 3)
	for (r = 1; r <= rows; r++) {
		key = order[r]
		split(key, part, OFS)
		line = key
		for (k = 1; k <= 3; k++) {
			x = median(key, k)
			if (x == "" && part[4] ~ /^(cost|rate)$/)
				x = word[part[1] OFS part[2] OFS part[3], k]
			if (x ~ /\./)
				x = sprintf(x < 10000 ? "%.1f" : "%.0f", x)
			line = line OFS (x == "" ? "-" : x)
		}
		compare(key)
		line = line OFS ratio OFS spread
		is = median(key, 3)
		bounds(key, part, median(key, ref))
		if (bound == "" || is == "" || !limit_known()) {
			# nothing happened where nothing was to, or had before
			if (line ~ /\t(0\t|-\t)(0\t|-\t)(0|-)\t[^\t]*\t[^\t]*$/ ||
			    key ~ /, again\t.*\t(call|first)$/)
				continue
			print line, "-", "-", "-"
			continue
		}
		# of pairs, the median of their ratios, not the ratio of medians
		if (n[key, 3] > 1 && ratio != "-")
			is = ratio * median(key, ref)
		ok = is <= limit + 1e-6
		if (!ok)
			missed = 1
		print line, bound, sprintf("%.8g", limit), ok ? "holds" : "missed"
	}
	exit missed
}
