"""A fault to inject: the step of an experiment, without the experiment around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Union

#: Runs that may be active beside each other: several injections at once are the point of a test.
TOGETHER = 64


@dataclass(frozen=True)
class Fault:
    """`name` and `parameters` are those of `squall faults`; the rest are the words of an experiment's `on:`.

        Fault("process-pause", processes={"port": 8081})
        Fault("network-latency", {"latency": "150ms", "peerNodes": {"role": "proxy"}}, nodes={"role": "web"}, pick={"count": 1})

    `lasting` is the longest that the fault stays, if nothing ends it sooner: a test that hangs does not keep it.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: Which nodes; without it all (an ephemeral Squall has one).
    nodes: Mapping[str, Any] = field(default_factory=dict)
    pick: Mapping[str, Any] = field(default_factory=dict)
    #: `port`, `command`, `name`, `user`, `pidFile`, `cgroup`, `unit`, `container`: those that are given must all hold.
    processes: Optional[Mapping[str, Any]] = None
    interface: Optional[str] = None
    path: Optional[str] = None
    #: A duration as experiments have them, or seconds.
    lasting: Union[str, float] = "5m"
    #: Nodes that may be hit at once.
    most_nodes: int = 1

    def duration(self) -> str:
        return self.lasting if isinstance(self.lasting, str) else f"{round(self.lasting * 1000)}ms"

    def experiment(self) -> Dict[str, Any]:
        """One step; its steady state is that every agent answers, because the test itself says what must hold."""
        on: Dict[str, Any] = {"nodes": dict(self.nodes)}
        if self.pick:
            on["pick"] = dict(self.pick)
        if self.processes is not None:
            on["processes"] = dict(self.processes)
        if self.interface is not None:
            on["interface"] = self.interface
        if self.path is not None:
            on["path"] = self.path
        probe = {
            "name": "agents-answer",
            "process": {"nodes": dict(self.nodes), "processes": {"name": "squalld"}},
            "every": "20ms",
            "modes": ["before"],
            "tolerance": {"value": ">= 0", "minSamples": 1},
        }
        step: Dict[str, Any] = {"fault": self.name, "on": on, "for": self.duration()}
        if self.parameters:
            step["with"] = dict(self.parameters)
        return {
            "apiVersion": "squall/v1",
            "kind": "Experiment",
            "metadata": {"name": "injected-by-a-test"},
            "hypothesis": f"A test says what must hold while {self.name} is active.",
            "steadyState": [probe],
            "blastRadius": {"nodes": self.most_nodes, "maxDuration": "24h", "concurrentRuns": TOGETHER},
            "method": [step],
        }
