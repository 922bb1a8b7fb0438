"""`--bench`: how fast this machine runs ASD, against the conventional way and the matrix peak."""
