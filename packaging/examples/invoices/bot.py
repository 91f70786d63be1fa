#!/usr/bin/env python3
"""Enters the rows of invoices.csv into a spreadsheet, as a person would, and hands it back.

Everything goes through the screen: gnumeric is opened on the job's private display, the cells
are typed, the total is a formula, and the file is saved with Ctrl+S and its dialog. Then the
saved file is read and compared with what should be in it. Nothing sleeps for luck: each step
waits for what it needs to see.
"""

import csv
import datetime
import decimal
import gzip
import os
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as xml

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "invoices.csv")
RESULT = "/tmp/invoices.gnumeric"
# Longest wait for one thing to show on the screen; a loaded machine takes its time.
PATIENCE_S = 90
# A quick typist. The application reads keys in order, so this sets the looks, not the outcome.
TYPING_DELAY_MS = "15"


def robotjob(*words):
    """Talks to the job that this bot runs in."""
    done = subprocess.run(["robotjob", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def step(text):
    robotjob("log", "--level", "info", text)


def wait_for(what, look):
    """Returns what `look` finds, as soon as it finds something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"waited {PATIENCE_S} s in vain for {what}; active window: {active_title()!r}")


def xdotool(*words):
    done = subprocess.run(["xdotool", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def active_title():
    """Title of the window that has the keyboard; empty when none has."""
    return xdotool("getactivewindow", "getwindowname")


def press(*keys):
    xdotool("key", "--clearmodifiers", *keys)


def enter(text):
    xdotool("type", "--clearmodifiers", "--delay", TYPING_DELAY_MS, text)


def read_rows():
    with open(SOURCE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def open_spreadsheet():
    # No accessibility bus: nobody listens on it here.
    program = subprocess.Popen(
        ["gnumeric", "--no-splash"],
        env={**os.environ, "NO_AT_BRIDGE": "1"},
        cwd=os.path.dirname(RESULT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )

    def shown():
        if program.poll() is not None:
            raise RuntimeError(f"gnumeric ended at once with code {program.returncode}")
        return active_title().endswith(" - Gnumeric")

    wait_for("gnumeric's window", shown)
    return program


def type_line(cells):
    """Tab goes to the next cell, Return to the first cell of the next line."""
    enter("\t".join(cells))
    press("Return")


def type_rows(rows):
    type_line(name.title() for name in rows[0])
    for number, row in enumerate(rows, 1):
        type_line(row.values())
        step(f"entered {row['invoice']} ({number} of {len(rows)})")
    amount = "ABCDEFGHIJ"[list(rows[0]).index("amount")]
    type_line(["Total", "", f"=SUM({amount}2:{amount}{len(rows) + 1})"])
    # An asterisk before the name: the application has taken the keys, and nothing is saved yet.
    wait_for("the changed sheet", lambda: active_title().startswith("*"))


def make_headings_bold():
    press("ctrl+Home", "ctrl+shift+Right", "ctrl+b", "ctrl+Home")


def save():
    folder, name = os.path.split(RESULT)
    press("ctrl+s")
    wait_for("the dialog for saving", lambda: active_title().startswith("Save"))
    press("ctrl+a")
    enter(name)
    press("Return")
    wait_for(f"{name} to be saved in {folder}",
             lambda: active_title() == f"{name} - Gnumeric" and os.path.exists(RESULT))


def close(program):
    press("ctrl+q")
    try:
        program.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"gnumeric did not close; active window: {active_title()!r}") from None


def saved_cells():
    """The cells of the saved file, by line and column: it is compressed XML."""
    with gzip.open(RESULT) as file:
        root = xml.parse(file).getroot()
    space = {"gnm": root.tag[1:].split("}")[0]}
    cells = root.iterfind(".//gnm:Cell", space)
    return {(int(cell.get("Row")), int(cell.get("Col"))): cell.text or "" for cell in cells}


def same(name, wanted, found):
    """Whether a cell holds what was typed: gnumeric keeps dates as days since 1899-12-30."""
    try:
        if name == "date":
            days = (datetime.date.fromisoformat(wanted) - datetime.date(1899, 12, 30)).days
            return int(found) == days
        if name == "amount":
            return equal(decimal.Decimal(wanted), found)
    except (ValueError, decimal.InvalidOperation):
        return False
    return found == wanted


def equal(wanted, found):
    """The file has the nearest double, not always with the digits that were typed."""
    return abs(decimal.Decimal(found) - wanted) < decimal.Decimal("0.000001")


def check_rows(rows):
    cells = saved_cells()
    for line, row in enumerate(rows, 1):
        for column, (name, wanted) in enumerate(row.items()):
            found = cells.get((line, column), "")
            if not same(name, wanted, found):
                raise ValueError(f"{name} of {row['invoice']} is {found!r} in the saved file, not {wanted!r}")


def check_total(rows):
    """Has gnumeric itself compute the saved formula."""
    wanted = sum(decimal.Decimal(row["amount"]) for row in rows)
    with tempfile.TemporaryDirectory() as place:
        table = os.path.join(place, "table.csv")
        subprocess.run(["ssconvert", RESULT, table], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(table, newline="", encoding="utf-8") as file:
            last = list(csv.reader(file))[-1]
    if last[0] != "Total" or not equal(wanted, last[2]):
        raise ValueError(f"the last line of the saved file is {last}, not a total of {wanted}")
    return wanted


def tell_about_large_ones(rows):
    limit = decimal.Decimal(robotjob("param", "approval_above").strip())
    for row in rows:
        if decimal.Decimal(row["amount"]) > limit:
            robotjob("alert", "--level", "warn", f"{row['invoice']} needs approval",
                     f"{row['customer']}: {row['amount']} is above {limit}")


def main():
    rows = read_rows()
    step(f"{len(rows)} invoices to enter")
    program = open_spreadsheet()
    step("gnumeric is open")
    type_rows(rows)
    make_headings_bold()
    tell_about_large_ones(rows)
    save()
    robotjob("screenshot")
    close(program)
    check_rows(rows)
    total = check_total(rows)
    robotjob("artifact", RESULT)
    print(f"{len(rows)} invoices, total {total}, all of them in the saved file")


if __name__ == "__main__":
    try:
        main()
    except Exception as problem:
        stack = os.path.join(tempfile.gettempdir(), "stack.txt")
        with open(stack, "w", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        robotjob("error", "--kind", type(problem).__name__, "--stack-file", stack, str(problem))
        print(problem, file=sys.stderr)
        sys.exit(1)
