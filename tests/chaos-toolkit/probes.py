"""Functions of the experiments beside this file."""

import os


def number(value=0):
    return float(value)


def yes():
    return True


def is_even(value, secrets=None):
    return int(value) % 2 == 0


def greeting(name, configuration=None, secrets=None):
    assert secrets == {"token": "sesame-open"}, "the secrets that were asked for"
    return {"said": f"hello {name}", "zone": configuration["zone"], "pair": (1, 2)}


def fails(why):
    raise RuntimeError(why)


def absent(path):
    if os.path.exists(path):
        raise RuntimeError(f"{path} is there")
    return True


def has_lock(configuration):
    with configuration["lock"]:
        return configuration["word"]


def leaves():
    from chaoslib.exit import exit_gracefully

    exit_gracefully()
