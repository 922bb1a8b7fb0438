"""`--bench`: how fast this machine runs ASD, against the conventional way and the matrix peak."""

import sys

if sys.argv[0] == "-m":  # as a program: Python is still looking for its module, PyTorch comes next
    from utils.starting import hear_interrupts

    hear_interrupts()
