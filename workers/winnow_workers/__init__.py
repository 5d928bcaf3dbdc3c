"""What happens to pixels: decoding, operators, models and the pipeline inside one actor process."""
