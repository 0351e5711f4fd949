/* What libseccomp makes of a profile: the other side of the differential test.
 *
 * Lines on stdin:
 *   number TOKEN NAME                        -> the number of a system call, or a pseudo number below 0
 *   begin ACTION OPTIMIZE                    a new filter with a default action
 *   arch TOKEN
 *   rule ACTION NAME COUNT {ARG OP A B}...   OP as in enum scmp_compare
 *   end                                      -> "error TEXT", or the program: "LENGTH {CODE JT JF K}..."
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static scmp_filter_ctx filter;
static char failure[200];

static void fail(const char *what, const char *about, int error)
{
	if (!failure[0])
		snprintf(failure, sizeof failure, "%s %s: %s", what, about, strerror(-error));
}

static void rule(unsigned action, const char *name, unsigned count)
{
	struct scmp_arg_cmp conditions[6];
	int number = seccomp_syscall_resolve_name(name), ret;

	for (unsigned i = 0; i < count && i < 6; i++) {
		unsigned arg, op;
		unsigned long long a, b;

		if (scanf("%u %u %llu %llu", &arg, &op, &a, &b) != 4)
			return fail("rule", name, -EBADMSG);
		conditions[i] = (struct scmp_arg_cmp){ arg, op, a, b };
	}
	if (number == __NR_SCMP_ERROR)
		return;
	ret = seccomp_rule_add_array(filter, action, number, count, conditions);
	if (ret < 0)
		fail("rule", name, ret);
}

static void end(void)
{
	int fd = memfd_create("program", MFD_CLOEXEC), ret = seccomp_export_bpf(filter, fd);
	struct sock_filter one;

	if (ret < 0)
		fail("export", "", ret);
	if (failure[0]) {
		printf("error %s", failure);
	} else {
		printf("%ld", (long)lseek(fd, 0, SEEK_END) / (long)sizeof one);
		lseek(fd, 0, SEEK_SET);
		while (read(fd, &one, sizeof one) == sizeof one)
			printf(" %u %u %u %u", one.code, one.jt, one.jf, one.k);
	}
	printf("\n");
	fflush(stdout);
	close(fd);
	seccomp_release(filter);
	failure[0] = 0;
}

int main(void)
{
	char word[32], name[100];
	unsigned a, b;

	while (scanf("%31s", word) == 1) {
		if (!strcmp(word, "number") && scanf("%u %99s", &a, name) == 2) {
			printf("%d\n", seccomp_syscall_resolve_name_arch(a, name));
			fflush(stdout);
		} else if (!strcmp(word, "begin") && scanf("%u %u", &a, &b) == 2) {
			filter = seccomp_init(a);
			seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, b);
		} else if (!strcmp(word, "arch") && scanf("%u", &a) == 1) {
			int ret = seccomp_arch_add(filter, a);

			if (ret < 0 && ret != -EEXIST)
				fail("arch", "", ret);
		} else if (!strcmp(word, "rule") && scanf("%u %99s %u", &a, name, &b) == 3) {
			rule(a, name, b);
		} else if (!strcmp(word, "end")) {
			end();
		} else {
			return 1;
		}
	}
	return 0;
}
