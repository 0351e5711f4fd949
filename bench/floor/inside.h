/* What the container's first process does: mounts, devices, paths that are hidden, privileges. */
#pragma once
#include "plan.h"

static void loopback_up(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  MUST(ioctl(fd, SIOCSIFFLAGS, &request));
  close(fd);
}

static void bind_read_only(const char *path, int must) {
  int tree = syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
  if (tree < 0 && !must && errno == ENOENT) return;
  MUST(tree);
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
  MUST(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
  MUST(syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH));
  close(tree);
}

static void mount_cgroups_v1(void) {
  MUST(mount("tmpfs", "sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755"));
  for (int i = 0; i < plan.groups; i++) {
    char target[128];
    snprintf(target, sizeof target, "sys/fs/cgroup/%s", plan.hierarchy[i]);
    MUST(mkdir(target, 0755));
    int tree = syscall(SYS_open_tree, AT_FDCWD, plan.directory[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    MUST(tree);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
    MUST(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
    MUST(syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH));
    close(tree);
  }
  MUST(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
}

static void mount_all(void) {
  const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  MUST(mount("proc", "proc", "proc", plain, NULL));
  MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
  MUST(mkdir("dev/pts", 0755));
  MUST(mkdir("dev/mqueue", 01777));
  MUST(mkdir("dev/shm", 01777));
  MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
  MUST(mount("sysfs", "sys", "sysfs", plain | MS_RDONLY, NULL));
  mark("mounts-fs");
  if (plan.unified)
    MUST(mount("cgroup2", "sys/fs/cgroup", "cgroup2", plain | MS_RDONLY, NULL));
  else
    mount_cgroups_v1();
  mark("mounts-cgroup");
  MUST(mount("mqueue", "dev/mqueue", "mqueue", plain, NULL));
  MUST(mount("shm", "dev/shm", "tmpfs", plain, "mode=1777,size=65536k"));
  static const char *const files[] = {"resolv.conf", "hostname", "hosts"};
  char source[4096], target[64];
  for (size_t i = 0; i < LENGTH(files); i++) {
    snprintf(source, sizeof source, "%s/%s", plan.bundle, files[i]);
    snprintf(target, sizeof target, "etc/%s", files[i]);
    MUST(mount(source, target, NULL, MS_BIND | MS_REC, NULL));
  }
  for (int i = 0; i < plan.binds; i++) {
    snprintf(source, sizeof source, "%s/hosts", plan.bundle);
    snprintf(target, sizeof target, "mnt/b%d", i);
    MUST(mount(source, target, NULL, MS_BIND | MS_REC, NULL));
  }
  mark("mounts-other");
}

static void make_devices(void) {
  static const struct { const char *path; int major, minor; } nodes[] = {
      {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/tty", 5, 0}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};
  static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},     {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
                                         {"/proc/self/fd/2", "dev/stderr"}, {"/proc/kcore", "dev/core"},      {"pts/ptmx", "dev/ptmx"}};
  for (size_t i = 0; i < LENGTH(nodes); i++) MUST(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
  for (size_t i = 0; i < LENGTH(links); i++) MUST(symlink(links[i][0], links[i][1]));
  mark("devices");
}

static void hide_paths(void) {
  static const char *const masked[] = {"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                                       "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"};
  static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  for (size_t i = 0; i < LENGTH(read_only); i++) bind_read_only(read_only[i], 0);
  for (size_t i = 0; i < LENGTH(masked); i++)
    if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) < 0) {
      if (errno == ENOENT) continue;
      MUST(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL));
    }
  mark("hide");
}

static const int KEPT[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD, CAP_NET_RAW, CAP_SETGID, CAP_SETUID,
                           CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_KILL, CAP_AUDIT_WRITE};

static void drop_privileges(void) {
  uint64_t kept = 0;
  for (size_t i = 0; i < LENGTH(KEPT); i++) kept |= 1ull << KEPT[i];
  for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
    if (!(kept >> cap & 1)) MUST(prctl(PR_CAPBSET_DROP, cap));
  MUST(syscall(SYS_setgroups, 0, NULL));
  MUST(syscall(SYS_setresgid, 0, 0, 0));
  MUST(syscall(SYS_setresuid, 0, 0, 0));
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {kept >> 32, kept >> 32, 0}};
  MUST(syscall(SYS_capset, &header, data));
  mark("caps");
}

static char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "HOSTNAME=bench", NULL};

/* The life of the container's first process; `gate` is a listening socket for create, or -1 for run. */
static void inside(int gate, int ready) {
  mark("clone");
  if (!plan.unified)
    for (int i = 0; i < plan.groups; i++) MUST(write(plan.tasks[i], "0", 1));
  mark("cgroup-join");
  MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor"));
  loopback_up();
  mark("loopback");
  MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
  MUST(mount(plan.rootfs, plan.rootfs, NULL, MS_BIND | MS_REC, NULL));
  MUST(chdir(plan.rootfs));
  umask(0);
  mark("rootfs-bind");
  mount_all();
  make_devices();
  umask(022);
  MUST(syscall(SYS_pivot_root, ".", "."));
  MUST(umount2(".", MNT_DETACH));
  MUST(chdir("/"));
  mark("pivot");
  hide_paths();
  MUST(sethostname("bench", 5));
  MUST(setsid());
  if (plan.filter.len) MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &plan.filter));
  mark("seccomp");
  drop_privileges();
  if (gate >= 0) {
    MUST(write(ready, "1", 1));
    close(ready);
    int peer = accept4(gate, NULL, NULL, SOCK_CLOEXEC);
    MUST(peer);
    close(gate);
  }
  MUST(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC));
  print_marks("child");
  execve(plan.args[0], plan.args, environment);
  die("execve", HERE);
}
