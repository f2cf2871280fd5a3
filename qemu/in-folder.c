// SPDX-License-Identifier: GPL-2.0
/*
 * in-folder PROGRAM [ARGUMENT]...: starts a program in the folder that it lies in,
 * as the kernel's selftests expect.
 */
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char folder[256];

	if (argc < 2 || strlen(argv[1]) >= sizeof(folder)) {
		printf("Bail out! usage: in-folder PROGRAM [ARGUMENT]...\n");
		return 2;
	}
	strcpy(folder, argv[1]);
	if (!chdir(dirname(folder)))
		execv(argv[1], argv + 1);
	printf("Bail out! cannot start %s\n", argv[1]);
	return 127;
}
