/*
 * order-trace FILE COMMAND... - run COMMAND, and the processes it makes until they execute another program, with a
 * breakpoint at each of the addresses (hexadecimal, one in a line) that it reads from its standard input. Writes the
 * addresses to FILE in the order in which they are reached; returns COMMAND's exit status.
 */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BREAKPOINT = 0xcc };

static unsigned long *functions, start, length;
static size_t count;
static unsigned char *code, *broken;

static void fail(const char *what)
{
	perror(what);
	exit(125);
}

static void read_functions(void)
{
	unsigned long at, end = 0;

	start = -1UL;
	while (scanf("%lx", &at) == 1) {
		functions = realloc(functions, (count + 1) * sizeof *functions);
		if (!functions)
			fail("realloc");
		functions[count++] = at;
		start = at < start ? at : start;
		end = at > end ? at : end;
	}
	if (!count) {
		fprintf(stderr, "no addresses\n");
		exit(125);
	}
	length = end - start + 1;
}

/* The whole of the code is read and written, or one byte of it, whatever its pages' protection. */
static void memory(pid_t pid, int write, void *bytes, size_t size, unsigned long at)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int file = open(path, O_RDWR | O_CLOEXEC);
	if (file < 0)
		fail(path);
	ssize_t done = write ? pwrite(file, bytes, size, (off_t)at) : pread(file, bytes, size, (off_t)at);
	if (done != (ssize_t)size)
		fail(path);
	close(file);
}

/* Sets all breakpoints, in a program that was just executed; those met before are met again. */
static void set_breakpoints(pid_t pid)
{
	if (!code) {
		code = malloc(length);
		broken = malloc(length);
		if (!code || !broken)
			fail("malloc");
		memory(pid, 0, code, length, start);
		memory(pid, 0, broken, length, start);
		for (size_t index = 0; index < count; index++)
			broken[functions[index] - start] = BREAKPOINT;
	}
	memory(pid, 1, broken, length, start);
}

static pid_t begin(char **command)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		fail("fork");
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execv(command[0], command);
		fail(command[0]);
	}
	long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
		       PTRACE_O_EXITKILL;
	if (waitpid(pid, &status, 0) != pid || ptrace(PTRACE_SETOPTIONS, pid, 0, options))
		fail("ptrace");
	ptrace(PTRACE_CONT, pid, 0, 0);
	return pid;
}

/* Whether PID stopped at a breakpoint, which then is none for it any more. */
static int reached(pid_t pid, FILE *output)
{
	const size_t counter = offsetof(struct user_regs_struct, rip);
	unsigned long at = (unsigned long)ptrace(PTRACE_PEEKUSER, pid, counter, 0) - 1;

	if (at - start >= length || broken[at - start] != BREAKPOINT || code[at - start] == BREAKPOINT)
		return 0;
	fprintf(output, "%016lx\n", at);
	memory(pid, 1, &code[at - start], 1, at);
	return !ptrace(PTRACE_POKEUSER, pid, counter, at);
}

int main(int arguments_count, char **arguments)
{
	if (arguments_count < 3) {
		fprintf(stderr, "usage: order-trace FILE COMMAND...\n");
		return 125;
	}
	read_functions();
	FILE *output = fopen(arguments[1], "we");
	if (!output)
		fail(arguments[1]);
	pid_t first = begin(arguments + 2), pid;
	int status, result = 125;

	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (pid != first)
				continue;
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 125;
			break;
		}
		int signal = WSTOPSIG(status), event = status >> 16;
		if (event == PTRACE_EVENT_EXEC && pid != first) {
			ptrace(PTRACE_DETACH, pid, 0, 0);
			continue;
		}
		/* The command executes its own binary once more, from a place where it cannot be written. */
		if (event == PTRACE_EVENT_EXEC)
			set_breakpoints(pid);
		/* A new process begins with a SIGSTOP that nobody sent. */
		if (event || (signal == SIGSTOP && pid != first) || (signal == SIGTRAP && reached(pid, output)))
			signal = 0;
		ptrace(PTRACE_CONT, pid, 0, signal);
	}
	if (fclose(output))
		fail(arguments[1]);
	return result;
}
