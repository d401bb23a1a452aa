"""From a name on the command line to pictures in memory."""
