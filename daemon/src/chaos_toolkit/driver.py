"""Calls functions for Squall: a request a line on standard input, an answer a line on standard output, each JSON.

What the functions print goes to standard error. The end of standard input ends this process at once. Calls of one lane are made one
after the other in one thread: those of lane 0 in the main one, as `chaos run` does it with what is not in the background.
"""
import ctypes
import datetime
import decimal
import importlib
import inspect
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
import uuid

# The directory of this file is nobody's business; PYTHONPATH is as the user set it.
sys.path.pop(0)
requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
answers = os.dup(1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
answering = threading.Lock()
# What controls share, as objects: what one changes the next one sees. `known`: as the other side has it.
held, known, version = {}, {}, 0
LOADING = ("before_loading_experiment_control", "after_loading_experiment_control")


def encoded(value):
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def shown(value):
    """Of what controls share: an object stays in this process, and outside of it is a text."""
    try:
        return encoded(value)
    except TypeError:
        return str(value)


def said_of(error):
    lines = traceback.format_exception_only(type(error), error)
    # What is wrong with a module's text comes last, after its place.
    return " ".join(" ".join(lines).split()) if isinstance(error, SyntaxError) else lines[0].strip()


def function(request):
    return getattr(importlib.import_module(request["module"]), request["func"])


def check(request):
    """Is there such a function, and does it take these arguments?"""
    name = f"{request['module']}.{request['func']}"
    try:
        found = function(request)
    except ImportError as error:
        return {"failed": f"the module `{request['module']}` cannot be imported: {error}"}
    except AttributeError:
        return {"failed": f"the module `{request['module']}` has no function `{request['func']}`"}
    arguments = dict(request["arguments"])
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return {"ok": None}
    for given in ("secrets", "configuration"):
        if given in signature.parameters:
            arguments[given] = None
    try:
        signature.bind(**arguments)
    except TypeError as error:
        return {"failed": f"`{name}` does not take these arguments: {error}"}
    return {"ok": None}


def check_control(request):
    """Can it be imported, does it ask for nothing that is not there, and is it content with what is written?"""
    control = request["control"]
    name = control["provider"]["module"]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return {"failed": f"the module `{name}` cannot be imported: {error}"}
    configure = getattr(module, "configure_control", None)
    if configure and "event_registry" in inspect.signature(configure).parameters:
        return {"failed": f"`{name}.configure_control` asks for an `event_registry`, which Squall does not have"}
    if request["global"]:
        loading = [part for part in LOADING if hasattr(module, part)]
        return {"failed": f"`{name}.{loading[0]}` is not called by Squall"} if loading else {"ok": None}
    validate = getattr(module, "validate_control", None)
    try:
        if validate:
            validate(control)
    except Exception as error:
        return {"failed": f"`{name}.validate_control` refuses it: {said_of(error)}"}
    return {"ok": None}


def call(request):
    found = function(request)
    arguments = dict(request["arguments"])
    parameters = inspect.signature(found).parameters
    if request["secrets"] is not None and "secrets" in parameters:
        arguments["secrets"] = request["secrets"]
    if "configuration" in parameters:
        arguments["configuration"] = held["configuration"].copy() if request["held"] else request["configuration"]
    try:
        value = found(**arguments)
    except Exception as error:
        traceback.print_exc()
        return {"failed": said_of(error)}
    return {"ok": value}


def hold(request):
    """What controls share from now on."""
    for key in ("experiment", "configuration", "secrets"):
        held[key] = request[key]
        known[key] = json.dumps(held[key], default=shown)
    return {"ok": None}


def news():
    """What of it was changed since it was last told, each as a text with its number."""
    global version
    told = {}
    for key, value in held.items():
        text = json.dumps(value, default=shown)
        if text != known[key]:
            version += 1
            known[key] = text
            told[key] = [version, text]
    return told


def context(at):
    value = held["experiment"]
    for part in at.split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def interrupts(error):
    names = [(kind.__module__, kind.__name__) for kind in type(error).__mro__]
    return ("chaoslib.exceptions", "InterruptExecution") in names or not isinstance(error, Exception)


def control(request):
    """One function of a control, if its module has it: what it made of everything, and what it raised."""
    found = getattr(importlib.import_module(request["module"]), request["func"], None)
    state, failed, interrupt = request["state"], None, False
    if found:
        experiment = held["experiment"]
        offered = {key: held[key] for key in ("experiment", "configuration", "secrets")}
        offered.update(state=state, settings=request["settings"], extensions=experiment.get("extensions"))
        try:
            parameters = inspect.signature(found).parameters
            arguments = dict(request["arguments"])
            arguments.update((name, value) for name, value in offered.items() if name in parameters)
            if request["func"] == "cleanup_control":
                found()
            elif request["func"] == "configure_control":
                found(**arguments)
            else:
                found(context=context(request["at"]), **arguments)
        except BaseException as error:
            failed, interrupt = said_of(error), interrupts(error)
            if not interrupt:
                traceback.print_exc()
    with answering:
        told = {"state": state, "failed": failed, "interrupt": interrupt, "news": news()}
        return {"ok": json.loads(json.dumps(told, default=shown))}


def write(line):
    # One that was cut off before it ends here.
    data = f"\n{line}\n".encode()
    while data:
        data = data[os.write(answers, data):]


def answer(request):
    try:
        said = OPERATIONS[request["op"]](request)
        line = json.dumps({"id": request["id"], **said}, default=encoded, allow_nan=False)
    except BaseException as error:
        line = json.dumps({"id": request["id"], "broken": said_of(error)})
    with answering:
        write(line)


class Cut(BaseException):
    """Squall was told to stop."""


class Lane:
    def __init__(self):
        self.requests = queue.SimpleQueue()
        self.thread = None
        self.busy = False

    def work(self):
        self.thread = threading.get_ident()
        while True:
            try:
                request = self.requests.get()
                self.busy = True
                answer(request)
            except Cut:
                pass
            self.busy = False


def cut(_):
    """Raises in whatever is under way, and says whether it has ended soon."""
    busy = [lane for lane in list(lanes.values()) if lane.busy]
    for lane in busy:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(lane.thread), ctypes.py_object(Cut))
    end = time.monotonic() + 1
    while any(lane.busy for lane in busy) and time.monotonic() < end:
        time.sleep(0.005)
    return {"ok": not any(lane.busy for lane in busy)}


OPERATIONS = {"check": check, "check_control": check_control, "call": call, "control": control, "hold": hold, "cut": cut}


def read():
    for line in requests:
        request = json.loads(line)
        if request["op"] == "cut":
            threading.Thread(target=answer, args=(request,), daemon=True).start()
            continue
        number = request.get("lane", 0)
        if number not in lanes:
            lanes[number] = Lane()
            threading.Thread(target=lanes[number].work, daemon=True).start()
        lanes[number].requests.put(request)
    os._exit(0)


def leave(_number, _frame):
    # As `chaoslib.exit` asks for it. A short line to a pipe is never torn, so it needs no turn.
    write('{"id": 0, "exit": true}')
    if lanes[0].busy:
        raise Cut


signal.signal(signal.SIGUSR1, leave)
signal.signal(signal.SIGUSR2, leave)
lanes = {0: Lane()}
threading.Thread(target=read, daemon=True).start()
lanes[0].work()
