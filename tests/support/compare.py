#!/usr/bin/env python3
"""Judges a session record against the simulators' own truth. Shares no code with the program that wrote either.

    compare.py RECORD TRUTH [TRUTH ...] [--session ID] [--expect-fail] [--no-highest]

RECORD is a data directory or a record database. A TRUTH file holds JSON lines, cumulative since its simulator started:
{"clock":"monotonic","t_us":..,"unit":"<label>","channel":0,"on_us":..,"pulses":..,"charge_pc":..,"speed_us":..,
"present":..,"highest":..}, one each second, one at every change between zero and non-zero output, one at exit.
Lines of another "kind" than "delivered" (what a unit heard) are passed over.

Per unit and channel, and per area, of output time, pulses, charge and raw speed x time, it must hold that
    record_min <= truth <= record_max                      (the record contains the truth)
    record_max - truth <= bound                            (the record is not uselessly wide)
and the highest intensity of a stimulator is at most the record's. (A gun's own button may raise it between two reports.) Prints one table. Exit 0: all holds; 1: a violation; 2: usage.
With --expect-fail 0 and 1 change places: a seeded defect must be found.
"""

import argparse
import json
import os
import sqlite3
import sys

QUANTITIES = ("on_us", "pulses", "charge_pc", "speed_us")
NAMES = {"on_us": "on_{}_us", "pulses": "pulses_{}", "charge_pc": "charge_{}_pc", "speed_us": "speed_{}_raw_us"}

FORMULA = """bound, by which record_max may lie above the truth (tail, ack: stop_tail_us, acknowledge_us of the unit's open entry):
  edge  = sum over bouts (doses without a gap) of 4 x ack + tail + proof (two x ack to notice each end; proof: the
          longest time that the record says a stop of this unit took to be proven)
  wide  = sum over uncertain doses of max - min; for pulses and charge also over those so weak that an open pad may
          stay unnoticed, for which the record has no lower bound
  on    = edge + wide
  pulses= sum over bouts of edge / period + 2, + 1 per dose, + wide
  charge= (sum over bouts of edge / period + 2, + sum over doses of ack / period + 1) x its phase charge, + wide
  speed = (edge of each bout + ack of each dose) x its upper number, + wide"""


def die(text):
    print(text, file=sys.stderr)
    sys.exit(2)


class Dose:
    """One dose entry, on the system's monotonic clock."""

    def __init__(self, body, device, origin, session):
        self.unit = device["label"]
        self.channel = body["channel"]
        self.place = body["area"] + " " + body["side"]
        self.begin = body["from_us"] + origin
        self.end = body["until_us"] + origin
        self.session = session
        self.uncertain = body["evidence"] == "uncertain"
        self.ack = device["acknowledge_us"]
        self.tail = device["stop_tail_us"]
        upper = body["upper"]
        pulses = upper.get("pulses")
        self.period = pulses["period_us"] if pulses else None
        self.phase_charge = pulses["current_ua"] * pulses["width_us"] if pulses else 0
        self.number = upper.get("speed_raw", upper.get("level", 0))
        self.highest = pulses["current_ua"] if pulses else self.number
        self.low = {q: body[NAMES[q].format("min")] for q in QUANTITIES}
        self.high = {q: body[NAMES[q].format("max")] for q in QUANTITIES}

    def narrow(self, body):
        self.low = {q: max(self.low[q], body[NAMES[q].format("min")]) for q in QUANTITIES}
        self.high = {q: min(self.high[q], body[NAMES[q].format("max")]) for q in QUANTITIES}


def read_record(path, sessions):
    """Returns all doses of the record."""
    if os.path.isdir(path):
        path = os.path.join(path, "record.db")
    if not os.path.exists(path):
        die(f"no record at {path}")
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    kinds = "('open', 'dose', 'recovered', 'stop_progress', 'narrowed')"
    rows = database.execute(f"SELECT session, kind, body FROM entry WHERE kind IN {kinds} ORDER BY n").fetchall()
    doses, opened, proof, known = [], {}, {}, {}
    for session, kind, text in rows:
        if sessions and session not in sessions:
            continue
        body = json.loads(text)
        if kind == "open":
            opened[session] = body
            continue
        if kind == "narrowed":
            # What a later source proves must contain the truth too. A person's resolution proves nothing.
            dose = known.get((body.get("of", session), body["dose"]["id"]))
            if dose:
                dose.narrow(body["dose"])
            continue
        head = opened[session]
        if kind == "stop_progress":
            key = (session, head["devices"][body["device"]]["label"])
            if body["progress"] == "confirmed":
                proof[key] = max(proof.get(key, 0), body["after_us"])
            continue
        body = body["dose"] if kind == "recovered" else body
        doses.append(Dose(body, head["devices"][body["device"]], head["mono_origin_us"], session))
        known[session, body["id"]] = doses[-1]
    if not opened:
        die("the record holds none of these sessions")
    for dose in doses:
        dose.proof = proof.get((dose.session, dose.unit), 0)
    return doses, {device["label"] for head in opened.values() for device in head["devices"]}


def read_truth(paths):
    """Returns, per unit and channel, the lines of each file in order."""
    series = {}
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for number, text in enumerate(lines, 1):
                if not text.strip():
                    continue
                try:
                    line = json.loads(text)
                    if line.get("kind", "delivered") != "delivered":
                        continue
                    key = (line["unit"], line["channel"])
                    point = (line["t_us"],) + tuple(line[q] for q in QUANTITIES) + (line["highest"],)
                except (ValueError, KeyError) as problem:
                    die(f"{path}:{number}: not a truth line: {problem!r}")
                if line.get("clock") != "monotonic":
                    die(f"{path}:{number}: the clock is not monotonic")
                series.setdefault(key, {}).setdefault(path, []).append(point)
    return series


def bouts(doses):
    """Groups doses that follow one another without a gap of 10 ms."""
    groups = []
    for dose in sorted(doses, key=lambda dose: (dose.session, dose.begin)):
        last = groups[-1][-1] if groups else None
        if last and last.session == dose.session and last.place == dose.place and dose.begin - last.end < 10_000:
            groups[-1].append(dose)
        else:
            groups.append([dose])
    return groups


def bound_of(doses):
    bound = dict.fromkeys(QUANTITIES, 0)
    for bout in bouts(doses):
        edge = max(4 * dose.ack + dose.tail + dose.proof for dose in bout)
        bound["on_us"] += edge
        bound["speed_us"] += edge * max(dose.number for dose in bout)
        periods = [dose.period for dose in bout if dose.period]
        if periods:
            pulses = edge // min(periods) + 2
            bound["pulses"] += pulses
            bound["charge_pc"] += pulses * max(dose.phase_charge for dose in bout)
    for dose in doses:
        bound["speed_us"] += dose.ack * dose.number
        if dose.period:
            bound["pulses"] += 1
            bound["charge_pc"] += (dose.ack // dose.period + 1) * dose.phase_charge
        if dose.uncertain:
            for quantity in QUANTITIES:
                bound[quantity] += dose.high[quantity] - dose.low[quantity]
        elif dose.period and dose.low["on_us"] > 0 and dose.low["pulses"] == 0:
            # Below what the unit notices, a pad may be off: the record has no lower bound, and says so.
            for quantity in ("pulses", "charge_pc"):
                bound[quantity] += dose.high[quantity]
    return bound


def place_of(doses, begin, end):
    """Returns where output between two truth lines is booked: the dose it overlaps most, certain ones first."""

    def rank(dose):
        overlap = min(end, dose.end) - max(begin, dose.begin)
        return (overlap > 0 and not dose.uncertain, overlap)

    return max(doses, key=rank).place if doses else "nowhere on record"


def truth_of(files, doses):
    """Returns the truth of one output: in all, its highest intensity, and by place."""
    total, highest, places = dict.fromkeys(QUANTITIES, 0), 0, {}
    for points in files.values():
        before = (points[0][0], 0, 0, 0, 0)
        for point in points:
            for index, quantity in enumerate(QUANTITIES, 1):
                more = point[index] - before[index]
                if more < 0:
                    die(f"truth of {quantity} falls at {point[0]}")
                if more:
                    place = place_of(doses, before[0], point[0])
                    places.setdefault(place, dict.fromkeys(QUANTITIES, 0))[quantity] += more
                    total[quantity] += more
            highest = max(highest, point[5])
            before = point
    return total, highest, places


class Table:
    def __init__(self):
        self.rows, self.violations = [], 0

    def add(self, scope, quantity, low, truth, high, bound):
        words = []
        if truth < low:
            words.append("TRUTH BELOW RECORD")
        if truth > high:
            words.append("TRUTH ABOVE RECORD")
        if bound is not None and high - truth > bound:
            words.append("RECORD TOO WIDE")
        self.violations += bool(words)
        over = "-" if bound is None else str(high - truth)
        shown = (scope, quantity, str(low), str(truth), str(high), over, "-" if bound is None else str(bound))
        self.rows.append(shown + (", ".join(words) or "ok",))

    def show(self):
        head = ("output or area", "quantity", "record min", "truth", "record max", "max - truth", "bound", "")
        rows = [head] + self.rows
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        for row in rows:
            cells = [row[i].ljust(widths[i]) if i in (0, 1, 7) else row[i].rjust(widths[i]) for i in range(len(head))]
            print("  ".join(cells).rstrip())


def compare_scope(table, scope, doses, truth):
    bound = bound_of(doses)
    for quantity in QUANTITIES:
        low = sum(dose.low[quantity] for dose in doses)
        high = sum(dose.high[quantity] for dose in doses)
        if low or high or truth[quantity]:
            table.add(scope, quantity, low, truth[quantity], high, bound[quantity])


def main():
    parser = argparse.ArgumentParser(description="judge a record against the truth")
    parser.add_argument("record")
    parser.add_argument("truth", nargs="+")
    parser.add_argument("--session", action="append", help="only this session; may be repeated")
    parser.add_argument("--expect-fail", action="store_true", help="exit 0 when a violation is found, 1 when none is")
    parser.add_argument("--no-highest", action="store_true", help="do not compare the highest intensity")
    chosen = parser.parse_args()
    doses, labels = read_record(chosen.record, chosen.session)
    series = read_truth(chosen.truth)
    table = Table()
    by_place = {}
    nothing = dict.fromkeys(QUANTITIES, 0)
    for key in sorted(set(series) | {(dose.unit, dose.channel) for dose in doses}):
        own = [dose for dose in doses if (dose.unit, dose.channel) == key]
        if key not in series and any(any(dose.low.values()) for dose in own):
            print(f"violation: {key[0]} channel {key[1]} is on record and has no truth")
            table.violations += 1
        total, highest, places = truth_of(series.get(key, {}), own)
        if key[0] not in labels and any(total.values()):
            print(f"violation: {key[0]} gave output and is no unit of the record")
            table.violations += 1
        scope = f"{key[0]} ch {key[1]}"
        compare_scope(table, scope, own, total)
        stimulator = any(dose.period for dose in own)
        if not chosen.no_highest and (own or highest) and (stimulator or not own):
            table.add(scope, "highest", 0, highest, max((dose.highest for dose in own), default=0), None)
        for place in set(places) | {dose.place for dose in own}:
            kind = "speed" if any(dose.period is None for dose in own) else "pulses"
            sums, theirs = by_place.setdefault((place, kind), (dict(nothing), []))
            theirs.extend(dose for dose in own if dose.place == place)
            for quantity in QUANTITIES:
                sums[quantity] += places.get(place, nothing)[quantity]
    for (place, kind), (truth, theirs) in sorted(by_place.items()):
        compare_scope(table, f"{place} ({kind})", theirs, truth)
    print(FORMULA)
    table.show()
    if not table.rows:
        print("violation: there is nothing to compare")
        table.violations += 1
    found = table.violations > 0
    print(f"{table.violations} violations" + (", as expected" if found and chosen.expect_fail else ""))
    sys.exit(1 if found != chosen.expect_fail else 0)


if __name__ == "__main__":
    main()
