"""A part of an archive's scores: a Parquet file whose name and bytes follow from its recordings and the bundle."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from auscult.cluster.archive import Clip
from auscult.errors import AuscultError

Row = Mapping[str, Any]


def part_name(clips: Sequence[Clip], digest: str) -> str:
    """Of the part that holds these recordings, scored by the bundle of this digest."""
    total = hashlib.blake2b(digest.encode(), digest_size=10)
    for clip in clips:
        total.update(clip.key)
    return f"part-{total.hexdigest()}.parquet"


def part_bytes(rows: Sequence[Row], facts: Row) -> bytes:
    """A part: a row per recording. Equal rows make equal bytes. `facts` and the verdicts' counts stand in its footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, count = pa.string(), pa.float64(), pa.int64()
    schema = pa.schema(
        {
            "file": text, "seconds": number, "score": number, "p_value": number, "anomalous": pa.bool_(), "start": number,
            "end": number, "windows": count, "above": count, "warning": text, "verdict": text, "expected": number,
            "higher": count, "threshold": number, "size": count, "state": text, "key": pa.binary(16),
        },
        metadata={"auscult": json.dumps({**facts, "verdicts": verdicts(rows)}, sort_keys=True)},
    )  # fmt: skip
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), out, compression="zstd", write_page_checksum=True)
    return out.getvalue()


def verdicts(rows: Sequence[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row["verdict"] for row in rows).items()))


def part_facts(content: bytes, where: str) -> dict[str, Any] | None:
    """Rows, bytes, verdicts and keys (16 bytes each, joined) of a part, every page compared with its checksum; None = it is not
    whole.

    Raises:
        AuscultError: it is whole and not ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True).read(use_threads=False)
    except (pa.ArrowException, OSError):
        return None
    facts = (table.schema.metadata or {}).get(b"auscult")
    if facts is None:
        what, fix = "this was not written by auscult, and has the name of a part", "move it away, or give another --out"
        raise AuscultError(what, where, fix)
    keys = b"".join(table["key"].to_pylist())
    return {"rows": len(table), "bytes": len(content), "verdicts": json.loads(facts)["verdicts"], "keys": keys}
