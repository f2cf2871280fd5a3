# SPDX-License-Identifier: GPL-2.0
#
# Judges the TAP of a run. Files: skips, the list of commands, the TAP.
# Output, fields separated by tabs:
#	count	PROGRAM		figures
#	problem	PROGRAM		why the run failed
#	hung	PROGRAM		which test missed its deadline
#	stack	PROGRAM		a line of the stack dump

function problem(text) { printf "problem\t%s\t%s\n", prog, text }
function hung(text) { printf "hung\t%s\t%s\n", prog, text }

function allowed(name,    i) {
	for (i = 1; i <= nskips; i++)
		if (base ~ ("^(" skip_base[i] ")$") && name ~ ("^(" skip_name[i] ")$"))
			return 1
	return 0
}

# name of a result line: without number, dash, directive
function test_name(line) {
	sub(/^(not )?ok [0-9]+ */, "", line)
	sub(/^- /, "", line)
	sub(/ *# (SKIP|FAIL|XFAIL|HUNG|ERROR|CRASH|TODO).*/, "", line)
	return line
}

function open_frame(command) {
	frames++
	full = command
	prog = command
	sub(/ .*/, "", prog)
	plan = -1
	results = good = bad = skipped = xfail = stuck = 0
	open = 1
}

function close_frame(how, seconds) {
	open = 0
	if (how ~ /^deadline=/) {
		sub(/^deadline=/, "", how)
		hung("not done after " how " s" (last == "" ? "" : "; last result: " last))
		stuck++
	} else if (how ~ /^signal=/) {
		sub(/^signal=/, "", how)
		problem("killed by signal " how)
	} else {
		sub(/^exit=/, "", how)
		if (plan < 0)
			problem("no plan")
		else if (plan != results)
			problem("planned " plan " tests, got " results " results")
		if (results == 0)
			problem("no results")
		if (how == 0 && bad)
			problem("exit status 0 with " bad " tests not ok")
		else if (how != 0 && !bad && !(how == 4 && results && skipped == results))
			problem("exit status " how " with no test not ok")
	}
	printf "count\t%s\t%d ok, %d not ok, %d expected failures, %d skipped, %s s\n",
	       full, good, bad, xfail, skipped, seconds
}

BEGIN { open = 0; frames = 0 }
FILENAME == ARGV[1] {
	if ($0 !~ /^#/ && NF >= 2) {
		skip_base[++nskips] = $1
		skip_name[nskips] = $2
	}
	next
}
FILENAME == ARGV[2] { wanted[++nwanted] = $2; next }

/^# begin / {
	if (open)
		problem("no end")
	last = ""
	open_frame(substr($0, 9))
	if (full != wanted[frames])
		problem("ran in place of: " wanted[frames])
	next
}
/^# end / && open {
	n = split($0, w, " ")
	if (w[3] == prog && n == 5 && w[4] ~ /^(exit|signal|deadline)=[0-9]+$/) {
		sub(/^seconds=/, "", w[5])
		close_frame(w[4], w[5])
		next
	}
}
/^Bail out!/ {
	if (!open)
		prog = "init"
	problem($0)
	next
}
/^# \[RUN\] / { run_name = substr($0, 9); next }
/^# unkillable / { hung("SIGKILL does not end " substr($0, 14)); next }
/^# stack/ { printf "stack\t%s\t%s\n", prog, substr($0, 3); next }
!open { next }
/^1\.\.[0-9]+/ {
	if (plan >= 0)
		problem("two plans")
	plan = substr($1, 4) + 0
	next
}
/^(not )?ok [0-9]+/ {
	results++
	name = test_name($0)
	# kselftest.h puts the directive first, and cow.c the name before that
	if (name == "")
		name = run_name
	run_name = ""
	last = name
	number = $0
	sub(/^(not )?ok /, "", number)
	if (number + 0 != results)
		problem("result " results " has another number: " $0)
	if ($0 ~ /# SKIP/) {
		skipped++
		if (!allowed(name))
			problem("skip not in qemu/skips: " $0)
	} else if ($0 ~ /# XFAIL/) {
		xfail++
	} else if ($0 ~ /^not ok/) {
		bad++
		if ($0 ~ /# HUNG/)
			hung($0)
		else
			problem($0)
	} else {
		good++
	}
	next
}
# what looks like a result and is none must not pass unseen
/^(not ok|ok)( |$)/ { problem("no result line: " $0) }

END {
	if (open)
		problem("no end")
	for (frames++; frames <= nwanted; frames++) {
		prog = wanted[frames]
		sub(/ .*/, "", prog)
		problem("never ran")
	}
}
