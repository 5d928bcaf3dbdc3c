"""Which images are like which? Spaces of comparable vectors, and what is searched for in them."""
