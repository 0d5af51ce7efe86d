"""The number of rows in a Parquet file's footer: as much of Thrift's compact protocol as that takes.

Source: the Parquet format's FileMetaData (field 1 version, 2 schema, 3 num_rows) and the compact protocol's spec.
Pure, over bytes; what does not parse has no rows.
"""

from typing import Final

MAGIC: Final = b"PAR1"
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_NUM_ROWS: Final = 3
_MOST_DEEP: Final = 16


def parquet_rows(end: bytes) -> int | None:
    """The rows that the footer in the file's last bytes tells; None where they hold no whole footer."""
    if len(end) < 12 or not end.endswith(MAGIC):
        return None
    length = int.from_bytes(end[-8:-4], "little")
    if not 0 < length <= len(end) - 8:
        return None
    try:
        rows = _Reader(end[-8 - length : -8]).integer_field(_NUM_ROWS)
    except (IndexError, ValueError):
        return None
    return rows if rows is not None and 0 <= rows < 1 << 60 else None


class _Reader:
    """Reads a struct and skips what is not asked for. Raises IndexError or ValueError for what is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def integer_field(self, wanted: int) -> int | None:
        """An integer field of the struct that begins here."""
        field = 0
        while (kind := self._byte()) != 0:
            field = field + (kind >> 4) if kind >> 4 else self._zigzag()
            if field == wanted:
                return self._zigzag() if kind & 15 in (4, 5, 6) else None
            self._skip(kind & 15, 0)
        return None

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("a number without an end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, deep: int) -> None:
        if deep > _MOST_DEEP:
            raise ValueError("nested too deeply")
        if kind in (_TRUE, _FALSE):
            return
        if kind in (_BYTE, _DOUBLE, _BINARY):
            length = {_BYTE: 1, _DOUBLE: 8}.get(kind) or self._varint()
            self._at += length
        elif kind in (4, 5, 6):
            self._varint()
        elif kind in (_LIST, _SET):
            self._skip_list(deep)
        elif kind == _MAP:
            self._skip_map(deep)
        elif kind == _STRUCT:
            while (inner := self._byte()) != 0:
                if not inner >> 4:
                    self._zigzag()
                self._skip(inner & 15, deep + 1)
        else:
            raise ValueError("no such type")

    def _skip_list(self, deep: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        self._skip_items([head & 15], count, deep)

    def _skip_map(self, deep: int) -> None:
        count = self._varint()
        if count:
            kinds = self._byte()
            self._skip_items([kinds >> 4, kinds & 15], count, deep)

    def _skip_items(self, kinds: list[int], count: int, deep: int) -> None:
        if count > len(self._data):
            raise ValueError("more items than bytes")
        for _ in range(count):
            for kind in kinds:
                if kind in (_TRUE, _FALSE):  # in a list a yes or no takes a byte
                    self._at += 1
                else:
                    self._skip(kind, deep + 1)
