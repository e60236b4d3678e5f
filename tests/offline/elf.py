"""As much of ELF64 as it takes to read what GPU compilers write: sections, and symbols that nobody defined."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SYMTAB, _NOBITS = 2, 8


def _sections(image: bytes) -> list[tuple[str, int, bytes, int]]:
    if image[:5] != b"\x7fELF\x02":
        raise ValueError(f"not an ELF64 file: it starts with {image[:5]!r}")
    (table,) = struct.unpack_from("<Q", image, 40)
    size, count, names_at = struct.unpack_from("<HHH", image, 58)
    heads = [struct.unpack_from("<IIQQQQII", image, table + i * size) for i in range(count)]
    bodies = [b"" if h[1] == _NOBITS else image[h[4] : h[4] + h[5]] for h in heads]
    return [(_text(bodies[names_at], h[0]), h[1], body, h[6]) for h, body in zip(heads, bodies, strict=True)]


def _text(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()


def section(image: bytes, name: str) -> bytes:
    """Return the contents of a section; KeyError if there is none."""
    for found, _, body, _ in _sections(image):
        if found == name:
            return body
    raise KeyError(name)


def undefined(image: bytes) -> Iterator[str]:
    """Yield the names of symbols that are used but defined nowhere."""
    sections = _sections(image)
    for _, kind, body, link in sections:
        if kind == _SYMTAB:
            for name, _, _, index in struct.iter_unpack("<IBBH16x", body):
                if name and not index:
                    yield _text(sections[link][2], name)
