"""Pictures as files have them: read whole, written with all they carried."""
