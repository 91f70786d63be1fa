#!/usr/bin/env python3
"""Opens a spreadsheet of its own in LibreOffice and hands in a picture of it.

Needs of the host: libreoffice-calc, python3-pil, xdotool.
"""

import os
import subprocess
import sys
import time

from PIL import ImageGrab

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "offer.fods")
# Colours of its cells and the least part of the screen that each of them fills when it is drawn.
PARTS = {(0x0F, 0x71, 0x73): 0.14, (0xD1, 0x49, 0x5B): 0.14}
# The first start makes a profile; a loaded machine takes its time.
PATIENCE_S = 120


def wait_for(what, look):
    """Returns what `look` finds, as soon as it finds something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"waited {PATIENCE_S} s in vain for {what}")


def cells_are_drawn():
    """A window with the document's name comes first, what is in it a little later."""
    picture = ImageGrab.grab(xdisplay="")
    size = picture.width * picture.height
    count = {colour: number for number, colour in picture.getcolors(size)}
    return all(count.get(colour, 0) >= least * size for colour, least in PARTS.items())


def main():
    office = subprocess.Popen(
        ["libreoffice", "--calc", "--norestore", "--nologo", "--nolockcheck", "--view", DOCUMENT],
        stdin=subprocess.DEVNULL,
    )

    def drawn():
        if office.poll() is not None:
            raise RuntimeError(f"libreoffice ended at once with code {office.returncode}")
        return cells_are_drawn()

    wait_for("the cells", drawn)
    subprocess.run(["robotjob", "screenshot"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["xdotool", "key", "--clearmodifiers", "ctrl+q"], check=True)
    if office.wait(PATIENCE_S) != 0:
        raise RuntimeError(f"libreoffice ended with code {office.returncode}")


if __name__ == "__main__":
    try:
        main()
    except Exception as problem:
        subprocess.run(["robotjob", "error", "--kind", type(problem).__name__, str(problem)])
        sys.exit(f"{problem}")
