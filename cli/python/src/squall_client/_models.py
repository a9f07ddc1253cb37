"""What the coordinator says, as far as this client reads it.

Each class names the schema of the OpenAPI document that it is read from; each field stands there in camel case. A test compares them
with the document, field by field and type by type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, List, Optional

from .errors import NotHeld


@dataclass(frozen=True)
class Health:
    SCHEMA: ClassVar[str] = "Health"
    version: str
    epoch: int
    nodes: int
    active_runs: int


@dataclass(frozen=True)
class Node:
    SCHEMA: ClassVar[str] = "NodeNow"
    name: str
    connected: bool
    labels: Dict[str, str] = field(default_factory=dict)
    zone: Optional[str] = None
    #: Injections whose end is not confirmed.
    unconfirmed: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Created:
    SCHEMA: ClassVar[str] = "Created"
    run: str


@dataclass(frozen=True)
class Halted:
    SCHEMA: ClassVar[str] = "Halted"
    runs: List[str]


@dataclass(frozen=True)
class Problem:
    SCHEMA: ClassVar[str] = "Problem"
    kind: str
    reasons: List[str]


@dataclass(frozen=True)
class Checked:
    """What an agent says of its part in a plan."""

    SCHEMA: ClassVar[str] = "Checked"
    injection: str
    node: str
    #: Why it would be refused; empty: it would be done.
    refusals: List[str]
    #: What it would hit.
    notes: List[str]


@dataclass(frozen=True)
class Planned:
    SCHEMA: ClassVar[str] = "Planned"
    checks: List[Checked]


@dataclass(frozen=True)
class RunSummary:
    SCHEMA: ClassVar[str] = "RunSummary"
    run: str
    name: str
    by: str
    duration_us: int
    why: str
    seed: int
    #: None while it runs.
    verdict: Optional[str] = None


@dataclass(frozen=True)
class Evidence:
    """One measurement before a fault and while it is active."""

    SCHEMA: ClassVar[str] = "Evidence"
    what: str
    before: str
    after: str
    #: None: could not be told.
    bites: Optional[bool] = None


@dataclass(frozen=True)
class Delays:
    SCHEMA: ClassVar[str] = "Delays"
    #: How long it was active, until its absence was observed. Microseconds.
    active_us: Optional[int] = None


@dataclass(frozen=True)
class InjectionRow:
    """One fault of a run on one node."""

    SCHEMA: ClassVar[str] = "InjectionRow"
    injection: str
    node: str
    fault: str
    effects: List[str]
    delays: Delays
    detail: str
    evidence: List[Evidence]
    evidence_at_end: List[Evidence]
    #: As in `reverted`, `gone-with-target`, `revert-unconfirmed`. None: never ordered.
    state: Optional[str] = None
    #: Why it ended: `deadline`, `ordered`, `halt`, `lease`, `recovery`, `shutdown`, `holder-ended`.
    cause: Optional[str] = None
    #: False: measured, and it did not take effect. None: nothing could be measured.
    bites: Optional[bool] = None


@dataclass(frozen=True)
class Phase:
    """A probe before, during or after the faults."""

    SCHEMA: ClassVar[str] = "Statistics"
    phase: str
    samples: int
    ok: int
    bad: int
    unknown: int
    detail: str
    #: Percent of the samples that could tell.
    success: Optional[float] = None
    p50_us: Optional[int] = None
    p95_us: Optional[int] = None
    p99_us: Optional[int] = None
    #: `pass`, `fail` or `unknown`.
    judgement: Optional[str] = None


@dataclass(frozen=True)
class Probe:
    SCHEMA: ClassVar[str] = "ProbeReport"
    name: str
    what: str
    tolerance: List[str]
    phases: List[Phase]

    def phase(self, name: str) -> Optional[Phase]:
        """`before`, `during` or `after`; None: it was not sampled in it."""
        return next((phase for phase in self.phases if phase.phase == name), None)


@dataclass(frozen=True)
class Breach:
    SCHEMA: ClassVar[str] = "Breach"
    at_us: int
    what: str
    detail: str


@dataclass(frozen=True)
class Report:
    """How a run ended. `document` is all of it, as the API gives it."""

    SCHEMA: ClassVar[str] = "Report"
    run: str
    why: str
    name: str
    hypothesis: str
    seed: int
    duration_us: int
    probes: List[Probe]
    injections: List[InjectionRow]
    breaches: List[Breach]
    refusals: List[str]
    #: `held`, `refuted`, `refused`, `aborted`, `dirty` or `inconclusive`; None while it runs.
    verdict: Optional[str] = None
    exit_code: Optional[int] = None
    aborted: Optional[str] = None
    document: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def held(self) -> bool:
        return self.verdict == "held"

    def probe(self, name: str) -> Probe:
        """Raises KeyError if the experiment has no such probe."""
        for probe in self.probes:
            if probe.name == name:
                return probe
        raise KeyError(f"no probe {name!r}, there are: {', '.join(probe.name for probe in self.probes)}")

    def assert_held(self) -> None:
        """Raises NotHeld, with everything that explains it, unless the steady state held."""
        self.assert_verdict("held")

    def assert_refuted(self) -> None:
        """For a weakness that is known: raises NotHeld unless the run found it."""
        self.assert_verdict("refuted")

    def assert_verdict(self, wanted: str) -> None:
        if self.verdict != wanted:
            raise NotHeld(f"expected {wanted}: {self.summary()}")

    def summary(self) -> str:
        """A few lines for people."""
        lines = [f"{self.name}: {self.verdict or 'not ended'}: {self.hypothesis}"]
        lines += [f"  {reason}" for reason in [self.why, *self.refusals, self.aborted or ""] if reason]
        lines += [f"  breach of {breach.what} after {breach.at_us / 1e6:.3f} s: {breach.detail}" for breach in self.breaches]
        for probe in self.probes:
            for phase in probe.phases:
                share = "-" if phase.success is None else f"{phase.success:.2f}%"
                judged = phase.judgement or "not judged"
                lines.append(f"  {probe.name} {phase.phase}: {judged}, success {share} of {phase.samples} samples {phase.detail}".rstrip())
        for row in self.injections:
            lines.append(f"  {row.fault} on {row.node}: {row.state or 'never ordered'} {row.detail}".rstrip())
        return "\n".join(lines)


@dataclass(frozen=True)
class Change:
    """What an agent says with a change of state."""

    SCHEMA: ClassVar[str] = "InjectionReport"
    detail: str = ""
    cause: Optional[str] = None


@dataclass(frozen=True)
class Ordered:
    #: One of the alternatives of `RunEvent`, told by its `event`.
    EVENT: ClassVar[str] = "ordered"
    injection: str


@dataclass(frozen=True)
class Changed:
    EVENT: ClassVar[str] = "changed"
    injection: str
    node: str
    state: str
    report: Change


@dataclass(frozen=True)
class Finished:
    EVENT: ClassVar[str] = "finished"
    verdict: str
    why: str


#: Every class that is read from a schema of the document, and those that are events.
SCHEMAS: List[Any] = [
    Breach, Change, Checked, Created, Delays, Evidence, Halted, Health, InjectionRow, Node, Phase, Planned, Probe, Problem, Report,
    RunSummary,
]
EVENTS: List[Any] = [Ordered, Changed, Finished]
#: Filled by this client, no field of the document.
OWN_FIELDS = {"document"}
