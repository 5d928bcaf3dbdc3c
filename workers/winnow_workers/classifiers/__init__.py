"""Classifiers of every library, and how their logits are read."""
