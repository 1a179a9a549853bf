"""Memory that trials take: the configurations that fit, as a study learns of them."""
