"""The text of a run's pages in the formats of libraries and archives, made from its rows alone."""
