#!/usr/bin/env python3
"""Times of sessions on the machine it runs on: opening, closing, teardown.

    session.py measure [OPTION...]    runs jobs one after the other, writes what it saw as JSON
    session.py table FILE...          prints one column per file

The steps are the jobs' own timelines (the host's clock, whole milliseconds). When a slot is free is
seen at its record below the broker's state, which the broker removes as the last thing of a job:
asked for every millisecond. The bot's first instruction is its own EPOCHREALTIME.
"""

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

# A shell starts faster than Python: this is the host's time, not the bot's.
BOT = """#!/bin/bash
echo "$EPOCHREALTIME"
[ "$1" != stay ] || exec sleep 1000
"""
DISPLAY = "1280x720"
SERVERS = {"xvfb": "/usr/bin/Xvfb", "xvnc": "/usr/bin/Xtigervnc"}

# Name, from, to: steps of the timeline, or "first" (instruction), "free" (slot), "killed" (monitor).
# Of several the first that a job has.
OPENED = ("DISPLAY_READY", "SESSION_OPEN")
ORDINARY = [
    ("offer to order signed and sent", "OFFERED", "STARTED"),
    ("package checked", "STARTED", "PACKAGE_READY"),
    ("session process, volume", "PACKAGE_READY", "VOLUME_READY"),
    ("attendant, session (PAM, logind)", "VOLUME_READY", "SESSION_OPEN"),
    ("namespaces, display", "SESSION_OPEN", "DISPLAY_READY"),
    ("to the bot's first instruction", OPENED, "first"),
    ("**session open**: order to first instruction", "STARTED", "first"),
    ("processes killed, PAM closed", "EXITED", "PROCESSES_GONE"),
    ("output into the spool, logind's user closed, swept", "PROCESSES_GONE", "SESSION_CLOSED"),
    ("volume gone and proven", "SESSION_CLOSED", "WIPED"),
    ("result signed, slot free", "WIPED", "free"),
    ("**session close**: bot's end to a free slot", "EXITED", "free"),
    ("**offer to report**", "OFFERED", "REPORTED"),
]
KILLED = [("**teardown**: monitor killed to a free slot", "killed", "free")]
SERVER = [("started to taking clients", "server", "answer")]


class Slots(threading.Thread):
    """Notes when a slot's record goes."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.freed = folder, []

    def run(self):
        known = set()
        while True:
            now = {name for name in os.listdir(self.folder) if name.endswith(".json")}
            if known - now:
                self.freed.append(time.time() * 1000)
            known = now
            time.sleep(0.001)

    def freed_after(self, moment):
        return wait_for("a free slot", lambda: [at for at in self.freed if at >= moment])[0]


def wait_for(what, look):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.002)
    raise TimeoutError(f"waited in vain for {what}")


class Host:
    def __init__(self, options):
        self.orchestrator, self.sign = shlex.split(options.ask), options.sign
        self.slots = Slots(options.slots)
        self.slots.start()

    def ask(self, *words):
        """JSON that robot-orchestrator answers. `--data-dir` and the like come last there."""
        command = [self.orchestrator[0], *words, *self.orchestrator[1:]]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def push(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bot")
            with open(path, "w", encoding="utf-8") as file:
                file.write(BOT)
            os.chmod(path, 0o755)
            with open(os.path.join(folder, "robotd.toml"), "w", encoding="utf-8") as file:
                file.write('name = "bench"\nentry = "bot"\n')
            sign = ["--sign", self.sign] if self.sign else []
            answer = self.ask("package", "push", folder, "--json", *sign)
        return json.loads(answer)["sha256"]

    def submit(self, package, display, *more):
        answer = self.ask("job", "submit", "--package", package, "--display", display, "--json", *more)
        return json.loads(answer)["job_id"]

    def show(self, job):
        return json.loads(self.ask("job", "show", job, "--json"))

    def ended(self, job):
        def look():
            report = self.show(job)
            return report if report["state"] == "ENDED" else None

        return wait_for(f"the end of {job}", look)

    def moments(self, job, outcome):
        report = self.ended(job)
        if report["outcome"] != outcome or not report["wipe"]["complete"]:
            raise RuntimeError(f"job {job} is no example: {json.dumps(report, indent=1)}")
        moments = {step["phase"]: step["at_unix_ms"] for step in report["timeline"]}
        said = self.ask("job", "logs", job, "--stream", "stdout", "--raw")
        moments["first"] = float(said) * 1000
        return moments

    def ordinary(self, package, display):
        moments = self.moments(self.submit(package, display), "SUCCEEDED")
        return {**moments, "free": self.slots.freed_after(moments["EXITED"])}

    def killed(self, package, display):
        job = self.submit(package, display, "--arg", "stay")
        wait_for("the bot's words", lambda: self.ask("job", "logs", job, "--stream", "stdout", "--raw"))
        pid, killed = monitor(job), time.time() * 1000
        os.kill(pid, signal.SIGKILL)
        free = self.slots.freed_after(killed)
        return {**self.moments(job, "INTERRUPTED"), "killed": killed, "free": free}


def monitor(job):
    """The oldest process whose command line names the attempt: the others are its children."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if b"--attempt" in words and any(word.startswith(job.encode()) for word in words):
            return pid
    raise RuntimeError(f"no monitor of {job}")


def server_starts(program):
    """Milliseconds until a display server by itself takes clients, with the options that robotd gives."""
    answer, report = os.pipe()
    size = ["-screen", "0", f"{DISPLAY}x24"] if program.endswith("Xvfb") else ["-geometry", DISPLAY, "-rfbport", "-1"]
    command = [program, "-displayfd", str(report), *size, "-nolisten", "tcp", "-nolisten", "local", "-noreset"]
    began = time.monotonic()
    server = subprocess.Popen(command, pass_fds=[report], stderr=subprocess.DEVNULL)
    os.close(report)
    os.read(answer, 16)
    took = (time.monotonic() - began) * 1000
    os.close(answer)
    server.kill()
    server.wait()
    return {"server": 0, "answer": took}


def measure(options):
    host = Host(options)
    package = host.push()
    series = {}
    host.ordinary(package, "none")
    programs = [path for path in SERVERS.values() if os.path.exists(path)]
    displays = [f"{kind}:{DISPLAY}" for kind, path in SERVERS.items() if path in programs]
    for display in ["none", *displays]:
        series[f"display {display}"] = [host.ordinary(package, display) for _ in range(options.jobs)]
    series["killed, with a display"] = [host.killed(package, DISPLAY) for _ in range(options.jobs)]
    for program in programs:
        series[f"{os.path.basename(program)} alone"] = [server_starts(program) for _ in range(options.jobs)]
    json.dump({"label": options.label, "series": series}, sys.stdout)


def moment(job, names):
    return next((job[name] for name in names if name in job), None)


def times(jobs, *ends):
    """Milliseconds from one moment to another, of the jobs that have both."""
    both = [[moment(job, (end,) if isinstance(end, str) else end) for end in ends] for job in jobs]
    return [end - begin for begin, end in both if begin is not None and end is not None]


def cell(found):
    if not found:
        return ""
    ordered = sorted(found)
    return f"{statistics.median(ordered):.0f} ({ordered[0]:.0f}–{ordered[-1]:.0f})"


def table(options):
    files = [json.load(open(path, encoding="utf-8")) for path in options.files]
    print("| ms: median (least–most) | " + " | ".join(file["label"] for file in files) + " |")
    print("|---|" + "---|" * len(files))
    for name in dict.fromkeys(name for file in files for name in file["series"]):
        jobs = [file["series"].get(name, []) for file in files]
        number, one = max(len(own) for own in jobs), next(filter(None, jobs))[0]
        print(f"| *{name}, {number} times* |" + " |" * len(files))
        parts = KILLED if "killed" in one else SERVER if "server" in one else ORDINARY
        for part, *ends in parts:
            cells = [cell(times(own, *ends)) for own in jobs]
            if any(cells):
                print(f"| {part} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.add_argument("--label", required=True)
    one.add_argument("--ask", default="robot-orchestrator", help="command line of robot-orchestrator")
    one.add_argument("--sign", help="publisher's key")
    one.add_argument("--slots", default="/var/lib/robotd-broker/slots")
    one.add_argument("--jobs", type=int, default=20)
    one.set_defaults(do=measure)
    many = commands.add_parser("table")
    many.add_argument("files", nargs="+")
    many.set_defaults(do=table)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
