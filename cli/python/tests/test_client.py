"""What the client does by itself: no coordinator, no fault."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import unittest
from pathlib import Path

from squall_client import Fault, Invalid, NotHeld, Report, Squall, Unreachable, _api
from squall_client._decode import camel, decode
from squall_client._http import Transport
from squall_client._models import Health


def report(verdict: str) -> Report:
    return Report(
        run="1", why="p95 of shop is 2 s", name="web-hangs", hypothesis="It keeps working.", seed=7, duration_us=1, probes=[],
        injections=[], breaches=[], refusals=[], verdict=verdict,
    )  # fmt: skip


class TheClient(unittest.TestCase):
    def test_reads_camel_case(self) -> None:
        self.assertEqual([camel(name) for name in ("p99_us", "why", "evidence_at_end")], ["p99Us", "why", "evidenceAtEnd"])

    def test_names_the_place_of_what_it_did_not_expect(self) -> None:
        answer = {"version": "1", "epoch": 1, "nodes": True, "activeRuns": 0}
        with self.assertRaisesRegex(Unreachable, "int at /nodes, found True"):
            decode(Health, answer)
        with self.assertRaisesRegex(Unreachable, "something at /activeRuns"):
            decode(Health, {"version": "1", "epoch": 1, "nodes": 1})
        self.assertEqual(decode(Health, {**answer, "nodes": 3, "later": "more"}).nodes, 3)

    def test_a_verdict_that_is_not_the_asserted_one_says_why(self) -> None:
        report("held").assert_held()
        report("refuted").assert_refuted()
        with self.assertRaisesRegex(NotHeld, "(?s)expected held: web-hangs: refuted.*p95 of shop is 2 s"):
            report("refuted").assert_held()

    def test_a_token_is_never_sent_in_the_clear(self) -> None:
        with self.assertRaisesRegex(Unreachable, "expected https://HOST:PORT"):
            Transport(url="http://127.0.0.1:7117", token="t", ca="")

    def test_an_access_file_that_is_none_is_told(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "access.json"
            with self.assertRaisesRegex(Unreachable, "cannot read the access file"):
                Squall.local(path)
            path.write_text(json.dumps({"url": "https://localhost:1"}))
            with self.assertRaisesRegex(Unreachable, "is no access file"):
                Squall.local(path)

    def test_an_answer_that_comes_before_the_body_was_read_is_heard(self) -> None:
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
            path = str(Path(directory) / "s")
            listening.bind(path)
            listening.listen()

            def answer() -> None:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(100)
                    problem = json.dumps({"kind": "invalid", "reasons": ["this is too much"]})
                    head = f"HTTP/1.1 413 Payload Too Large\r\nContent-Length: {len(problem)}\r\nConnection: close\r\n\r\n"
                    connection.sendall((head + problem).encode())

            thread = threading.Thread(target=answer)
            thread.start()
            # More than a socket's buffer holds: the other end is closed while it is sent.
            with self.assertRaisesRegex(Invalid, "this is too much"):
                Transport(path=path).call(_api.SUBMIT, body={"experiment": "x" * (8 << 20)})
            thread.join()

    def test_a_fault_is_a_step_of_an_experiment(self) -> None:
        step = Fault("network-latency", {"latency": "9ms"}, nodes={"role": "web"}, lasting=1.5).experiment()["method"][0]
        self.assertEqual(
            step, {"fault": "network-latency", "on": {"nodes": {"role": "web"}}, "for": "1500ms", "with": {"latency": "9ms"}}
        )


if __name__ == "__main__":
    unittest.main()
