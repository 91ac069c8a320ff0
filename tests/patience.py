"""How long tests wait for what must come."""

HANG_S = 180.0
"""Ends a test that hangs, and nothing else [s]: on a busy machine the imports of one process alone take 20 s."""
