"""Calls to the coordinator: over its unix socket, on which the kernel says who calls, or over TLS with a token."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from contextlib import closing
from typing import Any, Dict, Iterator, List, Optional
from urllib.parse import quote, urlsplit

from ._api import LAST_EVENT_ID, STREAM, Operation
from ._decode import decode
from ._models import Problem
from .errors import Invalid, Refused, SquallError, Unreachable

#: Seconds until a connection stands.
CONNECT = 5.0
#: Seconds of one call, its answer included.
CALL = 30.0
#: Seconds of silence after which a stream is given up (probes and leases make a run talk more often than this).
SILENCE = 20.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("squalld", timeout=CALL)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT)
        self.sock.connect(self._path)
        self.sock.settimeout(self.timeout)


class Transport:
    """Where the coordinator is, and how it knows us. Each call has a connection of its own, so threads may share this."""

    def __init__(self, *, path: Optional[str] = None, url: str = "", token: str = "", ca: str = "", user: str = "") -> None:
        self._path = path
        self._headers: Dict[str, str] = {"Accept": "application/json"}
        self.place = path or url
        if path is not None:
            return
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise Unreachable(f"the coordinator's URL is `{url}`, expected https://HOST:PORT (a token is never sent in the clear)")
        self._host, self._port = parts.hostname, parts.port or 443
        try:
            self._context = ssl.create_default_context(cadata=ca)
        except (ssl.SSLError, ValueError) as error:
            raise Unreachable(f"the authority's certificate (ca) is no PEM: {error}") from error
        self._headers["Authorization"] = f"Bearer {token}"
        if user:
            self._headers["Squall-User"] = user

    def call(self, operation: Operation, *, run: str = "", body: Optional[Dict[str, Any]] = None) -> Any:
        """The answer's JSON."""
        with closing(self._connection(CALL)) as connection:
            answer = self._send(connection, operation, run, body, {})
            text = self._read(answer, operation)
        try:
            return json.loads(text)
        except ValueError as error:
            raise Unreachable(f"{self.place} answered no JSON: {error}") from error

    def text(self, operation: Operation, *, run: str) -> str:
        with closing(self._connection(CALL)) as connection:
            answer = self._send(connection, operation, run, None, {"Accept": "*/*"})
            return self._read(answer, operation).decode("utf-8", "replace")

    def stream(self, run: str, last: Optional[int]) -> Iterator[Dict[str, Any]]:
        """The run's events after number `last`, as they happen. Ends after the last of them, and raises OSError if it is cut."""
        headers = {"Accept": "text/event-stream"}
        if last is not None:
            headers[LAST_EVENT_ID] = str(last)
        with closing(self._connection(SILENCE)) as connection:
            answer = self._send(connection, STREAM, run, None, headers)
            if answer.status != STREAM.status:
                raise self._problem(answer.status, answer.read())
            data: List[str] = []
            while True:
                try:
                    line = answer.readline()
                except http.client.HTTPException as error:
                    raise OSError(str(error) or type(error).__name__) from error
                if not line:
                    raise OSError("the coordinator closed the stream")
                field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
                if field == "data":
                    data.append(value[1:] if value.startswith(" ") else value)
                elif not field and not value and data:
                    event = json.loads("\n".join(data))
                    data = []
                    yield event
                    if event.get("event") == "finished":
                        return

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._path is not None:
            connection: http.client.HTTPConnection = _UnixConnection(self._path)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, context=self._context, timeout=CONNECT)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise Unreachable(f"cannot reach the coordinator at {self.place}: {error}") from error
        connection.sock.settimeout(timeout)
        return connection

    def _send(
        self,
        connection: http.client.HTTPConnection,
        operation: Operation,
        run: str,
        body: Optional[Dict[str, Any]],
        headers: Dict[str, str],
    ) -> http.client.HTTPResponse:
        path = operation.path.replace("{run}", quote(run, safe=""))
        sent = {**self._headers, **headers}
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            try:
                connection.request(operation.method.upper(), path, body=data, headers=sent)
            except (BrokenPipeError, ConnectionResetError):
                # Whoever answers before it has read the whole body may close then: the answer is there all the same.
                pass
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.place}: {operation.method.upper()} {path}: {error}") from error

    def _read(self, answer: http.client.HTTPResponse, operation: Operation) -> bytes:
        try:
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.place}: the answer broke off: {error}") from error
        if answer.status != operation.status:
            raise self._problem(answer.status, text)
        return text

    def _problem(self, status: int, text: bytes) -> SquallError:
        try:
            problem = decode(Problem, json.loads(text))
        except (ValueError, Unreachable):
            shown = text[:200].decode("utf-8", "replace").strip()
            return Unreachable(f"{self.place} answered {status} {shown} (is this a Squall coordinator?)")
        said = "\n".join(problem.reasons)
        if problem.kind in ("invalid", "not-found"):
            return Invalid(said)
        if problem.kind in ("refused", "forbidden"):
            return Refused(said)
        return Unreachable(f"{self.place}: {said}")


def login() -> str:
    """Who says that it calls, beside a shared token."""
    return os.environ.get("USER") or os.environ.get("LOGNAME") or ""
