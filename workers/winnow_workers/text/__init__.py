"""Engines that read text, and the order in which a person would read what they found."""
