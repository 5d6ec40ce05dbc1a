"""Runs one program confined. The harness gives this text to `python3 -c` in an empty folder, with a request as JSON on stdin.

On stdout: "ready" once the confinement stands and was tried, then the request's nonce once the program's check has returned.
On stderr: why it failed. `sandbox.rs` describes what is confined and what is not.
"""

import ctypes
import json
import os
import platform
import random
import resource
import signal
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ARM = platform.machine() == "aarch64"
SYS_PIVOT_ROOT, SYS_CAPSET = (41, 91) if ARM else (155, 126)
SYS_MOUNT_SETATTR, SYS_LANDLOCK = 442, 444

# Denied system calls, as numbers of (x86-64, AArch64); None: not there.
DENIED = {
    # Network. Socket pairs are left.
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "bind": (49, 200), "listen": (50, 201), "accept4": (288, 242),
    # Other processes, threads and programs.
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "clone3": (435, 435), "execve": (59, 221), "execveat": (322, 281),
    "setsid": (112, 157), "setpgid": (109, 154), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "kcmp": (312, 272), "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # What would go round this list.
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "unshare": (272, 97), "setns": (308, 268),
    # Mounts.
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_tree_attr": (467, 467), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    # Attributes of files, which Landlock does not cover.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None),
    "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463), "removexattrat": (466, 466),
    "file_setattr": (469, 469), "fanotify_init": (300, 262),
    # Memory that the limit of address space does not count.
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180),
    # The kernel.
    "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "userfaultfd": (323, 282), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89),
    "syslog": (103, 116),
}
KILL, TGKILL = ((129, 131) if ARM else (62, 234))
IOCTL, PRLIMIT, PRCTL = ((29, 261, 167) if ARM else (16, 302, 157))
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
ALLOW, KILL_PROCESS, EPERM, ENOTTY = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 25


def must(result, what):
    """The result of a call of C, or an error with its name."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(what, *values):
    must(libc.prctl(what, *[ctypes.c_ulong(v) for v in (*values, 0, 0, 0, 0)[:4]]), f"prctl({what})")


def mount(source, target, kind, flags, options=None):
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    must(libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def needed():
    """Files and folders that the interpreter reads, without links, none inside another; and the links that lead there."""
    named = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__), *filter(None, sys.path)}
    named |= {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime"}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        fields = [line.rstrip("\n").split(None, 5) for line in maps]
    named |= {os.path.dirname(f[5]) for f in fields if len(f) == 6 and f[5].startswith("/") and ".so" in f[5]}
    named = {os.path.abspath(path) for path in named if os.path.exists(path)}
    kept = []
    for path in sorted({os.path.realpath(path) for path in named} - {"/"}):
        if not any(path.startswith(above + "/") for above in kept):
            kept.append(path)
    links = {path: os.path.realpath(path) for path in named if os.path.realpath(path) != path}
    return kept, links


def inside(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def unshare(user, group):
    """New namespaces of users, mounts, processes, network, System V IPC and host names."""
    must(libc.unshare(0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {user} 1"), ("gid_map", f"1000 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def new_root(disk):
    """A root of what the interpreter reads, read-only, an empty folder in memory, and no more."""
    root = os.getcwd()
    kept, links = needed()
    mount("none", "/", None, 0x4000 | 0x40000)
    mount("tmpfs", root, "tmpfs", 2 | 4, "size=1m,nr_inodes=4k,mode=755")
    devices = ["/dev/null", "/dev/zero", "/dev/urandom"]
    for path in kept + devices:
        target = root + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    # Links first: a link inside what is bound would be written outside.
    for path, real in sorted(links.items()):
        above = os.path.realpath(root + os.path.dirname(path))
        if not inside(path, kept) and inside(above, [root]) and not os.path.lexists(root + path):
            os.makedirs(root + os.path.dirname(path), exist_ok=True)
            os.symlink(real, root + path)
    os.makedirs(root + "/work")
    for path in kept + devices:
        mount(path, root + path, None, 0x1000 | 0x4000)
    os.chdir(root)
    must(libc.syscall(SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    must(libc.umount2(b".", 2), "umount")
    os.chdir("/")
    readonly = ctypes.create_string_buffer(struct.pack("QQQQ", 1 | 2, 0, 0, 0))
    must(libc.syscall(SYS_MOUNT_SETATTR, -100, b"/", 0x8000, readonly, 32), "mount_setattr")
    mount("tmpfs", "/work", "tmpfs", 2 | 4, f"size={disk},nr_inodes=1k,mode=755")
    os.chdir("/work")


def landlock():
    """Reads what the interpreter reads, writes the folder it is in, and no more."""
    version = must(libc.syscall(SYS_LANDLOCK, None, ctypes.c_size_t(0), 1), "landlock")
    if version < 3:
        raise OSError(38, f"Landlock is of version {version}, at least 3 is needed")
    every = (1 << (16 if version >= 5 else 15)) - 1
    fields = [every] + [3] * (version >= 4) + [3] * (version >= 6)
    attribute = struct.pack(f"{len(fields)}Q", *fields)
    ruleset = must(libc.syscall(SYS_LANDLOCK, attribute, ctypes.c_size_t(len(attribute)), 0), "landlock_create_ruleset")

    def allow(path, access):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", access, place)
        must(libc.syscall(SYS_LANDLOCK + 1, ruleset, 1, rule, 0), f"landlock_add_rule {path}")
        os.close(place)

    for path in needed()[0]:
        allow(path, 1 << 2 | (1 << 3 if os.path.isdir(path) else 0))
    allow("/dev/null", 1 << 1 | 1 << 2)
    allow("/dev/zero", 1 << 2)
    allow("/dev/urandom", 1 << 2)
    # Not: execute, devices, sockets, renaming between folders, ioctl on devices.
    allow(".", every & ~(1 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 13 | 1 << 15))
    must(libc.syscall(SYS_LANDLOCK + 2, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def drop_capabilities():
    for capability in range(64):
        if libc.prctl(24, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break
    must(libc.syscall(SYS_CAPSET, struct.pack("Ii", 0x20080522, 0), bytes(24)), "capset")


def seccomp():
    """Denies the system calls above; signals to others, limits of others, and most of ioctl."""
    code = []

    def add(operation, value, yes=0, no=0):
        code.append(struct.pack("HBBI", operation, yes, no, value))

    def only(number, offset, values, otherwise, found=ALLOW):
        add(0x15, number, 0, len(values) * 2 + 2)
        add(0x20, offset)
        for value in values:
            add(0x15, value, 0, 1)
            add(0x06, found)
        add(0x06, otherwise)

    add(0x20, 4)
    add(0x15, 0xC00000B7 if ARM else 0xC000003E, 1, 0)
    add(0x06, KILL_PROCESS)
    add(0x20, 0)
    if not ARM:
        # The x32 numbers.
        add(0x35, 0x40000000, 0, 1)
        add(0x06, EPERM)
    for numbers in DENIED.values():
        if numbers[ARM] is not None:
            add(0x15, numbers[ARM], 0, 1)
            add(0x06, EPERM)
    own = os.getpid()
    only(KILL, 16, [own], EPERM)
    only(TGKILL, 16, [own], EPERM)
    only(PRLIMIT, 16, [0], EPERM)
    only(IOCTL, 24, IOCTLS, ENOTTY)
    # PR_SET_PDEATHSIG.
    only(PRCTL, 16, [1], ALLOW, found=EPERM)
    add(0x06, ALLOW)
    text = ctypes.create_string_buffer(b"".join(code))
    program = struct.pack("HP", len(code), ctypes.addressof(text))
    must(libc.prctl(22, ctypes.c_ulong(2), program, 0, 0), "seccomp")


def try_it():
    """Tries what must not be possible."""
    if libc.socket(2, 1, 0) >= 0 or libc.socket(1, 1, 0) >= 0:
        raise OSError("sockets can be made")
    for path in ("/tritmark-probe", "/tmp/tritmark-probe", os.path.join(sys.prefix, "tritmark-probe"), "/dev/shm/tritmark-probe"):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        except OSError:
            continue
        raise OSError(f"{path} can be written")
    if libc.fork() >= 0:
        os._exit(125)


def limit(request):
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, request["open_files"]),
        (resource.RLIMIT_FSIZE, request["disk_bytes"]),
        (resource.RLIMIT_AS, request["memory_bytes"]),
    ):
        resource.setrlimit(what, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"] + 1))


def hide(request):
    """Moves stdout, stderr and a pipe that holds the nonce to numbers that the program is not told; all else is closed."""
    end, begin = os.pipe()
    os.write(begin, request["nonce"].encode())
    above = max(16, request["open_files"] // 2)
    numbers = random.SystemRandom().sample(range(above, request["open_files"]), 3)
    for descriptor, number in zip((1, 2, end), numbers):
        os.dup2(descriptor, number, inheritable=False)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    for descriptor in set(map(int, os.listdir("/proc/self/fd"))) - {0, 1, 2, *numbers}:
        try:
            os.close(descriptor)
        except OSError:
            pass
    return numbers


def run(source, out, err, end, write=os.write, read=os.read, leave=os._exit, kind=type):
    """The program in a namespace of its own, as lm-evaluation-harness runs it; the nonce is out only if it returns."""
    try:
        exec(compile(source, "<program>", "exec"), {})
    except BaseException as error:
        try:
            text = f"{kind(error).__name__}: {error}" if str(error) else kind(error).__name__
        except BaseException:
            text = "an error without a text"
        write(err, text[:500].encode("utf-8", "replace"))
        leave(1)
    write(out, read(end, 64))
    leave(0)


def program(request):
    """Confines this process and runs the program; does not return."""
    prctl(1, signal.SIGKILL)
    out, err, end = hide(request)
    try:
        if request["confinement"] == "namespaces":
            new_root(request["disk_bytes"])
        prctl(38, 1)
        if request["confinement"] == "landlock":
            landlock()
        drop_capabilities()
        prctl(1, signal.SIGKILL)
        limit(request)
        seccomp()
        try_it()
    except BaseException as error:
        os.write(err, str(error).encode())
        os._exit(125)
    source = request["source"]
    request.clear()
    sys.path[:] = [path for path in sys.path if path]
    sys.argv[:] = [""]
    os.write(out, b"ready\n")
    run(source, out, err, end)


def wait(child, cpu_s):
    """Ends as `child` ends; a kill at the limit of CPU time, which follows a signal that a program can ignore, is that signal."""
    for standard in range(2):
        os.close(standard)
    _, status, used = os.wait4(child, 0)
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    spent = used.ru_utime + used.ru_stime >= cpu_s
    killer = os.WTERMSIG(status)
    os._exit(128 + (signal.SIGXCPU if killer == signal.SIGKILL and spent else killer))


def main():
    request = json.loads(sys.stdin.buffer.read())
    prctl(1, signal.SIGKILL)
    if os.getppid() != request["parent"]:
        os._exit(125)
    if request["confinement"] == "namespaces":
        unshare(os.getuid(), os.getgid())
        prctl(1, signal.SIGKILL)
        child = os.fork()
        if child:
            wait(child, request["cpu_s"])
        # The first process of its namespace: when it ends, all in it end.
        prctl(1, signal.SIGKILL)
    child = os.fork()
    if child:
        wait(child, request["cpu_s"])
    program(request)


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        os.write(2, str(error).encode())
        os._exit(125)
