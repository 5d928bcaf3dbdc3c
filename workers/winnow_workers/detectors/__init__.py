"""One file per family of detectors, and what they have in common."""
