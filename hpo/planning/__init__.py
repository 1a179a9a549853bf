"""Planning: what to run and what it will cost, before anything is spent."""
