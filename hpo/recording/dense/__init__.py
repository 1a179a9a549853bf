"""The second sample of a bank: configurations where searchers go."""
