#!/usr/bin/env python3
"""Shows a page of its own in Chromium, sandboxed as everywhere, and hands in a picture of it.

Needs of the host: chromium, python3-pil, xdotool, and user namespaces for ordinary accounts
(/proc/sys/user/max_user_namespaces above 0, and no AppArmor rule against them). Chromium makes its
sandbox of them; its set-user-id helper has no effect here, because no program in a job gets rights.
"""

import glob
import os
import subprocess
import sys
import time

from PIL import ImageGrab

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "orders.html")
# Colours of the page and the least part of the screen that each of them fills when it is drawn.
PARTS = {(0x0B, 0x6E, 0x4F): 0.2, (0x1D, 0x3F, 0x8F): 0.34, (0xB3, 0x26, 0x1E): 0.34}
# A loaded machine takes its time.
PATIENCE_S = 90


def wait_for(what, look):
    """Returns what `look` finds, as soon as it finds something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"waited {PATIENCE_S} s in vain for {what}")


def page_is_drawn():
    """A window with the page's title comes first, what is in it a little later."""
    picture = ImageGrab.grab(xdisplay="")
    size = picture.width * picture.height
    count = {colour: number for number, colour in picture.getcolors(size)}
    return all(count.get(colour, 0) >= least * size for colour, least in PARTS.items())


def open_browser():
    # Nobody is asked anything at a first start, and no keyring is there to be asked.
    return subprocess.Popen(
        ["chromium", "--no-first-run", "--password-store=basic", "--start-maximized", f"--app=file://{PAGE}"],
        stdin=subprocess.DEVNULL,
    )


def facts(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def confined_renderers():
    """Processes that draw pages: each in a pid namespace of Chromium's own, behind its filter."""
    confined = 0
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with open(path, encoding="utf-8", errors="replace") as file:
            if "--type=renderer" not in file.read():
                continue
        own = facts(path.split("/")[2])
        if own["Seccomp"] != "2" or len(own["NSpid"].split()) < 2:
            raise RuntimeError(f"renderer {own['Pid']} of Chromium runs without its sandbox")
        confined += 1
    return confined


def main():
    browser = open_browser()

    def drawn():
        if browser.poll() is not None:
            raise RuntimeError(f"chromium ended at once with code {browser.returncode}")
        return page_is_drawn()

    wait_for("the page", drawn)
    print(f"renderers in their sandbox: {confined_renderers()}", flush=True)
    subprocess.run(["robotjob", "screenshot"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["xdotool", "key", "--clearmodifiers", "ctrl+w"], check=True)
    if browser.wait(PATIENCE_S) != 0:
        raise RuntimeError(f"chromium ended with code {browser.returncode}")


if __name__ == "__main__":
    try:
        main()
    except Exception as problem:
        subprocess.run(["robotjob", "error", "--kind", type(problem).__name__, str(problem)])
        sys.exit(f"{problem}")
