//! Python programs that try to get out of the sandbox, to spoil the tests after them, or to pass without passing; and rates of small tests.
//!
//! `cargo run --release -p postgrad-tasks --example python_escapes [-- /usr/bin/python3]`
//!
//! Needs python3. The native attempts (sockets, namespaces, signals …) are unit tests of `postgrad_tasks::sandbox` and need none; these go through the
//! interpreter, its libraries and the pool. After each, a canary looks for traces of it in the same warm interpreter. Exits with 1 on any escape.

use std::time::{Duration, Instant};

use postgrad_base::Result;
use postgrad_tasks::sandbox::{Layers, Limits, Pool, Python, Test, Verdict, capabilities};

/// A name, the verdicts that are right (by their first letters, see `letter`), and the program. A program that gets out raises AssertionError,
/// whose verdict (`w`) is never right; one that is refused and goes on passes (`p`).
const PROGRAMS: &[(&str, &str, &str)] = &[
    (
        "fork bomb",
        "pe",
        "import os,time\nn=0\ntry:\n  while n<300:\n    if os.fork()==0:\n      time.sleep(20); os._exit(0)\n    n+=1\nexcept OSError: pass\nassert n<=16,n",
    ),
    (
        "fork bomb by subprocess",
        "pe",
        "import subprocess,sys\nps=[]\ntry:\n  for _ in range(40): ps.append(subprocess.Popen([sys.executable,'-c','import time;time.sleep(20)']))\nexcept OSError: pass\nassert len(ps)<=16",
    ),
    ("memory bomb", "m", "x=[]\nwhile len(x)<64: x.append(bytearray(64<<20))\nassert False"),
    ("one huge string", "m", "x='a'*(1<<40)\nassert False"),
    (
        "memory by children",
        "mpe",
        "import os,time\nn=0\ntry:\n  for _ in range(4):\n    if os.fork()==0:\n      x=bytearray(200<<20)\n      for i in range(0,len(x),4096): x[i]=1\n      time.sleep(20); os._exit(0)\n    n+=1\nexcept OSError: pass\nif n>2: time.sleep(4); assert False",
    ),
    ("huge integer", "tm", "x=10\nfor _ in range(60): x=x*x\nassert False"),
    ("output flood", "o", "while True: print('x'*10000)"),
    ("error flood", "o", "import sys\nwhile True: sys.stderr.write('x'*10000)"),
    ("huge exit message", "e", "import sys\nsys.exit('x'*(64<<20))"),
    ("huge exception message", "e", "raise ValueError('x'*(64<<20))"),
    ("message that never ends", "t", "class E(Exception):\n  def __str__(self):\n    while True: pass\nraise E()"),
    ("message that raises", "e", "class E(Exception):\n  def __str__(self): raise E()\nraise E()"),
    (
        "exception that lies about its class",
        "e",
        "class M(type):\n  @property\n  def __name__(c): raise OSError\n  @property\n  def __mro__(c): return ()\nclass E(Exception,metaclass=M): pass\nraise E()",
    ),
    ("infinite loop", "t", "while True: pass"),
    ("endless sleep", "t", "import time\ntime.sleep(1000)"),
    (
        "deaf to signals",
        "t",
        "import signal\nfor s in range(1,65):\n  try: signal.signal(s,signal.SIG_IGN)\n  except (OSError,ValueError): pass\nwhile True: pass",
    ),
    ("catches everything", "t", "while True:\n  try:\n    while True: pass\n  except BaseException: pass"),
    ("endless regular expression", "t", "import re\nre.match('(a+)+$','a'*64+'b')"),
    ("stops itself", "te", "import os,signal,time\nos.kill(os.getpid(),signal.SIGSTOP)\ntime.sleep(20)"),
    (
        "kills itself",
        "e",
        "import os,signal\nos.kill(os.getpid(),signal.SIGKILL)\nimport time\ntime.sleep(.1)\nraise ValueError",
    ),
    ("deep recursion", "e", "def f(): f()\nf()"),
    ("deep recursion, no limit", "met", "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n+1)+1\nf(0)"),
    (
        "deep recursion in C",
        "emt",
        "import sys\nsys.setrecursionlimit(10**9)\nx=[]\nfor _ in range(10**6): x=[x]\nrepr(x)\nassert False",
    ),
    ("deep source", "em", "exec('('*200000)"),
    ("zero byte in source", "e", "x=1\0"),
    ("endless destructor", "pt", "class D:\n  def __del__(s):\n    while True: pass\nd=D()"),
    ("thread that stays", "pt", "import threading,time\nthreading.Thread(target=time.sleep,args=(20,)).start()"),
    (
        "thread bomb",
        "epm",
        "import threading,time\nn=0\ntry:\n  while n<200:\n    threading.Thread(target=time.sleep,args=(20,),daemon=True).start(); n+=1\nexcept RuntimeError: pass\nassert n<=128,n",
    ),
    (
        "zombie children",
        "pe",
        "import os\nn=0\ntry:\n  while n<300:\n    if os.fork()==0: os._exit(0)\n    n+=1\nexcept OSError: pass\nassert n<=16,n",
    ),
    (
        "double-forked daemon",
        "pe",
        "import os,time\nif os.fork()==0:\n  os.setsid()\n  if os.fork()==0:\n    for _ in range(2000):\n      open('daemon','w').close(); time.sleep(.01)\n  os._exit(0)\nos.wait()",
    ),
    ("file read outside", "e", "open('/etc/passwd').read()\nassert False"),
    ("reads the home", "e", "import os\nos.listdir('/home'); os.listdir('/root')\nassert False"),
    (
        "file write outside",
        "p",
        "for p in ['/etc/x','/x','/usr/x','/var/tmp/x','/dev/shm/x','/dev/x']:\n  try: open(p,'w')\n  except OSError: continue\n  assert False,p",
    ),
    ("writes its own library", "e", "import json\nopen(json.__file__,'a')\nassert False"),
    ("symbolic link", "e", "import os\nos.symlink('/etc/passwd','l')\nopen('l').read()\nassert False"),
    (
        "/proc",
        "p",
        "for p in ['/proc/1/environ','/proc/self/environ','/proc/self/root/etc/passwd','/proc/mounts','/sys/kernel']:\n  try: open(p)\n  except OSError: continue\n  assert False,p",
    ),
    (
        "environment leak",
        "p",
        "import os\nextra=set(os.environ)-{'HOME','TMPDIR','LANG','PATH','PYTHONHASHSEED','PYTHONDONTWRITEBYTECODE','LC_CTYPE'}\nassert not extra,extra",
    ),
    (
        "inherited descriptors",
        "p",
        "import os\nfor fd in range(4,64):\n  try: os.fstat(fd)\n  except OSError: continue\n  assert False,fd",
    ),
    ("network", "e", "import socket\nsocket.create_connection(('127.0.0.1',80),1)\nassert False"),
    ("name lookup", "e", "import socket\nsocket.getaddrinfo('example.org',80)\nassert False"),
    (
        "fetches a page",
        "e",
        "import urllib.request\nurllib.request.urlopen('http://example.org/',timeout=2)\nassert False",
    ),
    ("abstract socket", "e", "import socket\ns=socket.socket(socket.AF_UNIX)\ns.connect('\\0x')\nassert False"),
    ("asyncio still works", "p", "import asyncio\nasync def f(): return 1\nassert asyncio.run(f())==1"),
    (
        "threads still work",
        "p",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as p: assert sum(p.map(abs,range(9)))==36",
    ),
    ("signal to the interpreter", "p", "import os\ntry: os.kill(os.getppid(),9)\nexcept OSError: pass"),
    (
        "signal to everyone",
        "p",
        "import os\nif os.getpid()>1 and os.getpid()<100000 and os.getppid()==1:\n  try: os.kill(-1,9)\n  except OSError: pass",
    ),
    (
        "limits of the interpreter",
        "pe",
        "import os,resource\ntry: resource.prlimit(os.getppid() or 1,resource.RLIMIT_NOFILE,(3,3))\nexcept (OSError,ValueError): pass\nelse: assert False",
    ),
    (
        "affinity of the interpreter",
        "pe",
        "import os\ntry: os.sched_setaffinity(os.getppid() or 1,{0})\nexcept OSError: pass\nelse: assert False",
    ),
    ("raises its limits", "e", "import resource\nresource.setrlimit(resource.RLIMIT_AS,(-1,-1))\nassert False"),
    ("becomes root", "e", "import os\nos.setuid(0)\nassert os.getuid()==0 and False"),
    ("chroot", "s", "import os\nos.chroot('.')\nassert False"),
    ("shell", "e", "import subprocess\nsubprocess.check_output('id',shell=True)\nassert False"),
    (
        "runs a file it wrote",
        "e",
        "import os,sys\nopen('x','w').write('#!'+sys.executable+'\\n')\nos.chmod('x',0o755)\nos.execv('./x',['x'])",
    ),
    ("memory file", "e", "import os\nos.memfd_create('x')\nassert False"),
    (
        "shared memory",
        "e",
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True,size=1<<20)\nassert False",
    ),
    (
        "disk fill",
        "ep",
        "for i in range(40): open(str(i),'wb').write(b'x'*(4<<20))\nimport time\ntime.sleep(.3)\nassert False",
    ),
    (
        "many files",
        "ep",
        "import os\nfor i in range(20000): os.mkdir(str(i))\nimport time\ntime.sleep(.5)\nassert False",
    ),
    ("large file", "e", "f=open('x','wb')\nf.seek(1<<40)\nf.write(b'x'); f.flush()\nassert False"),
    ("many open files", "e", "x=[open('/dev/null') for _ in range(1000)]\nassert False"),
    ("folders within folders", "pe", "import os\nfor _ in range(3000):\n  os.mkdir('d'); os.chdir('d')"),
    (
        "folders that cannot be read",
        "pe",
        "import os\nos.makedirs('a/b'); open('a/b/c','w').close()\nos.chmod('a/b',0); os.chmod('a',0); os.chmod('.',0)",
    ),
    ("file names of bytes", "p", "open(b'\\xff\\xfe\\n','w').close()"),
    ("closes its output", "p", "import os,sys\nsys.stdout.close()"),
    ("closes every descriptor", "e", "import os\nos.closerange(0,64)"),
    ("leaves early", "e", "import os\nos._exit(0)"),
    ("leaves early, politely", "e", "raise SystemExit(0)"),
    (
        "leaves early from a thread",
        "e",
        "import os,threading\nthreading.Thread(target=os._exit,args=(0,)).start()\nimport time\ntime.sleep(5)",
    ),
    ("writes an end of its own", "e", "import os\nos.write(3,b'{\"end\":\"'+b'0'*32+b'\"}')\nos._exit(0)"),
    (
        "writes garbage to the host",
        "et",
        "import os\ntry:\n  while True: os.write(3,b'\\0'*65536)\nexcept OSError: pass\nos._exit(0)",
    ),
    (
        "stops what checks it",
        "we",
        "import builtins,sys\nbuiltins.exec=builtins.compile=builtins.str=None\nsys.modules.clear()\nassert False",
    ),
    (
        "spoils the library",
        "p",
        "import math,json,random,builtins,sys\nmath.sqrt=None; json.dumps=None; random.seed(5); builtins.len=None; sys.path.append('spoiled'); sys.setrecursionlimit(77)",
    ),
    ("leaves an alarm", "p", "import signal\nsignal.alarm(1)"),
    ("leaves files", "p", "import os\nopen('left','w').write('x'); os.mkdir('leftd')"),
    ("calls by ctypes", "s", "import ctypes\nctypes.CDLL(None).syscall(101,0,0,0,0)\nassert False"),
    ("mounts by ctypes", "s", "import ctypes\nctypes.CDLL(None).mount(b'x',b'/scratch',b'tmpfs',0,0)\nassert False"),
    ("bad pointer", "e", "import ctypes\nctypes.string_at(1)"),
];

/// Finds what an earlier test may have left.
const CANARY: &str = "import os,sys,math,json,random,builtins,signal,time\n\
assert os.listdir('.')==[],os.listdir('.')\n\
assert math.sqrt(4)==2 and json.dumps([1])=='[1]' and len('ab')==2 and 'spoiled' not in sys.path\n\
assert sys.getrecursionlimit()==1000 and signal.getitimer(signal.ITIMER_REAL)[0]==0\n\
assert 'spoiled' not in globals()\n\
time.sleep(.002)\n\
assert os.listdir('.')==[]\n\
try: os.kill(-1,0)\n\
except OSError: pass\n\
open('mine','w').write('x')\n";

fn letter(verdict: &Verdict) -> char {
    match verdict {
        Verdict::Pass => 'p',
        Verdict::Wrong { .. } => 'w',
        Verdict::Error { .. } => 'e',
        Verdict::Timeout => 't',
        Verdict::Memory => 'm',
        Verdict::Policy => 's',
        Verdict::OutputLimit => 'o',
    }
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(0) => std::process::ExitCode::SUCCESS,
        Ok(_) => std::process::ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::from(e.exit_code())
        }
    }
}

fn run() -> Result<usize> {
    let found = capabilities();
    for layer in &found.layers {
        println!("{:22} {:3} {}", layer.name, if layer.enforced { "yes" } else { "no" }, layer.note);
    }
    for note in &found.notes {
        println!("note: {note}");
    }
    let python = match std::env::args().nth(1) {
        Some(program) => Python::at(program.as_ref())?,
        None => Python::find()?,
    };
    println!("python {} at {}", python.version, python.executable.display());
    let all = Layers::of(found);
    let sets = [
        ("all layers", all),
        ("without namespaces", Layers { namespaces: false, ..all }),
        ("without Landlock", Layers { landlock: false, ..all }),
    ];
    let mut wrong = 0;
    for (name, layers) in sets.into_iter().filter(|(_, l)| l.missing().is_none()) {
        wrong += attempts(name, &python, layers)?;
        rate(name, &python, layers)?;
    }
    Ok(wrong)
}

fn attempts(name: &str, python: &Python, layers: Layers) -> Result<usize> {
    let limits =
        Limits { wall: Duration::from_secs(2), cpu: Duration::from_secs(2), memory: 512 << 20, ..Limits::default() };
    let pool = Pool::with_layers(python.clone(), 1, limits, layers, false)?;
    let mut wrong = 0;
    for (what, right, source) in PROGRAMS {
        let report = pool.check(&Test::asserts(*source))?;
        if !right.contains(letter(&report.verdict)) {
            wrong += 1;
            println!("  ESCAPE or wrong verdict: {what}: {:?}", report.verdict);
        }
        let canary = pool.check(&Test::asserts(CANARY))?;
        if canary.verdict != Verdict::Pass {
            wrong += 1;
            println!("  TRACES of {what}: {:?}", canary.verdict);
        }
    }
    println!("{name}: {} programs, {wrong} escapes, traces or wrong verdicts", PROGRAMS.len());
    Ok(wrong)
}

fn rate(name: &str, python: &Python, layers: Layers) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    let pool = Pool::with_layers(python.clone(), workers, Limits::default(), layers, false)?;
    let n = if layers.namespaces { 2000 } else { 200 };
    let tests: Vec<Test> =
        (0..n).map(|i| Test::asserts(format!("def f(x):\n    return x + {i}\nassert f(1) == {}\n", i + 1))).collect();
    let start = Instant::now();
    let passed = pool.check_all(&tests)?.iter().filter(|r| r.verdict == Verdict::Pass).count();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: {passed}/{n} small tests in {seconds:.2} s on {workers} cores, {:.0} per second",
        n as f64 / seconds
    );
    Ok(())
}
