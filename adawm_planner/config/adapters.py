"""What an adapter may be at most before the planner refuses it, with units."""

from __future__ import annotations

from dataclasses import dataclass

from adawm_planner.config.checks import above


@dataclass(frozen=True)
class AdapterLimits:
    """Bounds of a bundle; a value exactly at a bound is accepted."""

    largest_file: int = 8 * 2**20  # bytes; the base model's factors at rank 32 are 0.4 MB
    largest_text: int = 256 * 2**10  # bytes, of each JSON file
    rank: int = 64
    entry: float = 100.0  # absolute value of one number of a factor
    norm_ratio: float = 2.0  # |A B| / |W| of one layer, Frobenius; 12 rounds of adaptation reach 0.9
    counter_step: int = 1_000_000  # above the highest counter seen; a larger step would lock later updates out
    clock_tolerance_s: int = 300  # s, by which the clocks of signer and vehicle may differ
    probe_tolerance: float = 1e-3  # absolute, of each output; onnxruntime's builds differ by about 1e-5
    require_expiry: bool = False  # refuse bundles that never expire
    require_vehicle: bool = False  # refuse bundles that name no vehicle

    def __post_init__(self) -> None:
        above("adapters", self, 0, "largest_file", "largest_text", "rank", "entry", "norm_ratio", "counter_step")
        above("adapters", self, 0, "probe_tolerance")
        above("adapters", self, -1, "clock_tolerance_s")
