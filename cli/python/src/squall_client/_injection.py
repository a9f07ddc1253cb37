"""A fault that is active, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Dict, List, Optional, Type

from ._decode import decode
from ._models import Changed, Finished, InjectionRow, Ordered
from .errors import EndedEarly, NotReverted, Refused, SquallError, Unreachable

if TYPE_CHECKING:
    from ._faults import Fault
    from ._squall import Squall

#: Nothing of it is on the host.
CLEAN = {"reverted", "gone-with-target", "failed", "refused"}
BEFORE_ACTIVE = {"ordered", "journaled", "applying"}


@dataclass(frozen=True)
class Reverted:
    """It was observed, on every node, that nothing of the fault is left."""

    injections: List[InjectionRow]

    @property
    def bites(self) -> Optional[bool]:
        """True: it was measured everywhere that it took effect. False: somewhere it did not. None: it could not be told."""
        told = [row.bites for row in self.injections]
        if False in told:
            return False
        return True if told and all(told) else None

    @property
    def seconds(self) -> float:
        """How long it was active, where it was active longest."""
        return max((row.delays.active_us or 0 for row in self.injections), default=0) / 1e6

    def assert_bites(self) -> None:
        """A fault that did not take effect proves nothing: raises AssertionError unless it was measured that it did."""
        if self.bites is not True:
            measured = [
                f"{row.node}: {one.what}: {one.before} before, {one.after} after"
                for row in self.injections
                for one in row.evidence + row.evidence_at_end
            ]
            raise AssertionError("nothing showed that the fault took effect: " + ("; ".join(measured) or "nothing was measured"))


class Injection:
    """Active from the moment that `Squall.inject` returns it. Ends with `revert()`, and so with its `with` block."""

    def __init__(self, squall: "Squall", fault: "Fault", run: str) -> None:
        self._squall = squall
        self._fault = fault
        #: The run's id.
        self.run = run
        self._last: Optional[int] = None
        self._states: Dict[str, Changed] = {}
        self._finished: Optional[Finished] = None
        self._result: Optional[Reverted] = None

    def _until_active(self) -> None:
        ordered: List[str] = []
        for event in self._squall._events(self.run, self._last):
            self._last = event["seq"]
            kind = event["event"]
            if kind == "ordered":
                ordered.append(decode(Ordered, event).injection)
            elif kind == "changed":
                self._note(decode(Changed, event))
                states = [self._states.get(name) for name in ordered]
                if states and all(change is not None and change.state not in BEFORE_ACTIVE | CLEAN for change in states):
                    return
                # What cannot be undone (a signal) may be over before we hear of it.
                if states and all(change is not None and change.state in {"reverted", "gone-with-target"} for change in states):
                    return
            elif kind == "finished":
                self._finished = decode(Finished, event)
                break
        raise self._why_not()

    def _note(self, change: Changed) -> None:
        self._states[change.injection] = change

    def _why_not(self) -> SquallError:
        report = self._squall.report(self.run)
        if any(row.state == "revert-unconfirmed" for row in report.injections):
            return NotReverted(report.summary())
        if report.verdict == "refused":
            return Refused("\n".join(report.refusals or [report.why]))
        return Unreachable(f"{self._fault.name} did not become active: {report.summary()}")

    def revert(self) -> Reverted:
        """Ends the fault; returns once its absence was observed on every node.

        Raises NotReverted if that could not be observed, and EndedEarly if the fault had ended before (its `lasting` was over, its agent
        was lost): what was seen since then was seen without it. Calling it again gives the same answer.
        """
        if self._result is None:
            self._squall.halt(self.run)
            for event in self._squall._events(self.run, self._last) if self._finished is None else ():
                self._last = event["seq"]
                if event["event"] == "finished":
                    self._finished = decode(Finished, event)
            report = self._squall.report(self.run)
            dirty = [row for row in report.injections if row.state not in CLEAN and row.state is not None]
            if dirty or report.verdict == "dirty":
                raise NotReverted(report.summary())
            early = [row for row in report.injections if row.cause in ("deadline", "lease", "recovery", "shutdown")]
            if early:
                said = "; ".join(f"on {row.node} by {row.cause} after {(row.delays.active_us or 0) / 1e6:.3f} s" for row in early)
                raise EndedEarly(f"{self._fault.name} had ended before it was reverted: {said} (lasting={self._fault.lasting!r})")
            self._result = Reverted(report.injections)
        return self._result

    def __enter__(self) -> "Injection":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self.revert()
        except EndedEarly:
            # It is undone, and what the block raised says more.
            if error is None:
                raise
