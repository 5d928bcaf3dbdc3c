"""Predictions against what is true: reading the truth, pairing it, and one record of numbers per task."""
