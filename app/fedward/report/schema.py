"""The JSON Schema of ``report.json``, published as ``report.schema.json`` beside this module.

``python -m fedward.report.schema > app/fedward/report/report.schema.json`` writes it anew after a change.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fedward.report.document import Report

SCHEMA_FILE = Path(__file__).with_name("report.schema.json")


def schema_text() -> str:
    """Give the schema of a written report as JSON text."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:fedward:report:1",
        **Report.model_json_schema(mode="serialization"),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
