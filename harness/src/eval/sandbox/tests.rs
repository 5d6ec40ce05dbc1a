use super::*;
use std::io::BufRead as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Every kind of confinement that works here; under CI at least one must, elsewhere none is told.
fn sandboxes() -> Vec<Sandbox> {
    let kinds = [Confinement::Namespaces, Confinement::Landlock].map(Sandbox::with);
    for missing in kinds.iter().filter_map(|kind| kind.as_ref().err()) {
        eprintln!("SKIPPED: {missing}");
    }
    let found = kinds.into_iter().filter_map(Result::ok).collect::<Vec<_>>();
    assert!(!found.is_empty() || std::env::var("CI").as_deref() != Ok("true"), "no confinement works");
    found
}

fn small() -> Limits {
    Limits { wall: Duration::from_secs(20), cpu_s: 2, memory_bytes: 256 << 20, disk_bytes: 4 << 20, open_files: 64 }
}

/// Runs a body of `f()`, whose check is that it returns 1.
fn run(sandbox: &Sandbox, body: &str, limits: &Limits) -> Verdict {
    let body = body.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let test = "def check(f):\n    assert f() == 1, 'not 1'\n";
    sandbox.run(&Program { prompt: "def f():\n", completion: &body, test, entry_point: "f" }, limits)
}

fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Failed { reason } | Verdict::Killed { reason } | Verdict::NotRun { reason } => reason,
        Verdict::Passed | Verdict::TimedOut => "",
    }
}

/// Expects `body` to fail with an error whose text contains `why`.
fn fails(body: &str, why: &str) {
    for sandbox in sandboxes() {
        let verdict = run(&sandbox, body, &small());
        let failed = matches!(verdict, Verdict::Failed { .. });
        assert!(failed && reason(&verdict).contains(why), "{:?}: {body}: {verdict:?}", sandbox.confinement());
    }
}

/// Expects `body`, which returns 1 if it was prevented from harm, to pass.
fn passes(body: &str) {
    for sandbox in sandboxes() {
        assert_eq!(run(&sandbox, body, &small()), Verdict::Passed, "{:?}: {body}", sandbox.confinement());
    }
}

/// Expects `attempt` to raise OSError.
fn denied(attempt: &str) {
    passes(&format!("import os\ntry:\n    {attempt}\nexcept OSError:\n    return 1"));
}

#[test]
fn right_and_wrong_programs() {
    passes("return 1");
    passes("print('passed')\nreturn 1");
    fails("return 2", "AssertionError: not 1");
    fails("retrun 1", "SyntaxError");
    fails("raise ValueError('two\\nlines')", "ValueError: two; lines");
    fails("raise KeyboardInterrupt", "KeyboardInterrupt");
    fails("return f()", "RecursionError");
    fails("class E(Exception):\n    def __str__(self): raise self\nraise E", "an error without a text");
}

#[test]
fn leaving_early_does_not_pass() {
    let left = "it left before its check returned";
    fails("import os\nos._exit(0)", left);
    fails("import sys\nsys.exit(0)", "SystemExit: 0");
    fails("raise SystemExit", "SystemExit");
    fails("import os\nfor n in range(3): os.write(n, b'passed\\n')\nos._exit(0)", left);
    fails(
        "import os\nfor n in range(64):\n    try: os.write(n, b'0' * 32)\n    except OSError: pass\nos._exit(0)",
        "0000",
    );
    let written = "print('passed')\nopen('passed', 'w').write('passed')\nimport os\nos._exit(0)";
    fails(written, left);
    // What it does to the functions that run it comes too late.
    fails(
        "import os, builtins\nos.write = lambda *a: 1\nos._exit = lambda n: None\nbuiltins.exec = None\nreturn 2",
        "not 1",
    );
    passes("import os, builtins\nos.write = lambda *a: 1\nos._exit = lambda n: None\nbuiltins.exec = None\nreturn 1");
}

#[test]
fn endless_loops_end() {
    for sandbox in sandboxes() {
        let begin = Instant::now();
        assert_eq!(run(&sandbox, "while True: pass", &small()), Verdict::TimedOut);
        let ignores = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass";
        assert_eq!(run(&sandbox, ignores, &small()), Verdict::TimedOut);
        let limits = Limits { wall: Duration::from_secs(6), ..small() };
        let sleeps =
            "import signal, time\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(1)";
        assert_eq!(run(&sandbox, sleeps, &limits), Verdict::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(180));
    }
}

#[test]
fn memory_is_limited() {
    fails("x = []\nwhile True: x.append(bytearray(10 ** 7))", "MemoryError");
    fails("return len(bytes(10 ** 9))", "MemoryError");
    denied("os.memfd_create('x')");
}

#[test]
fn files_are_limited() {
    fails("with open('x', 'wb') as file:\n    while True: file.write(bytes(10 ** 6))", "Error");
    passes("open('x', 'w').write('a')\nreturn len(open('x').read())");
    denied("[open('/dev/null') for n in range(64)]");
    let many = "import time\nfor n in range(9):\n    with open(f'x{n}', 'wb') as file: file.write(bytes(10 ** 6))\n    time.sleep(0.2)\nreturn 1";
    let empty = "import time\nfor n in range(2000):\n    open(f'x{n}', 'w').close()\ntime.sleep(1)\nreturn 1";
    for sandbox in sandboxes() {
        for body in [many, empty] {
            let verdict = run(&sandbox, body, &small());
            let ended = matches!(verdict, Verdict::Failed { .. } | Verdict::Killed { .. });
            assert!(ended, "{:?}: {verdict:?}", sandbox.confinement());
        }
    }
}

#[test]
fn no_processes_and_no_threads() {
    denied("os.fork()");
    denied("os.posix_spawn('/bin/true', ['true'], {})");
    denied("os.execv('/bin/true', ['true'])");
    denied("import subprocess; subprocess.Popen(['true'])");
    denied("os.setsid()");
    passes("import threading\ntry:\n    threading.Thread(target=print).start()\nexcept RuntimeError:\n    return 1");
    fails("import os\nwhile True: os.fork()", "PermissionError");
    passes("import os\ntry:\n    while True: os.fork()\nexcept OSError:\n    return 1");
}

#[test]
fn nothing_else_can_be_signalled() {
    denied("os.kill(os.getppid(), 9)");
    denied("os.kill(0, 9)");
    denied("os.kill(-1, 9)");
    denied("os.killpg(os.getpgid(0), 9)");
    denied(&format!("os.kill({}, 0)", std::process::id()));
    denied("import resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))");
    denied("os.setpriority(os.PRIO_PROCESS, 0, 19)");
    for sandbox in sandboxes() {
        let verdict = run(&sandbox, "import os\nos.abort()", &small());
        assert_eq!(verdict, Verdict::Killed { reason: "signal 6".to_owned() });
        let verdict = run(&sandbox, "import os\nos.kill(os.getpid(), 9)", &small());
        assert_eq!(verdict, Verdict::Killed { reason: "signal 9".to_owned() });
    }
}

#[test]
fn no_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    denied(&format!("import socket; socket.create_connection(('127.0.0.1', {port}), 2)"));
    denied("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))");
    denied("import socket; socket.socket(socket.AF_UNIX)");
    denied("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)");
    passes("import socket\na, b = socket.socketpair()\na.send(b'x')\nreturn len(b.recv(9))");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn nothing_is_inherited() {
    passes(
        "import os\nreturn int(not any(name.startswith('CARGO') or name in ('HOME', 'PATH') for name in os.environ))",
    );
    passes("import sys\nreturn int(sys.stdin.read() == '' and sys.argv == [''])");
    passes("import os\nreturn int(os.listdir() == [])");
    // Besides the three standard ones: one to answer on, one to say why not, one with the number.
    passes(
        "import os\nopen_ = []\nfor n in range(64):\n    try: os.fstat(n); open_.append(n)\n    except OSError: pass\nreturn int(len(open_) == 6)",
    );
}

#[test]
fn nothing_outside_is_read_or_written() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let (inner, path) = (folder.path().display(), secret.display());
    for attempt in [
        format!("open('{path}')"),
        format!("open('{path}', 'w')"),
        format!("open('{inner}/new', 'w')"),
        format!("os.truncate('{path}', 0)"),
        format!("os.remove('{path}')"),
        format!("os.rename('{path}', '{path}2')"),
        format!("os.chmod('{path}', 0)"),
        format!("os.utime('{path}', (0, 0))"),
        format!("os.symlink('{path}', 'link') or open('link')"),
        format!("os.link('{path}', 'link')"),
        format!("os.mkdir('{inner}/new')"),
        format!("os.listdir('{inner}')"),
        "open('/tritmark-test', 'w')".to_owned(),
        "open('/tmp/tritmark-test', 'w')".to_owned(),
        "open('/dev/shm/tritmark-test', 'w')".to_owned(),
        "open(os.__file__, 'a')".to_owned(),
        "open(os.path.dirname(os.__file__) + '/tritmark_test.py', 'w')".to_owned(),
        "open('/etc/passwd')".to_owned(),
        "open('/proc/self/environ')".to_owned(),
        "open('/proc/1/cmdline')".to_owned(),
        "open('/dev/tty')".to_owned(),
        "os.mkfifo('../x')".to_owned(),
        "os.chroot('.')".to_owned(),
    ] {
        denied(&attempt);
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn nothing_is_left() {
    let left = || {
        let prefix = "tritmark-program-";
        let entries = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect()
    };
    let marker = "tritmark-left-behind";
    let body = format!("import os\nos.makedirs('{marker}/b', mode=0)\nreturn 1");
    for sandbox in sandboxes() {
        run(&sandbox, &body, &small());
        let limits = Limits { wall: Duration::from_secs(6), ..small() };
        let body = format!("import time\nopen('{marker}', 'w')\ntime.sleep(99)");
        assert_eq!(run(&sandbox, &body, &limits), Verdict::TimedOut);
        let found: Vec<PathBuf> = left();
        // Other tests run beside this one.
        assert!(!found.iter().any(|path| path.join(marker).exists()), "{found:?}");
    }
}

#[test]
fn floods_are_harmless() {
    passes("for n in range(10 ** 5): print('x' * 100)\nreturn 1");
    passes("import sys\nfor n in range(10 ** 5): sys.stderr.write('x' * 100)\nreturn 1");
    fails("raise ValueError('x' * 10 ** 7)", "ValueError: xxx");
    // Even on the ways that are not for it.
    fails(
        "import os\nfor n in range(16, 64):\n    try:\n        for m in range(99): os.write(n, b'x' * 10 ** 5)\n    except OSError: pass",
        "",
    );
}

#[test]
fn limits_that_leave_no_room_say_nothing_of_the_program() {
    for sandbox in sandboxes() {
        for limits in [Limits { cpu_s: 0, ..small() }, Limits { open_files: 3, ..small() }] {
            assert!(matches!(run(&sandbox, "return 1", &limits), Verdict::NotRun { .. }));
        }
    }
}

/// The fields of HumanEval's problems; `None` without the file, which fails under CI.
fn problems(name: &str) -> Option<Vec<serde_json::Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let places = [root.join("../shared/data"), root.join("data")];
    let Some(path) = places.iter().map(|place| place.join(name)).find(|path| path.exists()) else {
        let notice = format!("{name} is in neither ../shared/data nor data");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{notice}");
        eprintln!("SKIPPED: {notice}");
        return None;
    };
    let text = if name.ends_with(".gz") {
        Command::new("gzip").arg("-dc").arg(&path).output().unwrap().stdout
    } else {
        std::fs::read(&path).unwrap()
    };
    Some(text.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect())
}

/// Runs the own solution of each `every`th problem, and one that does nothing.
fn solutions(name: &str, sandbox: &Sandbox, every: usize) {
    let Some(problems) = problems(name) else { return };
    assert_eq!(problems.len(), 164);
    for problem in problems.iter().step_by(every) {
        let field = |name: &str| problem[name].as_str().unwrap();
        let program = Program {
            prompt: field("prompt"),
            completion: field("canonical_solution"),
            test: field("test"),
            entry_point: field("entry_point"),
        };
        let id = field("task_id");
        assert_eq!(sandbox.run(&program, &Limits::default()), Verdict::Passed, "{id}");
        let broken = Program { completion: "    return None\n", ..program };
        let verdict = sandbox.run(&broken, &Limits::default());
        assert!(matches!(verdict, Verdict::Failed { .. }), "{id}, broken: {verdict:?}");
    }
}

#[test]
fn humaneval_solutions_pass_and_broken_ones_fail() {
    // All by the strongest confinement, some by the other.
    for (sandbox, every) in sandboxes().iter().zip([1, 8]) {
        solutions("humaneval_test.jsonl", sandbox, every);
    }
}

#[test]
fn humaneval_plus_solutions_pass_and_broken_ones_fail() {
    if let Some(sandbox) = sandboxes().first() {
        solutions("humaneval_plus.jsonl.gz", sandbox, 1);
    }
}
