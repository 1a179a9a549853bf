"""Tasks: how a record becomes tokens, and how an answer is scored."""
