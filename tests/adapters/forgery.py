"""`benchmarks.forgery` with the key that the tests' planners trust."""

from __future__ import annotations

from functools import partial

from benchmarks import forgery
from tests.adapters.conftest import KEY

signed_again = partial(forgery.signed_again, key=KEY)
with_manifest_bytes = partial(forgery.with_manifest_bytes, key=KEY)
with_factors = partial(forgery.with_factors, key=KEY)
with_tensors = partial(forgery.with_tensors, key=KEY)
