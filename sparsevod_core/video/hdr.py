"""Mapping of HDR video (PQ and HLG) to the range of SDR, on which detectors are trained."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

# Codes of ITU-T H.273.
_PQ, _HLG = 16, 18
_BT709, _BT2020, _P3 = 1, 9, 12

_WHITE_NITS = 203  # diffuse white in PQ (ITU-R BT.2408)
_WHITE_HLG = 0.265  # scene light of diffuse white in HLG: a signal of 75 % (ITU-R BT.2408)
_KNEE = 0.95  # highlights from here on, as a fraction of diffuse white, are compressed
_STEPS = 4095

# Linear RGB of these primaries -> linear RGB of BT.709 (ITU-R BT.2087, and likewise for P3-D65).
_TO_BT709 = {
    _BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    _P3: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}


class HdrToSdr:
    """Maps HDR pixels to SDR: diffuse white becomes about 253, mid-gray (18 %) about 118.

    Exposure, transfer curve and primaries become those of an SDR picture of the same scene;
    highlights above diffuse white are compressed. Tables make it as fast as decoding.

    Args:
        transfer: Code of the transfer curve: 16 (PQ) or 18 (HLG).
        primaries: Code of the primaries: 9 (BT.2020) or 12 (P3); others are kept.
    """

    def __init__(self, transfer: int, primaries: int) -> None:
        self._to_linear = _linear_table(transfer)
        matrix = _TO_BT709.get(primaries, np.eye(3))
        to_steps = np.array(matrix, np.float32) * _STEPS
        self._matrix = np.hstack([to_steps, np.full((3, 1), 0.5, np.float32)])  # 0.5: to round

    @classmethod
    def of(cls, decoder: VideoCodecContext) -> HdrToSdr | None:
        """Return the mapping for a stream of which a frame was decoded; None for SDR."""
        if decoder.color_trc not in (_PQ, _HLG):
            return None
        is_stated = decoder.color_primaries in (_BT709, _BT2020, _P3)
        return cls(decoder.color_trc, decoder.color_primaries if is_stated else _BT2020)

    def __call__(self, image: UInt16[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Map RGB pixels 0..65535."""
        import cv2

        linear = cv2.transform(np.take(self._to_linear, image), self._matrix)
        np.clip(linear, 0, _STEPS, out=linear)
        return np.take(_sdr_table(), linear.astype(np.uint16))


@cache
def _linear_table(transfer: int) -> Float32[np.ndarray, 65536]:
    """Return the light of each signal relative to diffuse white, highlights compressed to 1."""
    signal = np.arange(65536) / 65535
    if transfer == _PQ:  # SMPTE ST 2084
        root = signal ** (1 / 78.84375)
        nits = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (
            1 / 0.1593017578125
        )
        light = nits / _WHITE_NITS
    else:  # ARIB STD-B67
        bright = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
        light = np.where(signal <= 0.5, signal**2 / 3, bright) / _WHITE_HLG
    room = 1 - _KNEE
    compressed = 1 - room * np.exp(-(light - _KNEE) / room)
    return np.where(light <= _KNEE, light, compressed).astype(np.float32)


@cache
def _sdr_table() -> UInt8[np.ndarray, steps]:
    """Return the sRGB value 0..255 of linear light in steps from 0 to 1."""
    light = np.arange(_STEPS + 1) / _STEPS
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)
