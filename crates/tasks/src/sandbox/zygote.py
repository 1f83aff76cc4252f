# Runs inside the cell, before any test: imports what tests like to use, then forks once per test.
# Descriptor 3 is the host. `serve` forks per request and is the first process of its namespace; `once` runs one request in this very process.
import os, sys

sys.dont_write_bytecode = True
MODE, CPU_SECONDS, MODULES, PACKAGES = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
sys.argv = ["program.py"]
sys.path[:] = [p for p in sys.path if p] + PACKAGES
for name in MODULES.split(",") if MODE == "serve" else ():
    try:
        __import__(name)
    except ImportError:
        pass
import builtins, gc, json, resource, select, signal, struct, threading, time

HEAD = struct.Struct("<IIIIB32s")  # source, stdin, wall ms, output bytes, style, nonce
TAIL = struct.Struct("<BBiQQQIII")  # cause, clean, status, wall us, cpu us, peak kB, lengths of stdout, stderr, report
SCRATCH = os.getcwd()
PROGRAM, ASSERTS = 0, 1
ENDED, WALL, OUTPUT = 0, 1, 2
REPORT_BYTES = 65536


# A test may put what it likes into the modules; what speaks for it afterwards was fetched before.
write, leave, dumps, flush_out, flush_err = os.write, os._exit, json.dumps, sys.stdout.flush, sys.stderr.flush


def exactly(fd, n):
    parts = []
    while n:
        part = os.read(fd, min(n, 1 << 20))
        if not part:
            os._exit(0)  # the host is gone
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def send(fd, data):
    view = memoryview(data)
    while view:
        view = view[write(fd, view):]


def request():
    sizes = HEAD.unpack(exactly(3, HEAD.size))
    return exactly(3, sizes[0]), exactly(3, sizes[1]), sizes


def describe(error):
    kind = type(error)
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = trace.tb_lineno
        trace = trace.tb_next
    if line == 0 and isinstance(error, SyntaxError):
        line = error.lineno or 0
    try:
        message = str(error)[:2000]
    except BaseException:
        message = "(its message could not be made)"
    bases = [base.__name__ for base in kind.__mro__]
    return {"class": str(kind.__name__)[:200], "bases": bases[:20], "message": message, "line": int(line)}


def run(source, style, nonce, report):
    """Runs one program in this process and says on `report` how it ended. Never returns."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    end = b'{"end":"' + nonce + b'"}'
    code = 1
    said = None
    try:
        try:
            main = type(sys)("__main__")
            main.__dict__.update(__builtins__=builtins, __file__="program.py")
            sys.modules["__main__"] = main
            exec(compile(source, "<program>", "exec", dont_inherit=True), main.__dict__)
            if style == PROGRAM:
                threading._shutdown()
            said, code = end, 0
        except SystemExit as error:
            if style == PROGRAM and error.code in (None, 0, False):
                said, code = end, 0
            else:
                said = dumps(describe(error)).encode()
    except BaseException as error:
        try:
            said = dumps(describe(error)).encode()
        except BaseException:
            said = b'{"class":"Exception","bases":[],"message":"(it could not be described)","line":0}'
    for flush in (flush_out, flush_err):
        try:
            flush()
        except BaseException:
            pass  # closed by the program
    try:
        send(report, said)
    except BaseException:
        pass
    leave(code)


def clean():
    """Empties the scratch folder; False where that fails (the host then starts a new interpreter)."""
    try:
        os.chdir(SCRATCH)
        folders = [SCRATCH]
        for folder in folders:  # grows while it is walked
            os.chmod(folder, 0o700)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        os.unlink(entry.path)
        for folder in reversed(folders[1:]):
            os.rmdir(folder)
        return not os.listdir(SCRATCH)
    except BaseException:
        return False


def supervise(pid, stdin, stdin_w, streams, wall_ms, cap):
    """Feeds and reads the test until it ends, its time is up or its output too long; then kills whatever it started."""
    start = time.monotonic()
    deadline = start + wall_ms / 1000
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(3, select.POLLRDHUP)
    text = {fd: bytearray() for fd in streams}
    for fd in streams:
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)
    stdin = memoryview(stdin)
    if stdin:
        os.set_blocking(stdin_w, False)
        poll.register(stdin_w, select.POLLOUT)
    else:
        os.close(stdin_w)
        stdin_w = -1
    open_streams = set(streams)
    out, err, report = streams
    limit = {out: cap + 1, err: cap + 1, report: REPORT_BYTES}

    def read(fd):
        try:
            part = os.read(fd, 65536)
        except BlockingIOError:
            return False
        room = limit[fd] - len(text[fd])
        text[fd] += part[:max(room, 0)]
        if not part and fd in open_streams:
            open_streams.remove(fd)
            poll.unregister(fd)
        return bool(part)

    cause, ended = ENDED, False
    while not ended:
        left = deadline - time.monotonic()
        if left <= 0:
            cause = WALL
            break
        for fd, event in poll.poll(left * 1000 + 1):
            if fd == pidfd:
                ended = True
            elif fd == 3:
                os._exit(0)
            elif fd == stdin_w:
                try:
                    stdin = stdin[os.write(fd, stdin[:65536]):]
                    done = not stdin
                except BlockingIOError:
                    done = False
                except OSError:
                    done = True
                if done:
                    poll.unregister(fd)
                    os.close(fd)
                    stdin_w = -1
            else:
                read(fd)
        if len(text[out]) + len(text[err]) > cap:
            cause = OUTPUT
            break
    wall = time.monotonic() - start
    status, usage = 0, None
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass
    while True:
        try:
            got, code, spent = os.wait4(-1, 0)
        except ChildProcessError:
            break
        if got == pid:
            status, usage = code, spent
    for fd in streams:
        while len(text[fd]) < limit[fd] and read(fd):
            pass
    if cause == ENDED and len(text[out]) + len(text[err]) > cap:
        cause = OUTPUT
    for fd in (pidfd, stdin_w, *streams):
        if fd >= 0:
            os.close(fd)
    kept_err = text[err][: cap // 4]
    kept_out = text[out][: cap - len(kept_err)]
    cpu = usage.ru_utime + usage.ru_stime
    return cause, status, wall, cpu, usage.ru_maxrss, kept_out, kept_err, text[report]


def serve():
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    send(3, b"ready")
    while True:
        source, stdin, (_, _, wall_ms, cap, style, nonce) = request()
        in_r, in_w = os.pipe()
        out_r, out_w = os.pipe()
        err_r, err_w = os.pipe()
        rep_r, rep_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            for fd, to in ((in_r, 0), (out_w, 1), (err_w, 2), (rep_w, 3)):
                os.dup2(fd, to, inheritable=to < 3)
            os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            run(source, style, nonce, 3)
        for fd in (in_r, out_w, err_w, rep_w):
            os.close(fd)
        cause, status, wall, cpu, peak, out, err, report = supervise(pid, stdin, in_w, (out_r, err_r, rep_r), wall_ms, cap)
        tidy = clean()
        head = TAIL.pack(cause, tidy, status, int(wall * 1e6), int(cpu * 1e6), peak, len(out), len(err), len(report))
        send(3, head + out + err + report)
        if not tidy:
            os._exit(0)


if MODE == "serve":
    serve()
else:
    source, _, (_, _, _, _, style, nonce) = request()
    run(source, style, nonce, 3)
