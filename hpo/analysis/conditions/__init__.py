"""Conditions under which compared studies ran: their plan, their packages, their devices. Pure."""
