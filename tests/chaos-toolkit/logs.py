"""A control that writes a line per call, with all that it was given."""

import json
import os


def line(function, given):
    context, state = given.get("context") or {}, given.get("state")
    if isinstance(state, list):
        state = [[run["activity"]["name"], run.get("status")] for run in state]
    elif state and "steady_states" in state:
        state = [state["status"], state["deviated"], len(state["run"]), len(state["rollbacks"])]
    elif state and "probes" in state:
        state = [state["steady_state_met"], len(state["probes"])]
    elif state:
        state = [state["activity"]["name"], state["status"], sorted(state)]
    settings = given.get("settings") or {}
    shown = [function, given.get("say"), context.get("name", context.get("title")), state, given["configuration"].get("zone")]
    shown += [(given["secrets"] or {}).get("shop"), sorted(given["experiment"]), given.get("extensions"), settings.get("mine")]
    with open(os.path.join(os.environ["WORK"], "calls"), "a") as calls:
        calls.write(json.dumps(shown) + "\n")


def configure_control(experiment=None, configuration=None, secrets=None, settings=None, say=None):
    line("configure", locals())


def cleanup_control():
    with open(os.path.join(os.environ["WORK"], "calls"), "a") as calls:
        calls.write("cleanup\n")


def of(function):
    def called(context, say=None, experiment=None, configuration=None, secrets=None, settings=None, extensions=None, state=None):
        line(function, locals())

    return called


for part in ("experiment", "hypothesis", "method", "rollback", "activity"):
    for scope in ("before", "after"):
        globals()[f"{scope}_{part}_control"] = of(f"{scope} {part}")
