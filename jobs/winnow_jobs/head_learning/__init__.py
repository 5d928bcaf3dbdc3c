"""Heads learned from people's labels on stored vectors: what teaches them, how they are judged, when they are used."""
