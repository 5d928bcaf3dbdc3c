"""How sure may one be of a prediction? From raw scores to `p_ok`, the probability that its acceptance test holds."""
