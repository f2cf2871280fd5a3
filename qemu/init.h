/* SPDX-License-Identifier: GPL-2.0 */
/* What init.c and its provocations in selftest.c share. */
#ifndef BREAK_COW_INIT_H
#define BREAK_COW_INIT_H

/* Programs "selftest-NAME": run in a forked child in place of execve(). */
int selftest(int argc, char **argv);

/* Commands that init itself acts on; returns if @name is none of them. */
void selftest_in_init(const char *name);

/*
 * A file system with DAX at /dax, on the memory that memmap= has set aside: 0 or
 * -errno. An initramfs without its image does not want it.
 */
int set_up_dax(void);

/* Wait for a device to appear, 5 seconds at most. */
void wait_for(const char *path);

#endif
