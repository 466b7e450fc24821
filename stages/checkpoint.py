"""What is in place of a checkpoint of checkpoints.yaml: checkpoints/<name>.json, the same bytes for the same files.

A file that is missing is no failure: arms that need it are left out further on. What an earlier look has found is kept then:
models trained from files that are elsewhere stay valid here.
"""

import json
import sys
from pathlib import Path

from auscult.encoders.checkpoints import status
from auscult.errors import run
from auscult.files import atomic_file


def main() -> None:
    found = status(sys.argv[1])
    path = Path("checkpoints") / f"{found.name}.json"
    if found.state == "missing" and path.is_file() and json.loads(path.read_text())["sha256"]:
        print(f"{found.reason}; arms already trained from it are kept", file=sys.stderr)
        return
    state = "in place" if found.usable else found.state  # a digest that becomes known later changes no result
    facts = {"name": found.name, "state": state, "sha256": dict(sorted(found.sha256.items()))}
    with atomic_file(path) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")
    print(found.reason or f"checkpoint `{found.name}` is present", file=sys.stderr)


if __name__ == "__main__":
    run(main)
