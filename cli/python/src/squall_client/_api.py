"""Every operation of the API that this client uses. A test looks each of them up in the coordinator's OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass(frozen=True)
class Operation:
    method: str
    #: As in the document: `/v1/runs/{run}`.
    path: str
    #: The schema of the body that is sent, and the fields of it that are.
    sends: Optional[str] = None
    fields: Tuple[str, ...] = ()
    #: The status of success, and the schema of its answer; None: no JSON that is read by a schema.
    status: int = 200
    answers: Optional[str] = None


HEALTH = Operation("get", "/v1/health", answers="Health")
NODES = Operation("get", "/v1/nodes", answers="Nodes")
PLAN = Operation("post", "/v1/plans", sends="Submit", fields=("experiment", "seed"), answers="Planned")
SUBMIT = Operation("post", "/v1/runs", sends="Submit", fields=("experiment", "seed"), status=201, answers="Created")
RUNS = Operation("get", "/v1/runs", answers="RunSummaries")
STREAM = Operation("get", "/v1/runs/{run}/stream")
REPORT = Operation("get", "/v1/runs/{run}/report", answers="Report")
REPORT_PAGE = Operation("get", "/v1/runs/{run}/report.html")
HALT = Operation("post", "/v1/runs/{run}/halt", answers="Halted")
HALT_ALL = Operation("post", "/v1/halt", answers="Halted")
OPENAPI = Operation("get", "/v1/openapi.json")

ALL = [HEALTH, NODES, PLAN, SUBMIT, RUNS, STREAM, REPORT, REPORT_PAGE, HALT, HALT_ALL, OPENAPI]
#: Of the stream: from where it goes on.
LAST_EVENT_ID = "Last-Event-ID"
