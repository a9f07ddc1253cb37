"""Calls functions for Squall: a request a line on standard input, an answer a line on standard output, each JSON.

What the functions print goes to standard error. The end of standard input ends this process at once.
"""
import datetime
import decimal
import importlib
import inspect
import json
import os
import sys
import threading
import traceback
import uuid

# The directory of this file is nobody's business; PYTHONPATH is as the user set it.
sys.path.pop(0)
requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
answering = threading.Lock()


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


def call(request):
    found = function(request)
    arguments = dict(request["arguments"])
    parameters = inspect.signature(found).parameters
    if request["secrets"] is not None and "secrets" in parameters:
        arguments["secrets"] = request["secrets"]
    if "configuration" in parameters:
        arguments["configuration"] = request["configuration"]
    try:
        value = found(**arguments)
    except Exception as error:
        traceback.print_exc()
        return {"failed": traceback.format_exception_only(type(error), error)[0].strip()}
    return {"ok": value}


def answer(request):
    try:
        said = {"check": check, "call": call}[request["op"]](request)
        line = json.dumps({"id": request["id"], **said}, default=encoded, allow_nan=False)
    except BaseException as error:
        said = traceback.format_exception_only(type(error), error)[0].strip()
        line = json.dumps({"id": request["id"], "broken": said})
    with answering:
        answers.write(line + "\n")
        answers.flush()


for line in requests:
    request = json.loads(line)
    if request["op"] == "check":
        answer(request)
    else:
        threading.Thread(target=answer, args=(request,), daemon=True).start()
os._exit(0)
