"""Reads an archive with fastavro, which knows nothing of Solyx, and prints one JSON line per file."""

import json
import pathlib
import sys

import fastavro

root = pathlib.Path(sys.argv[1])
for path in sorted(root.rglob("*.avro")):
    types, ids, ordinals, raw = {}, [], [], 0
    with path.open("rb") as file:
        for row in fastavro.reader(file, return_record_name=True):
            ordinals.append(row["ordinal"])
            body = row["body"]
            if isinstance(body, bytes):
                raw += 1
                continue
            name, event = body
            types[name] = types.get(name, 0) + 1
            ids.append(event["event_id"] if "event_id" in event else "/".join(
                str(event[part]) for part in ("cell", "epoch", "term", "index")))
    print(json.dumps({
        "path": path.relative_to(root).as_posix(),
        "records": len(ordinals),
        "first": ordinals[0],
        "last": ordinals[-1],
        "types": types,
        "raw": raw,
        "ids": ids,
    }))
