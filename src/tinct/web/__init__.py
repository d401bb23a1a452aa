"""The parts of `tinct serve`: its page, its jobs, its guards."""
