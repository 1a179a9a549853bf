"""Pure parts of a study: budget, results, ledger. Imports neither Ray nor MLflow nor rich."""
