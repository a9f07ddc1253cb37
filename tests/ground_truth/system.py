"""A small system with a weakness, for ground_truth.rs: two stores, a front door that fails over, an alert.

store1 is primary and acknowledges at once; what it has reaches store2 LAG later, so that its death loses the writes of the last LAG.
The front door looks at the primary every LOOK and makes store2 primary once it was gone for FAILOVER; its alert fires after ALARM.
"""

import json
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LAG, LOOK, ALARM, FAILOVER = 1.0, 0.05, 1.0, 2.0
PORTS = {"front": 8000, "store1": 8001, "store2": 8002}
NAME = sys.argv[1]
LOCK = threading.Lock()


def call(method, port, path, body=None, timeout=0.5):
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, method=method, data=body)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.status, answer.read()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, value=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def content(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class Store(Handler):
    primary = NAME == "store1"
    rows = []

    def do_GET(self):
        with LOCK:
            self.answer(200, [row for row, _ in Store.rows])

    def do_POST(self):
        body = self.content()
        if self.path == "/promote":
            Store.primary = True
            self.answer(200)
        elif self.path == "/replicate":
            with LOCK:
                Store.rows.extend((row, time.monotonic()) for row in json.loads(body))
            self.answer(200)
        elif Store.primary:
            with LOCK:
                Store.rows.append((self.path.rsplit("/", 1)[1], time.monotonic()))
            self.answer(201)
        else:
            self.answer(403)


def replicate():
    sent = 0
    while True:
        time.sleep(0.02)
        with LOCK:
            old = [row for row, at in Store.rows[sent:] if time.monotonic() - at >= LAG]
        if old:
            call("POST", PORTS["store2"], "/replicate", json.dumps(old).encode())
            sent += len(old)


class Front(Handler):
    primary = "store1"
    firing = False

    def do_GET(self):
        if self.path == "/primary":
            self.answer(200, {"name": Front.primary})
        elif self.path.startswith("/api/v2/alerts"):
            alert = {"labels": {"alertname": "PrimaryDown"}, "status": {"state": "active"}}
            self.answer(200, [alert] if Front.firing else [])
        else:
            self.forward("GET")

    def do_POST(self):
        self.forward("POST")

    def forward(self, method):
        try:
            status, body = call(method, PORTS[Front.primary], self.path, self.content() or None)
            self.answer(status, json.loads(body))
        except OSError:
            self.answer(503)


def watch():
    well = time.monotonic()
    while Front.primary == "store1":
        time.sleep(LOOK)
        try:
            call("GET", PORTS["store1"], "/", timeout=0.2)
            well = time.monotonic()
        except OSError:
            gone = time.monotonic() - well
            Front.firing = gone >= ALARM
            if gone >= FAILOVER:
                call("POST", PORTS["store2"], "/promote")
                Front.primary = "store2"
    time.sleep(3)
    Front.firing = False


TASKS = {"front": watch, "store1": replicate}
if NAME in TASKS:
    threading.Thread(target=TASKS[NAME], daemon=True).start()
handler = Front if NAME == "front" else Store
ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer(("0.0.0.0", PORTS[NAME]), handler)
server.daemon_threads = True
server.serve_forever()
