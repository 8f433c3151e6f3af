"""The checksum is zlib's, whoever computes it."""

from __future__ import annotations

import subprocess
import sys
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import disk


@given(st.binary(max_size=300), st.integers(0, 0xFFFFFFFF))
def test_it_is_the_one_of_zlib(data: bytes, before: int) -> None:
    for seen_as in (data, bytearray(data), memoryview(data)):
        assert disk.crc32(seen_as) == crc32(data)
        assert disk.crc32(seen_as, before) == crc32(data, before)


@pytest.mark.parametrize("size", [1 << 16, (1 << 20) + 7])
def test_it_is_the_one_of_zlib_for_large_values(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    assert disk.crc32(memoryview(data)[3:], 5) == crc32(memoryview(data)[3:], 5)


def test_there_is_one_without_isal() -> None:
    program = (
        "import sys; sys.modules['isal'] = None; from holdall.disk import crc32; print(crc32(b'abc', 1), crc32.__module__)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(crc32(b"abc", 1)), "zlib"]
