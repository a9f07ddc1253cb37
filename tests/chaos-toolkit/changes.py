"""A control that changes whatever it is given, remembers, fails and interrupts."""

import contextvars
import threading

from chaoslib.exceptions import InterruptExecution

remembered = contextvars.ContextVar("remembered", default="nothing")
thread = []


def configure_control(experiment, configuration, where="nowhere"):
    experiment["steady-state-hypothesis"]["probes"].append({
        "type": "probe", "name": "put there by a control", "tolerance": True,
        "provider": {"type": "python", "module": "probes", "func": "yes"},
    })
    configuration["word"] = "configured"
    # No JSON can say this; functions get it all the same.
    configuration["lock"] = threading.Lock()
    thread.append(threading.get_ident())


def interrupt(where, here):
    if where == here:
        raise InterruptExecution(f"in {here}")


def before_experiment_control(context, where, secrets):
    secrets["more"] = {"added": "another-secret"}
    interrupt(where, "before experiment")


def after_experiment_control(context, state, where):
    state["ticket"] = 7
    if where == "deviate":
        state["deviated"] = True


def before_hypothesis_control(context, where):
    interrupt(where, "before hypothesis")


def after_hypothesis_control(context, state, where):
    if where == "unsteady":
        state["steady_state_met"] = False
    interrupt(where, "after hypothesis")


def before_method_control(context, where):
    remembered.set("of the method")
    interrupt(where, "before method")


def after_method_control(context, state, where):
    if state is not None:
        state.append({**state[0], "output": "put there by a control"})
    interrupt(where, "after method")


def before_rollback_control(context, where):
    raise RuntimeError("this is nobody's business")


def before_activity_control(context, configuration, where):
    interrupt(where, f"before {context['name']}")
    if context["name"] == "say":
        context["provider"]["arguments"] = ["changed", configuration["word"], remembered.get(), "${added}"]
        context["pauses"] = {"before": 0.05}
        configuration["word"] = "once more"


def after_activity_control(context, state, where):
    if state is not None and context["name"] == "say":
        state["output"]["stdout"] += "and after"
        state["same-thread"] = thread == [threading.get_ident()]
    interrupt(where, f"after {context['name']}")
