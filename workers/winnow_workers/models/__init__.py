"""Weights by digest: model files, architectures and where they come from."""
