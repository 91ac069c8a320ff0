"""Rasters survive the wire in every encoding; bytes that do not hold one are refused with the reason."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from adawm_planner.dims import BEV_SHAPE
from adawm_planner.observation.packing import BevEncoding, unpack_bev

RNG = np.random.default_rng(0)
BEV = RNG.integers(0, 256, BEV_SHAPE, dtype=np.uint8)
BINARY = np.asarray(RNG.integers(0, 2, BEV_SHAPE) * 255, np.uint8)
RAW = BEV.tobytes()
PACKED = zlib.compress(RAW)


@pytest.mark.parametrize(
    ("bev", "data", "encoding"),
    [
        (BEV, PACKED, BevEncoding.ZLIB),
        (BEV, RAW, BevEncoding.RAW),
        (BINARY, np.packbits(BINARY).tobytes(), BevEncoding.BITS),
    ],
)
def test_raster_survives(bev: np.ndarray, data: bytes, encoding: BevEncoding) -> None:
    back = unpack_bev(data, encoding, BEV_SHAPE)
    assert back.dtype == np.uint8 and np.array_equal(back, bev)
    assert not back.flags.writeable


@pytest.mark.parametrize(
    ("data", "encoding", "shape", "reason"),
    [
        (RAW, 0, (5, 32, 31), r"bev is \(5, 32, 31\).*must be \(5, 32, 32\)"),
        (RAW[:-1], 0, BEV_SHAPE, "5119 bytes, must hold 5120"),
        (RAW, 3, BEV_SHAPE, r"bev_encoding is 3, must be one of 0 \(raw\), 1 \(zlib\), 2 \(bits\)"),
        (b"", 1, BEV_SHAPE, "ends early, after 0 of 5120"),
        (RAW, 1, BEV_SHAPE, "no zlib stream"),
        (PACKED[:-9], 1, BEV_SHAPE, "ends early"),
        (PACKED[:-1] + bytes([PACKED[-1] ^ 1]), 1, BEV_SHAPE, "no zlib stream"),
        (PACKED + b"x", 1, BEV_SHAPE, "1 bytes after"),
        (zlib.compress(RAW[:-1]), 1, BEV_SHAPE, "5119 bytes"),
        (zlib.compress(bytes(100_000_000)), 1, BEV_SHAPE, "more than 5120 bytes"),
        (RAW, 2, BEV_SHAPE, "5120 bytes of bits, must hold 640"),
    ],
)
def test_other_bytes_are_refused_with_the_reason(
    data: bytes, encoding: int, shape: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        unpack_bev(data, encoding, shape)
