"""Write docs/spec/audit-v4.schema.json anew. Run by hand after a change of the format.

A field that is added, removed or given another meaning is a new schema version.
"""

import json
from pathlib import Path

from mlguard.audit.report.schema import json_schema

if __name__ == "__main__":
    path = Path(__file__).parents[2] / "docs/spec/audit-v4.schema.json"
    path.write_text(json.dumps(json_schema(), indent=2) + "\n")
