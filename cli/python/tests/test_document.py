"""The client against the OpenAPI document of the squalld that $SQUALLD names, or of the one in PATH."""

from __future__ import annotations

import copy
import unittest
from typing import Any, Dict

from squall_client import Squall

from .document import differences


class TheDocument(unittest.TestCase):
    document: Dict[str, Any]

    @classmethod
    def setUpClass(cls) -> None:
        with Squall.ephemeral(node="here") as squall:
            cls.document = squall.openapi()

    def changed(self) -> Dict[str, Any]:
        return copy.deepcopy(self.document)

    def test_has_every_operation_parameter_and_field_that_the_client_uses(self) -> None:
        self.assertEqual(differences(self.document), [])

    def test_without_an_operation_is_told(self) -> None:
        document = self.changed()
        del document["paths"]["/v1/runs/{run}/report"]
        self.assertEqual(differences(document), ["no operation GET /v1/runs/{run}/report"])

    def test_without_a_parameter_is_told(self) -> None:
        document = self.changed()
        document["paths"]["/v1/runs/{run}/stream"]["get"]["parameters"] = []
        self.assertEqual(len(differences(document)), 2)

    def test_with_a_field_renamed_is_told(self) -> None:
        document = self.changed()
        fields = document["components"]["schemas"]["Report"]["properties"]
        fields["conclusion"] = fields.pop("verdict")
        self.assertEqual(differences(document), ["Report: no field verdict"])

    def test_with_a_field_of_another_type_is_told(self) -> None:
        document = self.changed()
        document["components"]["schemas"]["Health"]["properties"]["epoch"] = {"type": "string"}
        self.assertEqual(differences(document), ["Health/epoch: is string, and integer is read"])

    def test_with_a_new_required_field_of_a_body_is_told(self) -> None:
        document = self.changed()
        document["components"]["schemas"]["Submit"]["required"].append("ticket")
        self.assertIn("Submit: ticket is required and not sent", differences(document))

    def test_without_an_event_is_told(self) -> None:
        document = self.changed()
        branches = document["components"]["schemas"]["RunEvent"]["oneOf"]
        branches[:] = [one for one in branches if one["properties"]["event"].get("const") != "finished"]
        self.assertEqual(differences(document), ["RunEvent: no event finished"])
