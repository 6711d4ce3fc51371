"""Sizes that the parts of a file claim, checked against the file before FFmpeg allocates memory for them.

A chunk of text that claims two gigabytes makes FFmpeg take two gigabytes, however small the file is; so do a table of
a hundred million samples in an MP4 of a few kilobytes, and a tag of zeros that was compressed a thousandfold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, Literal

Order = Literal["little", "big"]
BYTE_ORDERS: dict[bytes, Order] = {
    b"RIFF": "little",
    b"RF64": "little",
    b"RIFX": "big",
    b"FORM": "big",
}
# Chunks of sound and pictures are read piecewise, and may claim any size, as those of interrupted recordings do.
MEDIA_CHUNKS = {b"data", b"SSND", b"movi"}
HEADER, MOST_CHUNKS = 8, 10_000  # bytes before a chunk; as many are looked at
# Boxes of MP4 and MOV that hold others, and those that count samples: bytes before their number.
HOLDERS = {b"moov", b"moof", b"trak", b"traf", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"mvex", b"udta", b"wide"}
COUNTS = {b"stsz": 8, b"stz2": 8, b"trun": 4}
PROTECTED = {b"encv", b"enca", b"drmi", b"drms"}  # what boxes `stsd` name in the place of a codec
PACKED = {b"cmvd": 0}  # a header compressed by zlib: bytes before the number of those that it becomes
# A sample takes a byte or more, but some old sounds count decoded samples; small files are not checked.
SAMPLES_A_BYTE, ANY_SAMPLES = 8, 1_000_000
MOST_UNPACKED = 1 << 26  # bytes that all compressed parts together may claim
TAG, FRAME = re.compile(rb"ID3[\2-\4]"), re.compile(rb"[A-Z0-9]{4}")
TAG_HEADER = 10  # bytes, of a frame too
LOOKED_AT = 1 << 20  # bytes from the start on in which tags are looked for; each is read as far as it goes


def oversized_chunk(path: str) -> str | None:
    """The first part that claims more than the file has, in words; None where all fit, or there are none."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        return _large_chunk(file, size) or _many_samples(file, size) or _packed_tags(file, size)


def is_protected(path: str) -> bool:
    """Whether an MP4 says that its picture or sound is encrypted (DRM)."""
    with open(path, "rb") as file:
        for name, begin in islice(_boxes(file, 0, os.path.getsize(path)), MOST_CHUNKS):
            file.seek(begin + 12)  # after the version, the number of entries, and the size of the first
            if name == b"stsd" and file.read(4) in PROTECTED:
                return True
    return False


def _large_chunk(file: BinaryIO, size: int) -> str | None:
    """Chunks of WAV, AVI and AIFF."""
    order = BYTE_ORDERS.get(file.read(4))
    if order is None:
        return None
    for name, claimed, begin in islice(_chunks(file, 12, size, order), MOST_CHUNKS):
        if begin + claimed > size + 1:  # the byte that fills up the last chunk may be missing
            return _claim(name, f"{claimed} bytes", size)
    return None


def _chunks(file: BinaryIO, place: int, end: int, order: Order) -> Iterator[tuple[bytes, int, int]]:
    """Name, claimed size and begin of the chunks before `end`, and of those in lists, up to the first of media."""
    while place + HEADER <= end:
        file.seek(place)
        header = file.read(HEADER)
        name, claimed, begin = header[:4], int.from_bytes(header[4:], order), place + HEADER
        place = begin + claimed + claimed % 2
        if name == b"LIST" and file.read(4) in MEDIA_CHUNKS:
            return
        if name not in MEDIA_CHUNKS:
            yield name, claimed, begin
        if name == b"LIST":
            yield from _chunks(file, begin + 4, min(end, begin + claimed), order)


def _many_samples(file: BinaryIO, size: int) -> str | None:
    """Tables of samples in MP4 and MOV, which need no byte a sample where all have one size."""
    samples = 0
    for name, begin in islice(_boxes(file, 0, size), MOST_CHUNKS):
        file.seek(begin + (COUNTS | PACKED).get(name, 0))
        number = int.from_bytes(file.read(4), "big")
        samples += number if name in COUNTS else 0
        if samples > SAMPLES_A_BYTE * size + ANY_SAMPLES:
            return _claim(name, f"{samples} samples", size)
        if name in PACKED and number > MOST_UNPACKED:
            return _claim(name, f"{number} bytes", size)
    return None


def _boxes(file: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Name and begin of the boxes before `end`, and of those in them."""
    while place + HEADER <= end:
        file.seek(place)
        header = file.read(2 * HEADER)
        length, name, begin = int.from_bytes(header[:4], "big"), header[4:8], place + HEADER
        if length == 1:
            length, begin = int.from_bytes(header[8:], "big"), begin + HEADER
        place += length or end - place  # without a length it goes to the end
        if place < begin:
            return
        yield name, begin
        if name in HOLDERS or name == b"cmov":
            yield from _boxes(file, begin, min(end, place))


def _packed_tags(file: BinaryIO, size: int) -> str | None:
    """ID3 tags, at the start or in a chunk, whose frames are compressed."""
    file.seek(0)
    unpacked = 0
    for tag in islice(TAG.finditer(file.read(LOOKED_AT)), MOST_CHUNKS):
        file.seek(tag.start())
        header = file.read(TAG_HEADER)
        unpacked += _unpacked_size(header + file.read(_syncsafe(header[6:])))
    return _claim(b"ID3", f"{unpacked} bytes", size) if unpacked > MOST_UNPACKED else None


def _unpacked_size(tag: bytes) -> int:
    """What the compressed frames of an ID3 tag claim to become, of all places where FFmpeg may see one begin."""
    places, seen, claimed = {TAG_HEADER}, set[int](), 0
    if tag[5] & 64:  # a further header, whose length counts itself in version 4
        length = tag[TAG_HEADER : TAG_HEADER + 4]
        places = {TAG_HEADER + _syncsafe(length) if tag[3] == 4 else TAG_HEADER + 4 + int.from_bytes(length)}
    while places and len(seen) < MOST_CHUNKS:
        place = places.pop()
        seen.add(place)
        frame = tag[place : place + TAG_HEADER + 6]
        if len(frame) == TAG_HEADER + 6:
            packed = frame[9] & 9 == 9 and frame[14] & 15 == 8 and int.from_bytes(frame[14:]) % 31 == 0  # by zlib
            claimed += int.from_bytes(frame[10:14]) if packed else 0
            places |= _next_frames(tag, place) - seen
    return claimed


def _next_frames(tag: bytes, place: int) -> set[int]:
    """Where the frame after the one at a place begins; some write version 4 with the lengths of version 3."""
    length, content = tag[place + 4 : place + 8], place + TAG_HEADER
    plain, syncsafe = content + int.from_bytes(length), content + _syncsafe(length)
    if tag[3] < 4:
        return {plain}
    return {syncsafe, plain} if FRAME.match(tag, plain) else {syncsafe}


def _syncsafe(field: bytes) -> int:
    """A length that takes 7 bits of each of its four bytes."""
    return sum((byte & 127) << shift for byte, shift in zip(field, (21, 14, 7, 0), strict=False))


def _claim(name: bytes, claimed: str, size: int) -> str:
    return f"its part {name.decode('ascii', 'replace')!r} claims {claimed} of a file of {size} bytes"
