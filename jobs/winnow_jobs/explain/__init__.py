"""Where what is known of one item comes from."""
