"""How threads wait for each other; to be imported before PyTorch, which reads it at its start.

The OpenMP of PyTorch's wheels lets a thread that waits spin for 300,000 turns, some 5 to 15 ms. On
cores that other programs use, too, the thread that is waited for may not be running at all, and
spinning keeps it from running. A short spin still bridges the gaps between the operations of a
step; after it the thread sleeps. No bit of a result depends on it.
"""

from __future__ import annotations

import os

SPINS = 10_000  # turns, about half a millisecond
SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # whoever sets one of them knows what they want

if not any(name in os.environ for name in SETTINGS):
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
