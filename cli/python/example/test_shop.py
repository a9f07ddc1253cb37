"""Resilience tests of the small shop of docs/ci/example: haproxy on port 8080 before two nginx on 8081 and 8082.

    bash docs/ci/example/services.bash /tmp/shop
    pip install ./cli/python pytest
    sudo --preserve-env=PATH pytest cli/python/example
"""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Iterator

import pytest

from squall_client import Fault, NotHeld, Refused, Squall

SHOP = "http://127.0.0.1:8080/"
CHAOS = Path(__file__).parents[3] / "docs/ci/example/chaos"
ANSWERS = {
    "name": "shop",
    "http": {"url": SHOP, "timeout": "2s"},
    "every": "50ms",
    "tolerance": {"success": ">= 95%", "minSamples": 10},
}


@pytest.fixture(scope="session")
def squall() -> Iterator[Squall]:
    with Squall.ephemeral() as squall:
        squall.steady_state(ANSWERS).assert_held()
        yield squall


def served(url: str = SHOP) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_customers_are_served_while_one_web_server_hangs(squall: Squall) -> None:
    with squall.inject(Fault("process-pause", processes={"port": 8081}, lasting="30s")) as hang:
        assert not served("http://127.0.0.1:8081/")
        assert all(served() for _ in range(20))
    hang.revert().assert_bites()
    assert served("http://127.0.0.1:8081/")


def test_nobody_is_served_while_both_hang(squall: Squall) -> None:
    first = squall.inject(Fault("process-pause", processes={"port": 8081}))
    with squall.inject(Fault("process-pause", processes={"port": 8082})):
        assert not served()
    first.revert()
    squall.steady_state(ANSWERS).assert_held()


def test_the_experiment_of_the_gate_holds(squall: Squall) -> None:
    report = squall.run(CHAOS / "web-hangs.yaml")
    report.assert_held()
    during = report.probe("shop").phase("during")
    assert during is not None and during.samples >= 20


def test_what_means_nobody_is_refused_and_says_why(squall: Squall) -> None:
    with pytest.raises(Refused, match="nothing listens on TCP port 9"):
        squall.inject(Fault("process-pause", processes={"port": 9}))


def test_a_promise_that_is_not_kept_fails_with_its_reasons(squall: Squall) -> None:
    too_much = {**ANSWERS, "tolerance": {"p50": "<= 1us", "minSamples": 5}}
    with pytest.raises(NotHeld, match="inconclusive"):
        squall.steady_state(too_much).assert_held()
