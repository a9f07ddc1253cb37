"""Resilience tests: real failures in a test, undone when it ends, however it ends.

    from squall_client import Fault, Squall

    with Squall.ephemeral() as squall:
        with squall.inject(Fault("process-pause", processes={"port": 8081})):
            assert get("http://127.0.0.1:8080/").status == 200
        squall.run(Path("web-hangs.yaml")).assert_held()

An ephemeral Squall is a daemon of its own (`squalld`) whose standard input is a pipe that this process holds: when the pipe closes, for
whatever reason (the end of the block, an exception, SIGKILL), the daemon undoes everything and ends.
"""

from ._faults import Fault
from ._injection import Injection, Reverted
from ._models import Breach, Checked, Evidence, Health, InjectionRow, Node, Phase, Probe, Report, RunSummary
from ._squall import Squall
from .errors import EndedEarly, Invalid, NotHeld, NotReverted, Refused, SquallError, Unreachable

__version__ = "0.1.0"

__all__ = [
    "Breach",
    "Checked",
    "EndedEarly",
    "Evidence",
    "Fault",
    "Health",
    "Injection",
    "InjectionRow",
    "Invalid",
    "Node",
    "NotHeld",
    "NotReverted",
    "Phase",
    "Probe",
    "Refused",
    "Report",
    "Reverted",
    "RunSummary",
    "Squall",
    "SquallError",
    "Unreachable",
]
