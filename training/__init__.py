"""One step of training: record, split, guess, mix, step."""
