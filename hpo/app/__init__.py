"""The command line and MLproject: words become a study, a suite or a comparison."""
