"""Looks at what a quickstart left in its folder: results.py WHAT REPORT CSV."""

import csv
import datetime
import glob
import gzip
import json
import os
import struct
import sys
import xml.etree.ElementTree as xml
import zlib

ORDER = (
    "OFFERED ACCEPTED LICENSE_LEASED STARTED PACKAGE_READY VOLUME_READY SESSION_OPEN DISPLAY_READY RUNNING EXITED"
    " PROCESSES_GONE ARTIFACTS_COLLECTED SESSION_CLOSED WIPED LICENSE_RETURNED REPORTED"
).split()


def succeeded(report, _folder, _rows):
    assert report["outcome"] == "SUCCEEDED" and report["exit_code"] == 0, report["outcome"]
    assert report["wipe"]["complete"] and report["license"]["returned"] and report["session"]["closed"]


def failed(report, _folder, _rows):
    assert report["outcome"] == "FAILED" and report["exit_code"] == 3, report["outcome"]
    assert [error["message"] for error in report["errors"]] == ["no total"]
    assert report["wipe"]["complete"] and report["license"]["returned"]


def rows(report, folder, wanted):
    """Read here by other means than the robot's own."""
    assert [artifact["name"] for artifact in report["artifacts"]] == ["invoices.gnumeric"]
    with gzip.open(os.path.join(folder, "documents", "invoices.gnumeric")) as file:
        cells = {}
        for cell in xml.parse(file).iter():
            if cell.tag.endswith("}Cell"):
                cells.setdefault(int(cell.get("Row")), {})[int(cell.get("Col"))] = cell.text
    found = [[cells[line][column] for column in range(4)] for line in range(1, len(wanted) + 1)]
    for row, (invoice, date, amount, customer) in zip(wanted, found):
        day = datetime.date(1899, 12, 30) + datetime.timedelta(int(date))
        assert [invoice, day.isoformat(), customer] == [row["invoice"], row["date"], row["customer"]], found
        assert abs(float(amount) - float(row["amount"])) < 1e-6, found
    total = cells[len(wanted) + 1]
    assert total[0] == "Total" and total[2].lower() == f"=sum(c2:c{len(wanted) + 1})", total


def pictures(report, folder, _rows):
    """Whole PNG files of the display's size that show more than one colour."""
    paths = glob.glob(os.path.join(folder, "screenshots", "*.png"))
    assert len(paths) == len(report["screenshots"]) >= 5, paths
    assert {"START", "INTERVAL", "REQUEST"} <= {shot["reason"] for shot in report["screenshots"]}
    for path in paths:
        with open(path, "rb") as file:
            data = file.read()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" in data[-12:], path
        assert struct.unpack(">II", data[16:24]) == (1024, 720), path
    asked = [path for path in paths if "request" in path][-1]
    assert len(set(pixels(asked))) > 16, asked


def pixels(path):
    with open(path, "rb") as file:
        data = file.read()
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += size + 12
    return zlib.decompress(packed)


def alert(report, _folder, _rows):
    assert [one["title"] for one in report["alerts"]] == ["INV-1043 needs approval"], report["alerts"]


def steps(report, _folder, _rows):
    phases = [step["phase"] for step in report["timeline"]]
    assert phases == [phase for phase in ORDER if phase in phases], phases
    assert {"DISPLAY_READY", "WIPED", "LICENSE_RETURNED", "REPORTED"} <= set(phases), phases


def main():
    what, path, table = sys.argv[1:4]
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    with open(table, newline="", encoding="utf-8") as file:
        wanted = list(csv.DictReader(file))
    globals()[what](report, os.path.dirname(path), wanted)


main()
