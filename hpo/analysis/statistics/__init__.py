"""Statistics of scores by block: estimates, exact tests, verdicts. Pure; nothing here knows studies."""
