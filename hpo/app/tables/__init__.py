"""Parts of the table of commands that several others use, and those of clusters."""
