# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For tests/series*: counting what passed, in a folder $work of its own.

set -uo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
mkdir -p "$here/out"
work=$(mktemp -d "$here/out/test-series-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0

# Scripts under test find sources of their own.
unset KSRC TARBALL FORCE
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=$work/gitconfig
git config --file "$GIT_CONFIG_GLOBAL" user.name 'Ada Tester'
git config --file "$GIT_CONFIG_GLOBAL" user.email ada@example.org
# What users have, and what must not matter.
git config --file "$GIT_CONFIG_GLOBAL" diff.noprefix true
git config --file "$GIT_CONFIG_GLOBAL" core.autocrlf input
git config --file "$GIT_CONFIG_GLOBAL" am.threeWay true

# result STATUS NAME: 0 is good; what $work/log holds is shown otherwise
result()
{
	if [ "$1" = 0 ]; then
		passed=$((passed + 1))
		echo "ok - $2"
	else
		failed=$((failed + 1))
		echo "not ok - $2"
		sed 's/^/#   /' "$work/log" 2>/dev/null
	fi
}

# check NAME COMMAND...: the command succeeds
check()
{
	local name=$1

	shift
	"$@" >"$work/log" 2>&1
	result $? "$name"
}

# same NAME GOT WANT
same()
{
	printf 'got:  %s\nwant: %s\n' "$2" "$3" >"$work/log"
	[ "$2" = "$3" ]
	result $? "$1"
}

# refused NAME REGEX COMMAND...: it ends with 1 and says so
refused()
{
	local name=$1 regex=$2 status

	shift 2
	"$@" >"$work/log" 2>&1
	status=$?
	cp "$work/log" "$work/log.was"
	echo "(exit $status, wanted 1 and: $regex)" >>"$work/log"
	[ "$status" = 1 ] && grep -qE -- "$regex" "$work/log"
	result $? "$name"
}

finish()
{
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
	exit
}

# shellcheck source=SCRIPTDIR/series-fake.sh
. "$here/tests/series-fake.sh"
