"""Measures: pure functions over arrays and records, shared by the report, `evaluate` and the learner."""
