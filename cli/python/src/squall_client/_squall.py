"""A coordinator, and what can be asked of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Type, Union

from . import _api
from ._daemon import Daemon, PathLike
from ._decode import decode
from ._faults import Fault
from ._http import Transport, login
from ._injection import Injection
from ._models import Checked, Created, Halted, Health, Node, Planned, Report, RunSummary
from .errors import Invalid, SquallError, Unreachable

#: Beside the access file: over it the kernel says who calls.
SOCKET = "squall.sock"
#: Seconds for which a lost coordinator is waited for. Agents undo by lease long before.
PATIENCE = 60.0

#: A path of a file; or its text, YAML or JSON; or what it says as a mapping.
Experiment = Union["os.PathLike[str]", str, Mapping[str, Any]]


class Squall:
    """Use `ephemeral`, `connect` or `local`, and a `with` block."""

    def __init__(self, transport: Transport, daemon: Optional[Daemon] = None) -> None:
        self._transport = transport
        self._daemon = daemon

    @classmethod
    def ephemeral(
        cls,
        *,
        labels: Optional[Mapping[str, str]] = None,
        policy: Optional[PathLike] = None,
        probe_commands: Optional[PathLike] = None,
        node: Optional[str] = None,
        program: Optional[PathLike] = None,
    ) -> "Squall":
        """A daemon for this process alone, on this host (real faults need root). It undoes everything and ends with the block.

        `program` is squalld's path; without it $SQUALLD, then PATH. `policy` is a file with the node's own limits.
        """
        daemon = Daemon(labels=labels, policy=policy, probe_commands=probe_commands, node=node, program=program)
        return cls(Transport(path=str(daemon.access.with_name(SOCKET))), daemon)

    @classmethod
    def connect(cls, url: str, *, token: str, ca: Union[str, "os.PathLike[str]"]) -> "Squall":
        """A coordinator elsewhere. `ca` is its authority's certificate: a path, or the PEM itself."""
        pem = ca if isinstance(ca, str) and "-----BEGIN" in ca else Path(ca).read_text()
        return cls(Transport(url=url.rstrip("/"), token=token, ca=pem, user=login()))

    @classmethod
    def local(cls, path: PathLike = "/run/squall/access.json") -> "Squall":
        """A coordinator of this machine: its unix socket, or the access file that it wrote."""
        place = Path(path)
        if place.is_socket():
            return cls(Transport(path=str(place)))
        try:
            access = json.loads(place.read_text())
            return cls.connect(access["url"], token=access["token"], ca=access["ca"])
        except OSError as error:
            raise Unreachable(f"cannot read the access file {place}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"{place} is no access file: {error}") from error

    def __enter__(self) -> "Squall":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends a daemon of our own: it undoes everything first. Raises NotReverted if it did not see that all is gone."""
        if self._daemon is not None:
            self._daemon.close()

    def inject(self, fault: Fault) -> Injection:
        """Returns once the fault is active on every node that it means. Raises Invalid or Refused with the reasons, and nothing is done."""
        injection = Injection(self, fault, self.start(fault.experiment()))
        try:
            injection._until_active()
        except BaseException:
            # Nobody will hold it.
            self._halt_quietly(injection.run)
            raise
        return injection

    def run(self, experiment: Experiment, *, seed: Optional[int] = None) -> Report:
        """Runs an experiment to its end. If this is interrupted the run is halted, and everything undone."""
        run = self.start(experiment, seed=seed)
        try:
            for _ in self._events(run, None):
                pass
        except BaseException:
            self._halt_quietly(run)
            raise
        return self.report(run)

    def steady_state(self, *probes: Mapping[str, Any], lasting: str = "1s") -> Report:
        """Probes with tolerances, as an experiment has them, without any fault: is the system whole?"""
        return self.run(
            {
                "apiVersion": "squall/v1",
                "kind": "Experiment",
                "metadata": {"name": "steady-state"},
                "hypothesis": "The system is in its steady state.",
                "steadyState": [dict(probe) for probe in probes],
                "blastRadius": {"maxDuration": "24h", "concurrentRuns": 64},
                "method": [{"wait": lasting}],
            }
        )

    def start(self, experiment: Experiment, *, seed: Optional[int] = None) -> str:
        """The run's id; it goes on by itself."""
        answer = self._transport.call(_api.SUBMIT, body=_submit(experiment, seed))
        return decode(Created, answer).run

    def plan(self, experiment: Experiment, *, seed: Optional[int] = None) -> List[Checked]:
        """What each agent would do, and why it would not; nothing is done."""
        return decode(Planned, self._transport.call(_api.PLAN, body=_submit(experiment, seed))).checks

    def report(self, run: str = "last") -> Report:
        return decode(Report, self._transport.call(_api.REPORT, run=run))

    def report_html(self, run: str = "last") -> str:
        """One self-contained page."""
        return self._transport.text(_api.REPORT_PAGE, run=run)

    def runs(self) -> List[RunSummary]:
        """Newest first."""
        return _each(RunSummary, self._transport.call(_api.RUNS))

    def nodes(self) -> List[Node]:
        return _each(Node, self._transport.call(_api.NODES))

    def health(self) -> Health:
        return decode(Health, self._transport.call(_api.HEALTH))

    def openapi(self) -> Dict[str, Any]:
        """The API's own description."""
        document: Dict[str, Any] = self._transport.call(_api.OPENAPI)
        return document

    def halt(self, run: Optional[str] = None) -> List[str]:
        """Undoes everything of one run, or of all; the runs that were told to."""
        operation = _api.HALT_ALL if run is None else _api.HALT
        return decode(Halted, self._transport.call(operation, run=run or "")).runs

    def _halt_quietly(self, run: str) -> None:
        try:
            self.halt(run)
        except SquallError:
            # The lease ends what the halt did not reach.
            pass

    def _events(self, run: str, last: Optional[int]) -> Iterator[Dict[str, Any]]:
        """To the last of them; a lost connection is taken up again."""
        lost: Optional[float] = None
        pause = 0.1
        while True:
            try:
                for event in self._transport.stream(run, last):
                    lost, pause, last = None, 0.1, event["seq"]
                    yield event
                    if event["event"] == "finished":
                        return
            except (OSError, Unreachable) as error:
                now = time.monotonic()
                lost = now if lost is None else lost
                if now - lost > PATIENCE or (last is None and isinstance(error, Unreachable)):
                    raise Unreachable(f"lost the coordinator: {error} (agents undo everything when their leases run out)") from error
            time.sleep(pause)
            pause = min(pause * 2, 2.0)


def _submit(experiment: Experiment, seed: Optional[int]) -> Dict[str, Any]:
    if isinstance(experiment, os.PathLike):
        try:
            experiment = Path(experiment).read_text(encoding="utf-8")
        except OSError as error:
            raise Invalid(f"cannot read the experiment: {error}") from error
    # A text is parsed by the coordinator, which names line and column of a mistake.
    body: Dict[str, Any] = {"experiment": experiment if isinstance(experiment, str) else dict(experiment)}
    if seed is not None:
        body["seed"] = seed
    return body


def _each(kind: Type[Any], answer: Any) -> List[Any]:
    if not isinstance(answer, list):
        raise Unreachable("the coordinator answered no list where one was expected")
    return [decode(kind, item) for item in answer]
