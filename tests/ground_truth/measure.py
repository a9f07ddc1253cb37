"""What a plain client sees of the system's failure, for ground_truth.rs. It knows nothing of Squall.

measure.py PID kill    kills PID by itself after three seconds
measure.py PID watch   waits until somebody else has killed it

Says, in seconds from the death: `recovered` (answer of the first of three successes in a row), `detected` (first answer with the
alert); `failover` (first answer with another primary); `acknowledged` and `lost` writes, and `lost_span` (last kept acknowledgement before the first lost one to the last lost one).
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.request

URL = "http://127.0.0.1:8000"
PID, HOW = int(sys.argv[1]), sys.argv[2]
writes, alarms, primaries, lock = [], [], [], threading.Lock()
done = threading.Event()


def call(method, path, timeout=1.0):
    request = urllib.request.Request(URL + path, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read()


def write(number):
    began = time.monotonic()
    try:
        call("POST", f"/orders/plain-{number}")
        ok = True
    except OSError:
        ok = False
    with lock:
        writes.append((began, time.monotonic(), ok, f"plain-{number}"))


def writer():
    start, number = time.monotonic(), 0
    while not done.is_set():
        time.sleep(max(0.0, start + number * 0.05 - time.monotonic()))
        threading.Thread(target=write, args=(number,), daemon=True).start()
        number += 1


def listener():
    while not done.is_set():
        if json.loads(call("GET", "/api/v2/alerts")):
            alarms.append(time.monotonic())
        primaries.append((time.monotonic(), json.loads(call("GET", "/primary"))["name"]))
        time.sleep(0.02)


def alive():
    try:
        with open(f"/proc/{PID}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def recovery(died):
    row = []
    failed = False
    for began, ended, ok, _ in sorted(writes):
        if began < died:
            continue
        failed, row = failed or not ok, row + [ended] if ok and failed else []
        if len(row) == 3:
            return row[0]
    return None


for task in (writer, listener):
    threading.Thread(target=task, daemon=True).start()
if HOW == "kill":
    time.sleep(3)
    died = time.monotonic()
    os.kill(PID, signal.SIGKILL)
else:
    while alive():
        time.sleep(0.005)
    died = time.monotonic()
recovered = None
while recovered is None and time.monotonic() - died < 30:
    time.sleep(0.1)
    with lock:
        recovered = recovery(died)
done.set()
time.sleep(2)
there = set(json.loads(call("GET", "/orders")))
acknowledged = sorted((ended, name) for _, ended, ok, name in writes if ok)
lost = [at for at, name in acknowledged if name not in there]
kept = [at for at, name in acknowledged if name in there and lost and at <= lost[0]]
others = [at for at, name in primaries if at > died and name != primaries[0][1]]
print(json.dumps({
    "recovered": recovered and recovered - died,
    "detected": min(alarms) - died if alarms else None,
    "failover": min(others) - died if others else None,
    "acknowledged": len(acknowledged),
    "lost": len(lost),
    "lost_span": lost[-1] - max(kept or lost[:1]) if lost else 0.0,
}))
