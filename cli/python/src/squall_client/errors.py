"""What can go wrong. `exit_code` is what the command line would end with."""

from __future__ import annotations


class SquallError(Exception):
    """Any of the below."""

    exit_code = 6


class Invalid(SquallError):
    """The experiment has mistakes; nothing was done."""

    exit_code = 2


class Refused(SquallError):
    """Blast radius, a policy, a host that cannot, or a role that may not; nothing was done."""

    exit_code = 3


class EndedEarly(SquallError):
    """A fault was gone before it was reverted: what was seen since then was seen without it. It is undone."""

    exit_code = 4


class NotReverted(SquallError):
    """It was not seen that everything is undone. Something may be left on a host: `squall sweep` looks, and undoes."""

    exit_code = 5


class Unreachable(SquallError):
    """The coordinator cannot be reached, or does not work; or `squalld` cannot be started."""

    exit_code = 6


class NotHeld(AssertionError):
    """The verdict of a run is not the one that was asserted."""
