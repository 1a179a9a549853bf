"""The model of a trial: read, kept between trials, updated by LoRA, shared out among ranks, and at rest."""
