#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the guest: each stressor of Debian's stress-ng that tests/stress-ng
# names, for SECONDS, as one result of a TAP. The kernel's console is judged
# outside.
#
# stress-ng.sh SECONDS STRESSOR...

PATH=/bin:/usr/bin
seconds=$1
shift
ksm=/sys/kernel/mm/ksm
bb() { busybox "$@"; }

# What is most shared while a stressor runs, as far as one look a second sees
merged()
{
	while bb kill -0 "$1" 2>/dev/null; do
		now=$(bb cat $ksm/pages_sharing)
		[ "$now" -le "$most" ] || most=$now
		bb sleep 1
	done
}

echo "TAP version 13"
echo "1..$#"
n=0 bad=0
for s; do
	n=$((n + 1)) most=0 why=
	set -- "--$s" 2
	# this version has no stressor of that name
	[ "$s" != ksm ] || set -- --vm 2 --vm-bytes 64M --vm-madvise mergeable \
		--vm-method zero-one
	[ "$s" = ksm ] && echo 1 >$ksm/run && echo 0 >$ksm/sleep_millisecs
	stress-ng "$@" --timeout "$seconds" --verify --metrics-brief \
		--temp-path /data >/data/log 2>&1 &
	pid=$!
	[ "$s" != ksm ] || merged $pid
	wait $pid || why="exit status $?"
	[ "$s" = ksm ] && echo 0 >$ksm/run && [ "$most" = 0 ] && why="nothing merged"
	if [ -z "$why" ]; then
		echo "ok $n $s"
	else
		echo "not ok $n $s # FAIL $why"
		bad=1
	fi
	[ "$s" != ksm ] || echo "# at most $most pages sharing"
	bb sed 's/^/# /' /data/log
done
exit $bad
