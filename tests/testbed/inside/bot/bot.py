"""The bot of the claims. Its first argument says what it does."""
import ctypes
import os
import signal
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
ADD_KEY, KEYCTL, MQ_OPEN = 248, 250, 240
USER_KEYRING, USER_SESSION_KEYRING, KEYCTL_SEARCH = -4, -5, 10
RUNTIME, HOME = os.environ["XDG_RUNTIME_DIR"], os.environ["HOME"]
SEGMENT = 0x7E57BED
PLACES = ["/tmp", "/var/tmp", "/dev/shm", "/run/robot/artifacts", RUNTIME, HOME, "/work"]


def wait():
    """Until the test writes to /tmp/go; that it is there says that the bot runs."""
    os.mkfifo("/tmp/go")
    open("/tmp/go").read(1)


def deaf():
    """As a bot that wants to stay: no signal that can be refused ends it or its children."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        while True:
            signal.pause()
    wait()


def told(*command, words=""):
    """What a program of the host says to what it is asked for."""
    done = subprocess.run(command, input=words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(command[0], "took it" if done.returncode == 0 else "refused", flush=True)


def plant():
    """Whatever a job could leave for the next."""
    for place in PLACES:
        with open(os.path.join(place, "planted"), "w") as file:
            file.write("x")
    assert libc.shmget(SEGMENT, 4096, 0o1666) >= 0
    assert libc.semget(SEGMENT, 1, 0o1666) >= 0
    assert libc.msgget(SEGMENT, 0o1666) >= 0
    libc.syscall(MQ_OPEN, b"planted", os.O_CREAT | os.O_RDWR, 0o666, None)
    for ring in (USER_KEYRING, USER_SESSION_KEYRING):
        libc.syscall(ADD_KEY, b"user", b"planted", b"x", 1, ring)
    told("systemd-run", "--user", "--unit=planted", "sleep", "1000")
    told("loginctl", "enable-linger")
    told("crontab", "-", words="* * * * * touch /tmp/planted-by-cron\n")
    told("at", "now", words="touch /tmp/planted-by-at\n")
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:  # a daemon of the old kind: nobody's child, no terminal
            deaf()
        os._exit(0)


def look():
    """What of it the next job sees."""
    seen = [place for place in PLACES if os.path.exists(os.path.join(place, "planted"))]
    seen += [name for name in ("shmget", "semget", "msgget") if getattr(libc, name)(SEGMENT, 0, 0) >= 0]
    if libc.syscall(MQ_OPEN, b"planted", os.O_RDWR, 0, None) >= 0:
        seen.append("queue")
    for ring in (USER_KEYRING, USER_SESSION_KEYRING):
        if libc.syscall(KEYCTL, KEYCTL_SEARCH, ring, b"user", b"planted", 0) >= 0:
            seen.append("key")
    mine = {1, os.getpid(), os.getppid()}
    others = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in mine]
    names = [open(f"/proc/{pid}/comm").read().strip() for pid in others]
    seen += [name for name in names if name not in ("Xvfb", "openbox", "dbus-daemon")]
    print("seen:", *seen or ["nothing"], flush=True)


def bomb():
    """Children until no more are given; they stay."""
    made = 0
    try:
        while made < 5000:
            if os.fork() == 0:
                signal.pause()
            made += 1
    except BlockingIOError:
        print("children:", made, flush=True)
        wait()


def hog():
    """More memory than the slice has, in children of whom none is the largest by far."""
    for _ in range(4):
        if os.fork() == 0:
            held = bytearray(os.urandom(1)) * (100 << 20)
            signal.pause()
            os._exit(len(held))
    signal.pause()


def fill():
    """The same, in files that are memory."""
    for place in ("/dev/shm/fill", "/tmp/fill"):
        with open(place, "wb") as file:
            for _ in range(150):
                file.write(bytes(1 << 20))
    signal.pause()


def memfd():
    """The same, in a file that has no name and is on no volume."""
    file = os.memfd_create("fill")
    while True:
        os.write(file, bytes(1 << 20))


def spin():
    """Two busy processes for ten seconds: the share of one processor that they get from then on."""
    began, worked = time.monotonic(), time.process_time()
    child = os.fork()
    if child == 0:
        while True:
            pass
    while time.monotonic() < began + 10:
        pass
    passed = time.monotonic() - began
    ticks = open(f"/proc/{child}/stat").read().rsplit(")", 1)[1].split()[11:13]
    worked = time.process_time() - worked + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    print("percent:", round(100 * worked / passed), flush=True)


def marks():
    """A mark in 40 MiB of files on the volume. No process ever holds it whole: only pages of files do."""
    halves = 'printf "%s-%s " volume-mark of-the-bot'
    subprocess.run(["sh", "-c", halves + " | cat >/tmp/mark"], check=True)
    for _ in range(21):
        subprocess.run(["sh", "-c", "cat /tmp/mark /tmp/mark >/tmp/more && mv /tmp/more /tmp/mark"], check=True)
    os.sync()
    wait()



MODES = {"hog": hog, "fill": fill, "memfd": memfd, "spin": spin, "idle": signal.pause}
MODES |= {"later": lambda: (wait(), hog())}
MODES |= {"wait": wait, "deaf": deaf, "plant": plant, "look": look, "bomb": bomb, "end": lambda: None}
MODES["marks"] = marks
MODES[sys.argv[1]]()
