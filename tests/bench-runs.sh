# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For tests/bench: runs of qemu/run, several at once. Wants $dir, where what they say is
# kept, and ${image[KERNEL]}.
# shellcheck disable=SC2154

"$TOP/qemu/initramfs" "$BASE" >/dev/null	# once, not by two runs at once
# A guest has one CPU, and takes 1.4 GiB.
at_once=$(awk -v cpus="$(nproc)" '$1 == "MemAvailable:" {
	n = int($2 / 1024 / 1400)
	print n < 1 ? 1 : n < cpus ? n : cpus
}' /proc/meminfo)
pids=()		# the runs that go on, by age
declare -A job	# KERNEL NAME of each
# shellcheck disable=SC2317
stop()
{
	[ ${#pids[@]} -eq 0 ] || { kill "${pids[@]}" && wait; } 2>/dev/null || true
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

# finish: waits for the oldest run, and keeps what it said.
finish()
{
	local pid=${pids[0]} k name run

	read -r k name <<<"${job[$pid]}"
	# That a kernel hangs, or cannot do something, is a result.
	wait "$pid" || true
	pids=("${pids[@]:1}")
	run=$(printf '%s\n' "$OUT/runs/"*-"$pid" | tail -n 1)
	[ "$run" -nt "$dir/$k.$name.begin" ] || die "$k was not run; see $dir/$k.$name.log"
	note "$BASE $k, $name: $(cat "$run/verdict")"
	[[ $(cat "$run/verdict") != *no-[bs]* ]] || die "no result; see $run"
	{ echo "# kernel $k"; cat "$run/tap"; } >"$dir/$k.$name"
}

# take KERNEL NAME SHIFT COMMAND...: starts a run of these, once there are less than
# $at_once; with $params for their environment.
params=
take()
{
	local k=$1 name=$2 shift=$3 params=$params

	shift 3
	while [ ${#pids[@]} -ge "$at_once" ]; do
		finish
	done
	# A hang of an hour teaches no more than one of three seconds.
	[ "$k" != "$CONTROL_KERNEL" ] || params+=" BREAK_COW_DEADLINE=3"
	touch "$dir/$k.$name.begin"
	"$TOP/qemu/run" -k "$shift" -d 1536 -f "$params" -n "bench-$k" -b "$BASE" -t 1500 \
		"${image[$k]}" "$@" >"$dir/$k.$name.log" 2>&1 &
	pids+=($!)
	job[$!]="$k $name"
}
take_done()
{
	while [ ${#pids[@]} -gt 0 ]; do
		finish
	done
}
