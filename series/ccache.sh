# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What compiles a kernel: CC, for kbuild, with ccache if it is there. Sourced, after
# lib.sh.

export CC=gcc
if command -v ccache >/dev/null; then
	CC='ccache gcc'
	export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$TOP CCACHE_NOHASHDIR=1
	# what a source includes as gcc says: preprocessed by itself it costs a fifth
	export CCACHE_DEPEND=1
	export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-3G}
fi
