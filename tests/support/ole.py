"""A writer of OLE2 compound files, as small as one can be, and of Xradia files with it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

SECTOR, MINI, CUTOFF = 512, 64, 4096
FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
CODES = {"uint8": 3, "uint16": 5, "int32": 6, "float32": 10}


def write_ole(path: Path, streams: dict[str, bytes]) -> Path:
    """Write streams by their names, such as ``ImageInfo/Angles``; at most one storage deep."""
    sectors: list[bytes] = []
    chains: list[int] = []
    mini, mini_chain = bytearray(), []

    def store(data: bytes) -> int:
        if not data:
            return END
        first, count = len(sectors), -(-len(data) // SECTOR)
        padded = data.ljust(count * SECTOR, b"\0")
        sectors.extend(padded[at * SECTOR:(at + 1) * SECTOR] for at in range(count))
        chains.extend([*range(first + 1, first + count), END])
        return first

    def store_small(data: bytes) -> int:
        if not data:
            return END
        first, count = len(mini_chain), -(-len(data) // MINI)
        mini.extend(data.ljust(count * MINI, b"\0"))
        mini_chain.extend([*range(first + 1, first + count), END])
        return first

    storages = sorted({name.partition("/")[0] for name in streams if "/" in name})
    entries: list[dict[str, Any]] = [{"name": "Root Entry", "kind": 5}]
    groups: dict[str, list[int]] = {"": []}
    for storage in storages:
        groups[storage] = []
        groups[""].append(len(entries))
        entries.append({"name": storage, "kind": 1})
    for name, data in streams.items():
        storage, _, leaf = name.rpartition("/")
        groups[storage].append(len(entries))
        start = store(data) if len(data) >= CUTOFF else store_small(data)
        entries.append({"name": leaf, "kind": 2, "start": start, "size": len(data)})
    for storage, members in groups.items():   # a tree that is a list: every entry has a right neighbour only
        owner = 0 if not storage else 1 + storages.index(storage)
        entries[owner]["child"] = members[0] if members else FREE
        for one, following in zip(members, [*members[1:], FREE], strict=True):
            entries[one]["right"] = following
    entries[0] |= {"start": store(bytes(mini)), "size": len(mini)}
    minifat = np.array(mini_chain, "<u4").tobytes()
    first_minifat = store(minifat + b"\xff" * (-len(minifat) % SECTOR))
    directory = store(b"".join(map(_entry, entries)))
    blocks = 1
    while blocks * (SECTOR // 4) < len(sectors) + blocks:
        blocks += 1
    table = np.full(blocks * (SECTOR // 4), FREE, "<u4")
    table[:len(chains)] = chains
    table[len(sectors):len(sectors) + blocks] = FAT
    where = [*range(len(sectors), len(sectors) + blocks), *[FREE] * (109 - blocks)]
    header = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII109I", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6, 0, blocks, directory,
        0, CUTOFF, first_minifat, -(-len(minifat) // SECTOR), END, 0, *where)
    path.write_bytes(header + b"".join(sectors) + table.tobytes())
    return path


def _entry(entry: dict[str, Any]) -> bytes:
    name = entry["name"].encode("utf-16-le") + b"\0\0"
    return struct.pack("<64sHBBIII16x4x16xIQ", name, len(name), entry["kind"], 1, FREE, entry.get("right", FREE),
                       entry.get("child", FREE), entry.get("start", 0), entry.get("size", 0))


def xradia_streams(pictures: np.ndarray, **others: bytes | None) -> dict[str, bytes]:
    """Streams of an Xradia file; `others` are of ``ImageInfo`` unless they name a storage; None leaves one out."""
    count, rows, columns = pictures.shape
    streams = {f"ImageInfo/{name}": struct.pack("<i", value) for name, value in {
        "ImageHeight": rows, "ImageWidth": columns, "NoOfImages": count, "ImagesTaken": count,
        "DataType": CODES[pictures.dtype.name]}.items()}
    for number, picture in enumerate(pictures):
        streams[f"ImageData{number // 100 + 1}/Image{number + 1}"] = picture.tobytes()
    for name, data in others.items():
        full = name if "/" in name else f"ImageInfo/{name}"
        if data is None:
            streams.pop(full, None)
        else:
            streams[full] = data
    return streams


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()
