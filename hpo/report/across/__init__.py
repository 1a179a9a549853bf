"""Report of a comparison over several tasks: tables, sentences, figures, page."""
