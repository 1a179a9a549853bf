"""A comparison as a page: tables, figures, HTML."""
