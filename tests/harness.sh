# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by tests/harness and tests/harness-kernel: results, and guests that
# are expected to end in a certain way.

passed=0 failed=0

# result TEXT EXPECTED GOT
result()
{
	if [ "$2" = "$3" ]; then
		passed=$((passed + 1))
		printf 'ok %s: %s\n' "$1" "$3"
	else
		failed=$((failed + 1))
		printf 'not ok %s: expected %s, got %s\n' "$1" "$2" "$3"
	fi
}

# yes TEXT COMMAND...: the command succeeds
yes()
{
	local text=$1

	shift
	if "$@" >/dev/null 2>&1; then
		result "$text" yes yes
	else
		result "$text" yes no
	fi
}

# guest WORD CODE ARGS OF QEMU/RUN...: sets $run; exit status, last line of
# stdout and the file must all tell the same
guest()
{
	local want="$1 $2" rc=0 last said name

	shift 2
	"$TOP/qemu/run" -b "$BASE" "$@" >"$tmp/out" 2>"$tmp/err" || rc=$?
	run=$(readlink -f "$OUT/runs/latest")
	last=$(tail -n 1 "$tmp/out")
	said=$(sed -n 's/^verdict: \(.*\) (code \([0-9]*\))$/\1 \2/p' <<<"$last")
	name="guest \"$2\""
	result "$name" "$want" "${said:-nothing}"
	[ -n "$said" ] || tail -n 3 "$tmp/err"
	[ "$rc" = "${want#* }" ] || result "$name, exit status" "${want#* }" "$rc"
	[ "$last" = "$(cat "$run/verdict")" ] ||
		result "$name, file verdict" "$last" "$(cat "$run/verdict")"
}

# judge RUNDIR [OPTIONS OF QEMU/VERDICT]: prints the word, or the exit status
judge()
{
	local dir=$1 rc=0

	shift
	"$TOP/qemu/verdict" "$@" "$dir" >"$tmp/judged" 2>&1 || rc=$?
	sed -n 's/^verdict: \(.*\) (code .*/\1/p' "$tmp/judged" | tail -n 1 | grep . ||
		echo "exit $rc"
}

# alone RUNDIR PROGRAM REASON [WORD]: what is said of one program of a run
alone()
{
	d=$tmp/one-$2
	mkdir "$d"
	cp "$1/base" "$1/console" "$1/ended" "$d"
	printf 'started\ndone 1\n' >"$d/status"
	printf '20\t%s\n' "$2" >"$d/tests"
	sed -n "/^# begin $2\$/,/^# end $2 /p" "$1/tap" >"$d/tap"
	word=$(judge "$d")
	[ "$3" = - ] || grep -qE -e "$3" "$tmp/judged" || word="$word, not for: $3"
	result "$2 alone" "${4:-failed}" "$word"
}

# interrupted SIGNAL: a run ended by it; the verdict is failure, and (not for KILL) QEMU is gone
interrupted()
{
	local pid qemu i

	env --default-signal=INT "$TOP/qemu/run" -b "$BASE" -n "killed-$1" "$image" \
		30:selftest-asleep >"$tmp/out" 2>&1 &
	pid=$!
	run=
	for ((i = 0; i < 100; i++)); do
		run=$(find "$OUT/runs" -maxdepth 1 -name "*-killed-$1-$pid")
		[ -z "$run" ] || ! grep -qs started "$run/status" || break
		sleep 0.1
	done
	qemu=$(cat "$run/pid")
	kill -s "$1" "$pid"
	wait "$pid" 2>/dev/null || true
	result "a run ended by SIG$1" "verdict: no-status (code 7)" "$(cat "$run/verdict")"
	if [ "$1" = KILL ]; then
		kill -9 "$qemu"
	else
		yes "its QEMU is gone" sh -c "! kill -0 $qemu"
		yes "its disks are gone" test ! -e "$run/data.img"
	fi
}

finish()
{
	printf '%d passed, %d failed\n' "$passed" "$failed"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
