from __future__ import annotations

import json

from jsonschema import Draft202012Validator

from fedward.report.schema import SCHEMA_FILE, schema_text


def test_the_published_schema_is_the_one_that_reports_follow() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "python -m fedward.report.schema prints it anew"


def test_it_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(json.loads(schema_text()))
