"""Bytes of adawm_msgs/Experience in, BEV raster out, every claim of the sender checked.

The planner sends its raster raw: 5 kB at 5 Hz are nothing to a network, and compressing them would cost each decision's
tick 0.06 ms more (`adawm benchmark experience`). Recordings and other senders may compress.
"""

from __future__ import annotations

import zlib
from enum import IntEnum

import numpy as np

from adawm_planner.data_types import UInt8
from adawm_planner.dims import BEV_SHAPE

_BYTES = int(np.prod(BEV_SHAPE))


class BevEncoding(IntEnum):
    """How a message holds the raster; values are adawm_msgs/Experience's."""

    RAW = 0
    ZLIB = 1
    BITS = 2  # one bit per cell, for senders whose rasters hold 0 and 255 alone; ours are antialiased


def unpack_bev(data: bytes, encoding: int, shape: tuple[int, ...]) -> UInt8:
    """Read a raster; the result is read-only.

    Args:
        data: the message's bytes.
        encoding: one of BevEncoding.
        shape: (C, H, W) that the message claims.

    Raises:
        ValueError: the shape is not dims.BEV_SHAPE, the encoding is unknown, or the bytes do not hold that shape.
    """
    if tuple(shape) != BEV_SHAPE:
        raise ValueError(f"bev is {tuple(shape)} (channels, height, width), must be {BEV_SHAPE}")
    if encoding == BevEncoding.RAW:
        raw = data
    elif encoding == BevEncoding.ZLIB:
        raw = _inflate(data)
    elif encoding == BevEncoding.BITS:
        raw = _unpack_bits(data)
    else:
        known = ", ".join(f"{one.value} ({one.name.lower()})" for one in BevEncoding)
        raise ValueError(f"bev_encoding is {encoding}, must be one of {known}")
    if len(raw) != _BYTES:
        raise ValueError(f"bev holds {len(raw)} bytes, must hold {_BYTES}")
    return np.frombuffer(raw, np.uint8).reshape(BEV_SHAPE)


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, _BYTES + 1)  # no more than shows that it is too much
    except zlib.error as error:
        raise ValueError(f"bev is no zlib stream ({error})") from error
    if len(raw) > _BYTES:
        raise ValueError(f"bev holds more than {_BYTES} bytes, must hold {_BYTES}")
    if not stream.eof:
        raise ValueError(f"bev's zlib stream ends early, after {len(raw)} of {_BYTES} bytes")
    if stream.unused_data:
        raise ValueError(f"bev has {len(stream.unused_data)} bytes after its zlib stream, must have 0")
    return raw


def _unpack_bits(data: bytes) -> bytes:
    expected = (_BYTES + 7) // 8
    if len(data) != expected:
        raise ValueError(f"bev holds {len(data)} bytes of bits, must hold {expected}")
    return bytes(np.unpackbits(np.frombuffer(data, np.uint8), count=_BYTES) * np.uint8(255))
