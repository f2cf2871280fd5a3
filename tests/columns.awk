# SPDX-License-Identifier: GPL-2.0
#
# The head of a table in results/: name[3] to name[n] are the kernels. What comes
# after this sees the rows alone.

BEGIN { FS = "\t" }

# Did a test catch the kernel whose result this is?
function caught(result)
{
	return result !~ /^(ok|skip|xfail|-)$/
}

# Did it do so in its own comparison? An expected failure has one, a hang has not.
function own(result)
{
	return result ~ /^(FAIL|xfail)$/
}

/^# program/ {
	for (c = 3; c <= NF; c++)
		name[c] = $c
	n = NF
}
/^#/ { next }
