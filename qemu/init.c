// SPDX-License-Identifier: GPL-2.0
/*
 * init of the test guest: sets the machine up, runs the commands listed in
 * /etc/break-cow/tests one after the other, each with a deadline, copies what
 * they print to a named virtio-serial port, and powers off.
 *
 * Two ports:
 *   org.break-cow.tap	  the programs' TAP, framed by "# begin"/"# end" lines
 *   org.break-cow.status "started" before anything else, "done N" after
 *			  everything else: whatever goes wrong in between, the
 *			  host can tell that the last word is missing
 *
 * A test is expected to hang with locks of its own address space held, so init
 * never reads a file in /proc that takes another task's mmap lock (cmdline,
 * maps, environ).
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define TESTS		"/etc/break-cow/tests"
#define HUGE_PAGES	"32"
#define REAP_MS		5000	/* for killed tasks to go away */
#define MAX_ARGS	64
#define MAX_THREADS	128	/* in one dump */
#define MAX_STUCK	64

static int tap_fd = -1, status_fd = -1, sigchld_fd = -1;
static pid_t stuck[MAX_STUCK];	/* survived SIGKILL; told about once */
static int nr_stuck;

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void put(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		buf += n;
		len -= n;
	}
}

__attribute__((format(printf, 2, 3)))
static void say(int fd, const char *fmt, ...)
{
	char buf[4096];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(buf))
		n = sizeof(buf) - 1;
	put(fd, buf, n);
}

/* First @size - 1 bytes of a file as a string, without the last newline. */
static int slurp(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	buf[0] = 0;
	if (fd < 0)
		return -errno;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	close(fd);
	if (len && buf[len - 1] == '\n')
		len--;
	buf[len] = 0;
	return 0;
}

static int spit(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* ------------------------------------------------------------- set-up */

static const struct {
	const char *source, *target, *type, *data;
} mounts[] = {
	{ "proc",	"/proc",		"proc",		NULL },
	{ "sysfs",	"/sys",			"sysfs",	NULL },
	{ "devtmpfs",	"/dev",			"devtmpfs",	NULL },
	{ "debugfs",	"/sys/kernel/debug",	"debugfs",	NULL },
	{ "tmpfs",	"/tmp",			"tmpfs",	"mode=1777" },
	{ "tmpfs",	"/dev/shm",		"tmpfs",	"mode=1777" },
	{ "hugetlbfs",	"/dev/hugepages",	"hugetlbfs",	NULL },
};

static void mount_all(void)
{
	size_t i;

	for (i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].target, 0755);
		if (mount(mounts[i].source, mounts[i].target, mounts[i].type, 0,
			  mounts[i].data) && errno != EBUSY)
			say(2, "init: mount %s: %s\n", mounts[i].target,
			    strerror(errno));
	}
}

/* The console of the kernel, once there is a /dev to open it in. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		return;
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
}

static int open_port(const char *want)
{
	const char *class = "/sys/class/virtio-ports";
	char path[512], name[128];
	struct dirent *de;
	int fd = -1;
	DIR *dir = opendir(class);

	if (!dir)
		return -1;
	while (fd < 0 && (de = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s/name", class, de->d_name);
		if (slurp(path, name, sizeof(name)) || strcmp(name, want))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", de->d_name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	closedir(dir);
	return fd;
}

/* The host's side of the ports may be announced after init has started. */
static void open_ports(void)
{
	long long end = now_ms() + 10000;

	do {
		if (status_fd < 0)
			status_fd = open_port("org.break-cow.status");
		if (tap_fd < 0)
			tap_fd = open_port("org.break-cow.tap");
		if (status_fd >= 0 && tap_fd >= 0)
			return;
		usleep(20000);
	} while (now_ms() < end);
}

/* A guest that lacks something must not end as a row of skipped tests. */
static void need(int err, const char *what)
{
	if (err)
		say(tap_fd, "Bail out! init: %s: %s\n", what, strerror(-err));
}

/* Partitions and disks are found asynchronously. */
void wait_for(const char *path)
{
	int i;

	for (i = 0; i < 250 && access(path, F_OK); i++)
		usleep(20000);
}

static void set_up_machine(void)
{
	char buf[64];

	wait_for("/dev/vdb");
	mkdir("/data", 0755);
	need(mount("/dev/vda", "/data", "ext4", 0, NULL) ? -errno : 0,
	     "mount /dev/vda on /data");
	need(swapon("/dev/vdb", 0) ? -errno : 0, "swapon /dev/vdb");

	need(set_up_dax(), "mount /dev/pmem0 on /dax, with DAX");

	/* a larger pool of the kernel's command line stays */
	slurp("/proc/sys/vm/nr_hugepages", buf, sizeof(buf));
	if (atoi(buf) < atoi(HUGE_PAGES))
		need(spit("/proc/sys/vm/nr_hugepages", HUGE_PAGES),
		     "nr_hugepages");
	slurp("/proc/sys/vm/nr_hugepages", buf, sizeof(buf));
	if (atoi(buf) < atoi(HUGE_PAGES))
		say(tap_fd, "Bail out! init: got %s of %s huge pages\n", buf,
		    HUGE_PAGES);

	/* not in every kernel */
	spit("/proc/sys/vm/unprivileged_userfaultfd", "1");
	spit("/proc/sys/kernel/hung_task_warnings", "-1");
	if (chdir("/data"))
		say(2, "init: chdir /data: %s\n", strerror(errno));
}

/* ----------------------------------------- tasks, and where they are stuck */

/*
 * ppid and state of a task from its stat file; its name may hold anything. A
 * process whose first thread has exited but not all the others is no zombie.
 */
static int task_stat(pid_t pid, char *state, pid_t *ppid)
{
	char path[64], buf[1024], *p;
	int threads = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (slurp(path, buf, sizeof(buf)))
		return -1;
	p = strrchr(buf, ')');
	if (!p || sscanf(p + 1, " %c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %d",
			 state, ppid, &threads) < 2)
		return -1;
	if (*state == 'Z' && threads > 1)
		*state = 'z';
	return 0;
}

static int is_stuck(pid_t pid)
{
	int i;

	for (i = 0; i < nr_stuck; i++)
		if (stuck[i] == pid)
			return 1;
	return 0;
}

/*
 * All processes of the test that runs: nothing else lives in this guest but
 * init, kernel threads (children of 2), and what survived an earlier test.
 */
static int test_tasks(pid_t *pids, int max)
{
	DIR *dir = opendir("/proc");
	struct dirent *de;
	int n = 0;

	if (!dir)
		return 0;
	while (n < max && (de = readdir(dir))) {
		pid_t pid = atoi(de->d_name), ppid;
		char state;

		if (pid <= 2 || is_stuck(pid) || task_stat(pid, &state, &ppid))
			continue;
		if (ppid != 2 && state != 'Z')
			pids[n++] = pid;
	}
	closedir(dir);
	return n;
}

static int dump_process(pid_t pid, int room)
{
	char path[128], comm[64], wchan[128], call[256], buf[8192], state;
	struct dirent *de;
	char *line, *save;
	pid_t ppid;
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return 0;
	while (n < room && (de = readdir(dir))) {
		int tid = atoi(de->d_name), err;

		if (tid <= 0)
			continue;
		if (task_stat(tid, &state, &ppid))
			state = '?';
		snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", pid, tid);
		slurp(path, comm, sizeof(comm));
		snprintf(path, sizeof(path), "/proc/%d/task/%d/wchan", pid, tid);
		slurp(path, wchan, sizeof(wchan));
		snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
		slurp(path, call, sizeof(call));
		say(tap_fd, "# stack pid %d tid %d %s state %c wchan %s syscall %s\n",
		    pid, tid, comm, state, wchan[0] ? wchan : "-",
		    call[0] ? call : "-");

		snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", pid, tid);
		err = slurp(path, buf, sizeof(buf));
		if (err)
			say(tap_fd, "# stack   cannot read %s: %s\n", path,
			    strerror(-err));
		for (line = strtok_r(buf, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			say(tap_fd, "# stack   %s\n", line);
		n++;
	}
	closedir(dir);
	return n;
}

static void dump_tasks(void)
{
	pid_t pids[MAX_THREADS];
	int i, n = test_tasks(pids, MAX_THREADS), room = MAX_THREADS;

	for (i = 0; i < n && room > 0; i++)
		room -= dump_process(pids[i], room);
	if (room <= 0)
		say(tap_fd, "# stack ... more threads than %d\n", MAX_THREADS);
}

/* ------------------------------------------------------------- programs */

struct lines {
	int fd;			/* read end; -1 after end of file */
	char buf[4096];
	size_t len;
};

/* Only whole lines go out, so nothing can be written into a half one. */
static void lines_flush(struct lines *l, int all)
{
	char *nl;

	while (l->len && (nl = memchr(l->buf, '\n', l->len))) {
		size_t n = nl - l->buf + 1;

		put(tap_fd, l->buf, n);
		l->len -= n;
		memmove(l->buf, nl + 1, l->len);
	}
	if (l->len && (all || l->len == sizeof(l->buf))) {
		put(tap_fd, l->buf, l->len);
		put(tap_fd, "\n", 1);
		l->len = 0;
	}
}

/* Returns 0 when there is nothing more to read now. */
static int lines_read(struct lines *l)
{
	ssize_t n;

	if (l->fd < 0)
		return 0;
	n = read(l->fd, l->buf + l->len, sizeof(l->buf) - l->len);
	if (n > 0) {
		l->len += n;
		lines_flush(l, 0);
		return 1;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(l->fd);
		l->fd = -1;
	}
	return 0;
}

__attribute__((noreturn))
static void start(char **argv, int argc, int out)
{
	char path[256];
	sigset_t none;
	int in;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	in = open("/dev/null", O_RDONLY);
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	close(in);

	if (!strncmp(argv[0], "selftest-", 9))
		exit(selftest(argc, argv));

	snprintf(path, sizeof(path), "%s%s", strchr(argv[0], '/') ? "" : "/bin/",
		 argv[0]);
	execv(path, argv);
	say(1, "Bail out! cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

/*
 * Kill whatever the test has left and wait for it, but not for ever: the very
 * subject here is tasks that do not die.
 */
static void reap_all(struct lines *l, pid_t main_pid, int *status, int *exited)
{
	long long end = now_ms() + REAP_MS;
	pid_t pids[MAX_STUCK], pid;
	int i, n, st;

	for (;;) {
		kill(-1, SIGKILL);
		while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
			if (pid == main_pid) {
				*status = st;
				*exited = 1;
			}
		}
		while (lines_read(l))
			;
		n = test_tasks(pids, MAX_STUCK);
		if (!n || now_ms() >= end)
			break;
		usleep(20000);
	}
	lines_flush(l, 1);
	for (i = 0; i < n; i++) {
		say(tap_fd, "# unkillable pid %d\n", pids[i]);
		dump_process(pids[i], MAX_THREADS);
		if (nr_stuck < MAX_STUCK)
			stuck[nr_stuck++] = pids[i];
	}
}

static void run(char *command, int seconds)
{
	struct lines l = { .len = 0 };
	struct signalfd_siginfo si;
	struct pollfd pfd[2];
	char copy[4096], *argv[MAX_ARGS + 1], *save, *p, how[64];
	long long begin = now_ms(), end = begin + seconds * 1000LL, left;
	int argc = 0, fds[2], status = 0, exited = 0, late = 0;
	pid_t pid;

	snprintf(copy, sizeof(copy), "%s", command);
	for (p = strtok_r(copy, " \t", &save); p && argc < MAX_ARGS;
	     p = strtok_r(NULL, " \t", &save))
		argv[argc++] = p;
	argv[argc] = NULL;
	if (!argc)
		return;

	say(tap_fd, "# begin %s\n", command);
	selftest_in_init(argv[0]);
	if (pipe2(fds, O_CLOEXEC)) {
		say(tap_fd, "Bail out! init: pipe: %s\n", strerror(errno));
		return;
	}
	pid = fork();
	if (!pid)
		start(argv, argc, fds[1]);
	close(fds[1]);
	l.fd = fds[0];
	fcntl(l.fd, F_SETFL, O_NONBLOCK);
	if (pid < 0) {
		say(tap_fd, "Bail out! init: fork: %s\n", strerror(errno));
		close(l.fd);
		return;
	}

	while (!exited) {
		pid_t p2;
		int st;

		while ((p2 = waitpid(-1, &st, WNOHANG)) > 0) {
			if (p2 == pid) {
				status = st;
				exited = 1;
			}
		}
		left = end - now_ms();
		if (exited)
			break;
		if (left <= 0) {
			late = 1;
			break;
		}
		pfd[0] = (struct pollfd){ .fd = sigchld_fd, .events = POLLIN };
		pfd[1] = (struct pollfd){ .fd = l.fd, .events = POLLIN };
		poll(pfd, 2, left < 1000 ? (int)left : 1000);
		if (pfd[0].revents)
			while (read(sigchld_fd, &si, sizeof(si)) > 0)
				;
		lines_read(&l);
	}
	left = now_ms() - begin;

	if (late) {
		while (lines_read(&l))
			;
		lines_flush(&l, 1);
		dump_tasks();
	}
	reap_all(&l, pid, &status, &exited);
	if (l.fd >= 0)
		close(l.fd);

	if (late)
		snprintf(how, sizeof(how), "deadline=%d", seconds);
	else if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "signal=%d", WTERMSIG(status));
	else
		snprintf(how, sizeof(how), "exit=%d", WEXITSTATUS(status));
	say(tap_fd, "# end %s %s seconds=%lld\n", argv[0], how,
	    (left + 500) / 1000);
}

int main(void)
{
	static char list[65536];
	char *line, *save;
	sigset_t chld;
	int n = 0, seconds;

	if (getpid() != 1) {
		say(2, "init: only for the test guest\n");
		return 1;
	}
	mount_all();
	open_console();
	open_ports();
	if (status_fd < 0 || tap_fd < 0) {
		/* the host will call this "no-boot" or "no-status" */
		say(2, "init: a virtio-serial port is missing\n");
		reboot(RB_POWER_OFF);
	}
	say(status_fd, "started\n");

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	sigchld_fd = signalfd(-1, &chld, SFD_NONBLOCK | SFD_CLOEXEC);

	setenv("PATH", "/bin", 1);
	setenv("HOME", "/", 1);
	setenv("TMPDIR", "/tmp", 1);

	/* Without a list this is the probe of an accelerator: boot, no more. */
	if (!slurp(TESTS, list, sizeof(list)) && list[0]) {
		set_up_machine();
		for (line = strtok_r(list, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save)) {
			char *tab = strchr(line, '\t');

			seconds = atoi(line);
			if (!tab || seconds <= 0) {
				say(tap_fd, "Bail out! init: bad line in the list: %s\n",
				    line);
				continue;
			}
			run(tab + 1, seconds);
			n++;
		}
	}

	sync();
	say(status_fd, "done %d\n", n);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
