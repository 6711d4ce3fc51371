"""Sizes that the chunks of WAV, AVI and AIFF claim, checked against the file before FFmpeg makes room for them.

A chunk of text that claims two gigabytes makes FFmpeg take two gigabytes, however small the file is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, Literal

Order = Literal["little", "big"]
BYTE_ORDERS: dict[bytes, Order] = {
    b"RIFF": "little",
    b"RF64": "little",
    b"RIFX": "big",
    b"FORM": "big",
}
# What holds sound and pictures is read piece by piece, and may claim anything: recorders that were stopped do.
MEDIA_CHUNKS = {b"data", b"SSND", b"movi"}
HEADER, MOST_CHUNKS = 8, 10_000  # bytes before a chunk; as many are looked at


def oversized_chunk(path: str) -> str | None:
    """The first chunk that claims more than the file has, in words; None where all fit, or there are none."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        order = BYTE_ORDERS.get(file.read(4))
        if order is None:
            return None
        for number, (name, claimed, begin) in enumerate(_chunks(file, 12, size, order)):
            if begin + claimed > size + 1:  # the byte that fills up the last chunk may be missing
                return f"its part {name.decode('ascii', 'replace')!r} claims {claimed} bytes of a file of {size}"
            if number > MOST_CHUNKS:
                break
    return None


def _chunks(file: BinaryIO, place: int, end: int, order: Order) -> Iterator[tuple[bytes, int, int]]:
    """Name, claimed size and begin of the chunks before `end`, and of those in lists, up to the first of media."""
    while place + HEADER <= end:
        file.seek(place)
        header = file.read(HEADER)
        name, claimed, begin = header[:4], int.from_bytes(header[4:], order), place + HEADER
        if name in MEDIA_CHUNKS:
            place = begin + claimed + claimed % 2
            continue
        yield name, claimed, begin
        if name == b"LIST":
            if file.read(4) == b"movi":
                return
            yield from _chunks(file, begin + 4, min(end, begin + claimed), order)
        place = begin + claimed + claimed % 2
