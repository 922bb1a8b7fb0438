"""What belongs to no domain: command line, files, device, checkpoints, measuring."""
