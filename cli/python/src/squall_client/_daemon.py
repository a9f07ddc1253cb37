"""A daemon for this process alone: coordinator and agent in one, gone when its standard input closes."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, List, Mapping, Optional, Union

from .errors import NotReverted, Unreachable

#: Seconds until it serves.
START = 15.0
#: Seconds for undoing all that is active: longer than any lease.
END = 30.0
#: Of its log, for an error message.
LAST = 4000

PathLike = Union[str, "os.PathLike[str]"]


def find() -> str:
    """$SQUALLD if it is set, else in PATH."""
    named = os.environ.get("SQUALLD")
    if named:
        if not Path(named).is_file():
            raise Unreachable(f"SQUALLD names {named}, which is no file")
        return named
    found = shutil.which("squalld")
    if found is None:
        raise Unreachable("squalld was not found in PATH: install it, or set SQUALLD to its path")
    return found


class Daemon:
    def __init__(
        self,
        *,
        labels: Optional[Mapping[str, str]] = None,
        policy: Optional[PathLike] = None,
        probe_commands: Optional[PathLike] = None,
        node: Optional[str] = None,
        program: Optional[PathLike] = None,
    ) -> None:
        self._program = os.fspath(program) if program is not None else find()
        arguments: List[str] = [self._program, "dev", "--ephemeral"]
        for name, value in (labels or {}).items():
            arguments += ["--label", f"{name}={value}"]
        for flag, path in (("--policy", policy), ("--probe-commands", probe_commands), ("--node", node)):
            if path is not None:
                arguments += [flag, os.fspath(path)]
        self._log: IO[bytes] = tempfile.TemporaryFile()
        self._drain: Optional[threading.Thread] = None
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                # Ctrl-C reaches the whole group: the daemon hears of it from us and undoes in order.
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise Unreachable(f"cannot start {self._program}: {error}") from error
        try:
            ready = json.loads(self._first_line())
            #: Path of the file with address, authority and token.
            self.access = Path(ready["access"])
        except BaseException as error:
            said = self._end_and_log()
            if isinstance(error, (ValueError, KeyError, Unreachable)):
                hint = "" if os.geteuid() == 0 else "\nreal faults need root: try sudo"
                raise Unreachable(f"{self._program} dev did not start: {error}{said}{hint}") from error
            raise

    def _first_line(self) -> bytes:
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], START)[0]:
            raise Unreachable(f"it did not serve within {START:.0f} s")
        line = output.readline()
        if not line:
            raise Unreachable("it ended before it served")
        # To its end, so that nothing it prints can block it.
        self._drain = threading.Thread(target=output.read, daemon=True)
        self._drain.start()
        return line

    def _told(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - LAST))
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        return "".join(f"\n    squalld: {line}" for line in lines)

    def _end_and_log(self) -> str:
        self._ask_to_end()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            pass
        return self._gone()

    def _gone(self) -> str:
        """What it said, once it has ended."""
        said = self._told()
        self._log.close()
        output = self._process.stdout
        if output is not None and not (self._drain and self._drain.is_alive()):
            output.close()
        return said

    def _ask_to_end(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass
        # A process that was forked meanwhile holds the pipe, too.
        if self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        """Lets it undo what is left and end. Raises NotReverted if it did not see that all of it is gone."""
        if self._log.closed:
            return
        self._ask_to_end()
        sweep = f"`squall sweep --state-dir {self.access.with_name('agent')}` undoes what was left"
        try:
            status = self._process.wait(END)
        except subprocess.TimeoutExpired:
            said = self._told()
            raise NotReverted(f"squalld did not end within {END:.0f} s; it still undoes; {sweep}{said}") from None
        if self._drain is not None:
            self._drain.join(1)
        said = self._gone()
        if status != 0:
            raise NotReverted(f"squalld ended with {status}; {sweep}{said}")
