"""The parts of `tinct export` and `tinct embed`: each format, and its proof."""
