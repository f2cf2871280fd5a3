# SPDX-License-Identifier: GPL-2.0
#
# Two plots of make bench, from what tests/bench-plot.awk wrote here.
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set grid ytics
set logscale y
set xtics rotate by -35 nomirror font ",10"
set key top left horizontal
set datafile separator "\t"

# Some bases have no control, and a column without a value is an error.
any(file) = system("awk -F '\\t' '$3 != \"NaN\"' ".file." | wc -l") + 0
bars(file) = "plot '".file."' using 2:xtic(1) title 'stock' lc rgb '#999999'".\
	(any(file) ? ", '' using 3 title 'control' lc rgb '#cc6655'" : "").\
	", '' using 4 title 'patched' lc rgb '#4477aa'"

set terminal svg size 900,760 noenhanced background "white" font "sans,12"
set output "bench-gup.svg"
set ylabel "instructions a page of 4K"
set bmargin 5
set multiplot layout 2,1 title base.": a read-only GUP of memory that is ..., the first time. No bar: it hung"
set title "get_user_pages_fast()"
eval bars("fast.dat")
set title "get_user_pages()"
eval bars("slow.dat")
unset multiplot

set terminal svg size 900,520 noenhanced background "white" font "sans,12"
set output "bench-evictor.svg"
set title base.": umap evictor; default: O_DIRECT, 16M, pages of 4K, pool 1/8, 2 evictors. No bar: it hung"
set ylabel "pages for 10^9 instructions"
set bmargin 7
set rmargin 8
eval bars("evictor.dat")
