"""The life of a run: its folder, checkpoints, progress, measurements and product."""
