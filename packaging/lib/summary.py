"""Says in a few lines what a job did and where its results are: summary.py FOLDER BOLD PLAIN."""

import json
import os
import sys


def files(folder):
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))] if os.path.isdir(folder) else []


def lines(folder, report):
    outcome = report["outcome"]
    if outcome != "SUCCEEDED":
        reasons = [report.get(key) for key in ("code", "detail") if report.get(key)]
        ended = [f"{key.replace('_', ' ')} {report[key]}" for key in ("exit_code", "signal") if report.get(key) is not None]
        outcome = "  ".join([outcome, *ended, *reasons])
    yield "outcome", outcome
    for error in report["errors"]:
        yield "error", f"{error['kind']}: {error['message']}"
    for alert in report["alerts"]:
        yield "alert", f"{alert['title']}: {alert['message']}"
    for path in files(os.path.join(folder, "documents")):
        yield "document", path
    pictures = files(os.path.join(folder, "screenshots"))
    if pictures:
        asked = [os.path.basename(path) for path in pictures if "request" in path]
        first = f", {asked[-1]} first" if asked else ""
        yield "screenshots", f"{len(pictures)} in {os.path.dirname(pictures[0])}{first}"
    wipe = report.get("wipe")
    if wipe:
        gone = "proven gone" if wipe["complete"] else f"NOT complete: {wipe['leftovers']}"
        yield "wipe", f"{wipe['files']} files, {wipe['bytes']} bytes of scratch, {gone}"


def main():
    folder, bold, plain = sys.argv[1:4]
    with open(os.path.join(folder, "report.json"), encoding="utf-8") as file:
        report = json.load(file)
    for name, text in lines(folder, report):
        # What a robot or a host said never reaches a terminal as it is.
        inert = "".join(char if char.isprintable() else "?" for char in text)
        print(f"  {name:12} {bold if name in ('outcome', 'document') else ''}{inert}{plain}")


main()
