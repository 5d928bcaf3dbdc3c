"""One file per operator whose predictions people can answer."""
