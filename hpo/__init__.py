"""HOW it is searched: methods, studies, ledger, tracking."""
